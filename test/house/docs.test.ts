/** That what is written about the house for those who change it is so. */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { layOut, reduced } from "./layout.ts";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const read = (path: string) => readFileSync(join(ROOT, path), "utf8");

const FOLDERS = "src|test|docs|scripts|bench|deploy";
const PATH = new RegExp(`\`((?:${FOLDERS})/[\\w./-]+)\``, "g");
const NAME_IN_FILE = new RegExp(`\`([A-Za-z_]\\w*)\` in\\s\`((?:${FOLDERS})/[\\w./-]+)\``, "g");

/** What a page names that is not there. */
function untrue(text: string): string[] {
  const missing = [...text.matchAll(PATH)].map(([, path = ""]) => path).filter((path) => !existsSync(join(ROOT, path)));
  const unknown = [...text.matchAll(NAME_IN_FILE)].flatMap(([, name = "", path = ""]) =>
    existsSync(join(ROOT, path)) && !new RegExp(`\\b(function|class|const|interface|type) ${name}\\b`).test(read(path))
      ? [`${name} in ${path}`]
      : [],
  );
  return [...missing, ...unknown];
}

test.each(["docs/architecture.md", "CONTRIBUTING.md", "test/README.md"])(
  "%s names files and names that are there",
  (page) => {
    const text = read(page);
    expect([...text.matchAll(PATH)].length).toBeGreaterThan(5);
    expect(untrue(text)).toEqual([]);
  },
);

test("a file or a name that is not there is found out, over a line's end too", () => {
  expect(untrue("`decide` in\n`src/core/decisions/decide.ts`, `src/core/`, `npm test`")).toEqual([]);
  expect(untrue("`src/core/decide.ts`")).toEqual(["src/core/decide.ts"]);
  expect(untrue("`dice` in `src/core/decisions/decide.ts`")).toEqual(["dice in src/core/decisions/decide.ts"]);
});

describe("the layout", () => {
  const edges = [
    { from: "a", to: "b" },
    { from: "b", to: "c" },
    { from: "a", to: "c" },
    { from: "a", to: "d" },
  ];

  test("leaves out an arrow that follows from others, and no other", () => {
    expect(reduced(edges)).toEqual([edges[0], edges[1], edges[3]]);
  });

  test("puts each above what it leads to, and no two into one place", () => {
    const { nodes, lines } = layOut(["a", "b", "c", "d"], edges, { width: 10, rowHeight: 10 });
    const y = (name: string) => nodes.get(name)?.y ?? Number.NaN;
    for (const { from, to } of edges) expect(y(from)).toBeLessThan(y(to));
    expect(new Set([...nodes.values()].map((point) => `${point.x} ${point.y}`)).size).toBe(4);
    // The long arrow has a point in the row that it passes, beside the box there.
    expect(lines.map((line) => line.length)).toEqual([2, 2, 3, 3]);
  });
});
