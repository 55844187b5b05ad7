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

const aFolder = () => {
  const folder = mkdtempSync(join(tmpdir(), "gpuo-removal-"));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
};

test("an engine that says no is asked again after a pause, as nobody that bears the run's mark", async () => {
  const asked = join(aFolder(), "asked");
  const script = `echo "\${MARK-none}" >> ${asked}; [ $(wc -l < ${asked}) = 2 ]`;
  const removal = new Removal(order(["/bin/sh", "-c", script], { MARK: "run-1" }));
  expect(removal.isDone()).toBe(false);
  const since = performance.now();
  await until("it is removed", () => removal.isDone());
  expect(readFileSync(asked, "utf8")).toBe("none\nnone\n");
  expect(performance.now() - since).toBeGreaterThan(200);
});

test("one that says no for ever is never taken at its word: the container may live", async () => {
  const asked = join(aFolder(), "asked");
  const removal = new Removal(order(["/bin/sh", "-c", `echo >> ${asked}; exit 1`]));
  await until("it has said no three times", () => !removal.isDone() && removal.refusals === 3);
  const since = performance.now();
  while (performance.now() - since < 500) {
    expect(removal.isDone()).toBe(false);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  expect(readFileSync(asked, "utf8")).toBe("\n\n\n");
});

test.each([
  ["it knows no such container", ["/bin/sh", "-c", "echo 'Error: No such container: go-run-1' >&2; exit 1"]],
  ["it is not there", [join(tmpdir(), "no-such-engine")]],
  ["who changes the user for it finds none", ["setpriv", "--no-new-privs", "--", join(tmpdir(), "no-such-engine")]],
])("nothing is left when %s", async (_, remove) => {
  const removal = new Removal(order(remove));
  await until("it is gone", () => removal.isDone());
  expect(removal.refusals).toBe(0);
});
