import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { readTask } from "../../src/work/documents/task.ts";
import { readWorkload } from "../../src/work/documents/workload.ts";
import { readYaml } from "../../src/work-service/documents.ts";
import { TASK_SETTINGS, WORKLOAD_SETTINGS } from "./fixtures.ts";

const FOLDER = new URL("../../templates", import.meta.url).pathname;
const FILES = readdirSync(FOLDER);

describe("the templates", () => {
  test.each(FILES)("%s is read without a warning, and says which settings it needs", (file) => {
    const text = readFileSync(join(FOLDER, file), "utf8");
    const document = readYaml(text) as { kind: string };
    const draft =
      document.kind === "Service"
        ? readWorkload(document as never, WORKLOAD_SETTINGS)
        : readTask(document as never, TASK_SETTINGS);
    expect(draft.warnings).toEqual([]);
    expect(draft.spec?.resources.gpu?.count).toBeGreaterThan(0);
  });

  test("there are the seeds' two and five of ours", () => {
    expect(FILES).toHaveLength(7);
  });
});

describe("YAML that is sent", () => {
  test.each([
    ["duplicate keys", "a: 1\na: 2"],
    ["tags", "a: !!js/function x"],
    ["a stop in the middle", "a: ["],
    ["too many aliases", `a: &a [${"x,".repeat(9)}x]\nb: [${"*a,".repeat(200)}*a]`],
    ["a tower of lists", "[".repeat(20_000)],
    ["levels without end", `${"{a: ".repeat(80)}1${"}".repeat(80)}`],
  ])("with %s is refused with 400, and nothing of it is repeated", (_what, text) => {
    expect(() => readYaml(text)).toThrowError(expect.objectContaining({ code: "malformed-yaml" }));
  });

  test("keeps a key called __proto__ as a key", () => {
    const value = readYaml("__proto__: {polluted: true}") as object;
    expect(Object.keys(value)).toEqual(["__proto__"]);
    expect(({} as { polluted?: boolean }).polluted).toBeUndefined();
  });
});
