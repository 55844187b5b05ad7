import { spawnSync } from "node:child_process";
import fs, {
  closeSync,
  mkdtempSync,
  openSync,
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
import { setImmediate } from "node:timers/promises";
import { expect, onTestFinished, test, vi } from "vitest";
import { createLogger, logFileOf, plainly, reopenLog } from "../../src/platform/logger.ts";

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
  await setImmediate();
  expect([said(file), statSync(file).mode & 0o777]).toEqual([["one", "two"], 0o600]);
  expect(readFileSync(file, "utf8")).not.toContain("s3cret");
  renameSync(file, `${file}.1`);
  reopenLog(log);
  await expect.poll(() => log.info("three") ?? statSync(file, { throwIfNoEntry: false }) !== undefined).toBe(true);
  await setImmediate();
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
  await setImmediate();
  expect(readFileSync(file, "utf8")).toContain('"anew"');
  await expect.poll(() => descriptorOf(old)).toBe(null);
  // A second time its number may be another file's.
  expect(closed.mock.calls.filter(([fd]) => fd === ended)).toHaveLength(1);
});

/** A log in a file of its own, and the lines that are in it now. */
function inFile() {
  const folder = mkdtempSync(join(tmpdir(), "gpuo-log-"));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  const file = join(folder, "d.log");
  return { file, log: createLogger("debug", file), lines: () => readFileSync(file, "utf8").split("\n").slice(0, -1) };
}

test("a line that comes alone is written at once, and a warning with what was said before it; others together, in their order", async () => {
  const { log, lines } = inFile();
  log.info("alone");
  expect(lines()).toHaveLength(1);
  log.info("one");
  log.debug("two");
  expect(lines()).toHaveLength(1);
  log.warn("three");
  expect(lines().map((line) => JSON.parse(line).msg)).toEqual(["alone", "one", "two", "three"]);
  log.info("four");
  plainly(log)("info", { n: 5 }, "five");
  await setImmediate();
  expect(lines().map((line) => JSON.parse(line).msg)).toEqual(["alone", "one", "two", "three", "four", "five"]);
});

test.each(["process.exit(3)", "throw new Error('bug')", "Promise.reject(new Error('bug'))"])(
  "what was said before the end by %s is written",
  (end) => {
    const { file, lines } = inFile();
    const logger = new URL("../../src/platform/logger.ts", import.meta.url).href;
    const program = `import { createLogger } from "${logger}"; const log = createLogger("info", ${JSON.stringify(file)}); log.info("first"); log.info("last"); ${end};`;
    const { status } = spawnSync(process.execPath, ["--input-type=module", "-e", program]);
    expect(status).not.toBe(0);
    expect(lines().map((line) => JSON.parse(line).msg)).toEqual(["first", "last"]);
  },
);

test("standard output that takes nothing costs lines, and ends nothing", () => {
  const logger = new URL("../../src/platform/logger.ts", import.meta.url).href;
  const program = `import { createLogger } from "${logger}"; const log = createLogger("info");
    for (let i = 0; i < 3; i++) { log.info("said"); log.info("said"); await new Promise((done) => setTimeout(done, 20)); }
    process.exit(7);`;
  const full = openSync("/dev/full", "w");
  onTestFinished(() => closeSync(full));
  const run = spawnSync(process.execPath, ["--input-type=module", "-e", program], {
    stdio: ["ignore", full, "pipe"],
    timeout: 20_000,
  });
  expect([run.status, String(run.stderr)]).toEqual([7, ""]);
});

test("a line that is not searched for secrets is the line that the log itself writes", async () => {
  const { log, lines } = inFile();
  const facts = {
    seq: 7,
    gpu_uuids: ["GPU-a"],
    reason: 'a "quoted"\nword \u2028',
    none: null,
    left: undefined,
    nested: { n: 1.5 },
  };
  vi.useFakeTimers({ now: Date.UTC(2026, 10, 30, 8, 0, 0, 42), toFake: ["Date"] });
  onTestFinished(() => void vi.useRealTimers());
  for (const [level, body] of [
    ["info", facts],
    ["debug", {}],
    ["warn", facts],
  ] as const) {
    log[level](body, "granted");
    plainly(log)(level, body, "granted");
  }
  await setImmediate();
  const written = lines();
  expect(written).toHaveLength(6);
  for (const at of [0, 2, 4]) expect(written[at + 1]).toBe(written[at]);
  expect(JSON.parse(written[0] as string).time).toBe("2026-11-30T08:00:00.042Z");
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
