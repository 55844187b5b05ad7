import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { Removal } from "../../src/worker/containers.ts";
import { until } from "./site.ts";

function order(remove: readonly string[] | undefined, env: Readonly<Record<string, string>> = {}) {
  return { run: "run-1", env: { PATH: process.env.PATH ?? "", ...env }, ...(remove && { remove }) };
}

test("a run without a container has nothing to remove", () => {
  expect(new Removal(order(undefined)).isDone()).toBe(true);
});

test("an engine that says no is asked again, as nobody that bears the run's mark; at some time it is left at that", async () => {
  const folder = mkdtempSync(join(tmpdir(), "gpuo-removal-"));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  const asked = join(folder, "asked");
  const script = (last: string) => ["/bin/sh", "-c", `echo "\${MARK-none}" >> ${asked}; ${last}`];
  const second = new Removal(order(script(`[ $(wc -l < ${asked}) = 2 ]`), { MARK: "run-1" }));
  expect(second.isDone()).toBe(false);
  await until("it is removed", () => second.isDone());
  expect(readFileSync(asked, "utf8")).toBe("none\nnone\n");
  const never = new Removal(order(script("exit 1")));
  await until("it is given up", () => never.isDone());
  expect(readFileSync(asked, "utf8").trim().split("\n")).toHaveLength(7);
});
