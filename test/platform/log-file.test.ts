import fs, {
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test, vi } from "vitest";
import { createLogger, logFileOf, reopenLog } from "../../src/platform/logger.ts";

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

test("a log whose file cannot be opened anew goes on in the old one, says so there, and begins anew when it can", async () => {
  const folder = mkdtempSync(join(tmpdir(), "gpuo-log-"));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  const logs = join(folder, "logs");
  const file = join(logs, "d.log");
  const log = createLogger("info", file);
  const old = join(folder, "old", "d.log");
  renameSync(logs, join(folder, "old"));
  writeFileSync(logs, "in its place");
  for (let i = 0; i < 2; i++) reopenLog(log);
  const lines = readFileSync(old, "utf8").trimEnd().split("\n");
  expect(lines.map((line) => JSON.parse(line))).toMatchObject([{ err: { code: "EEXIST" } }, { level: "error" }]);
  rmSync(logs);
  const ended = descriptorOf(old);
  const closed = vi.spyOn(fs, "close");
  onTestFinished(() => closed.mockRestore());
  reopenLog(log);
  log.info("anew");
  expect(readFileSync(file, "utf8")).toContain('"anew"');
  await expect.poll(() => descriptorOf(old)).toBe(null);
  // A second time its number may be another file's.
  expect(closed.mock.calls.filter(([fd]) => fd === ended)).toHaveLength(1);
});

function descriptorOf(path: string): number | null {
  const found = readdirSync("/proc/self/fd").find((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`) === path;
    } catch {
      return false;
    }
  });
  return found === undefined ? null : Number(found);
}

test("another program's log is beside the first one's", () => {
  expect(logFileOf("worker", "/var/log/gpu/d.log")).toBe("/var/log/gpu/d.worker.log");
  expect(logFileOf("worker", "d")).toBe("d.worker");
  expect(logFileOf("worker", "logs.d/d")).toBe("logs.d/d.worker");
});
