import { mkdtempSync, readFileSync, renameSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { createLogger, reopenLog } from "../../src/platform/logger.ts";

test("a log in a file is its owner's, goes on where it was, and begins anew when its file was moved away", async () => {
  const folder = mkdtempSync(join(tmpdir(), "gpuo-log-"));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  const file = join(folder, "logs", "orchestrator.log");
  const said = (path: string) =>
    readFileSync(path, "utf8")
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line).msg);
  createLogger("info", file).info("one");
  const log = createLogger("info", file);
  log.info({ secret: "s3cret" }, "two");
  expect([said(file), statSync(file).mode & 0o777]).toEqual([["one", "two"], 0o600]);
  expect(readFileSync(file, "utf8")).not.toContain("s3cret");
  renameSync(file, `${file}.1`);
  reopenLog(log);
  await expect.poll(() => log.info("three") ?? statSync(file, { throwIfNoEntry: false }) !== undefined).toBe(true);
  expect(said(file)).toContain("three");
  expect(said(`${file}.1`).slice(0, 2)).toEqual(["one", "two"]);
  expect(() => createLogger("info", folder)).toThrow("EISDIR");
});
