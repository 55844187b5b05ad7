import { spawnSync } from "node:child_process";
import { appendFileSync, closeSync, constants, mkdtempSync, openSync, rmSync, writeFileSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type { KernelNews, XidReport } from "../../../src/core/readings/xid.ts";
import {
  type KernelLog,
  type KernelLogOptions,
  POLL_MS,
  watchKernelLog,
} from "../../../src/monitor/kernel-log/kernel-log.ts";
import { ManualClock } from "../../../src/platform/clock.ts";

const START = 1_800_000_000_000;
const UPTIME_MS = 3_600_000;

let folder: string;
let path: string;
let clock: ManualClock;
let news: KernelNews[];
const watching: KernelLog[] = [];
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "kernel-log-"));
  path = join(folder, "kmsg");
  clock = new ManualClock(START);
  news = [];
});
afterEach(() => {
  for (const log of watching.splice(0)) log.stop();
  rmSync(folder, { recursive: true, force: true });
});

function watch(over: Partial<KernelLogOptions> = {}): KernelLog {
  const log = watchKernelLog({
    path,
    clock,
    onNews: async (said) => void news.push(said),
    sinceBootMs: () => UPTIME_MS,
    ...over,
  });
  watching.push(log);
  return log;
}

/** Lets what was told be taken, and time pass. */
async function later(ms = POLL_MS): Promise<void> {
  await new Promise(setImmediate);
  clock.advance(ms);
  await new Promise(setImmediate);
}

const record = (sequence: number, text: string, sinceBootMs = UPTIME_MS) =>
  `3,${sequence},${sinceBootMs * 1_000},-;${text}\n`;
const xid = (sequence: number, number = 79, device = "3b") =>
  record(sequence, `NVRM: Xid (PCI:0000:${device}:00): ${number}, pid=1, name=x, words`);
const told = () => news.flatMap(({ reports }) => reports) as XidReport[];

test("what stands in the log already is told at once, and what comes later within a second", async () => {
  writeFileSync(
    path,
    record(1, "usb 1-1: new device") + xid(2) + record(3, "NVRM: loading NVIDIA UNIX x86_64 Kernel Module  1"),
  );
  watch();
  expect(news).toEqual([
    {
      reports: [
        { kind: "xid", device: "0:3b:0", xid: 79, sequence: 2, at: START, count: 1, fatal: false, action: null },
        { kind: "driver-loaded", sequence: 3 },
      ],
      problem: null,
      missed: 0,
    },
  ]);
  await later();
  expect(news).toHaveLength(1);
  appendFileSync(path, xid(4, 48));
  await later();
  expect(told().at(-1)).toMatchObject({ xid: 48, sequence: 4 });
});

test("an error has the time at which the kernel noted it, and none in the future", async () => {
  const noted = (sinceBootMs: number, sequence: number, number: number) =>
    record(sequence, `NVRM: Xid (PCI:0000:3b:00): ${number}, x`, sinceBootMs);
  writeFileSync(path, noted(UPTIME_MS - 60_000, 1, 31) + noted(UPTIME_MS + 60_000, 2, 13));
  watch();
  expect(told().map(({ at }) => at)).toEqual([START - 60_000, START]);
});

test("errors of one kind are told together, with their number and the last record's", () => {
  writeFileSync(path, xid(1) + xid(2) + xid(3, 79, "86") + xid(4) + xid(5, 31));
  watch();
  expect(told().map(({ device, xid: number, count, sequence }) => [device, number, count, sequence])).toEqual([
    ["0:3b:0", 79, 3, 4],
    ["0:86:0", 79, 1, 3],
    ["0:3b:0", 31, 1, 5],
  ]);
});

test("a record that comes in pieces is one; further facts of a record are none", async () => {
  const whole = xid(1);
  writeFileSync(path, whole.slice(0, 20));
  watch();
  expect(told()).toEqual([]);
  appendFileSync(path, whole.slice(20, 40));
  await later();
  appendFileSync(path, `${whole.slice(40)} SUBSYSTEM=pci\n DEVICE=+pci:0000:3b:00.0\n${xid(2, 48)}`);
  await later();
  expect(told().map(({ xid: number }) => number)).toEqual([79, 48]);
});

test("a line without end is dropped up to its end, and costs no more than its bound", async () => {
  writeFileSync(path, `${"NVRM: x".repeat(100_000)}${xid(1).trimEnd()}\n${xid(2, 48)}`);
  watch();
  for (let turn = 0; turn < 20; turn++) await later();
  expect(told().map(({ xid: number }) => number)).toEqual([48]);
});

test("bytes that are no text do no harm", async () => {
  writeFileSync(
    path,
    Buffer.concat([Buffer.from(Array.from({ length: 9_000 }, (_, i) => (i * 167) % 256)), Buffer.from(`\n${xid(9)}`)]),
  );
  watch();
  expect(told()).toMatchObject([{ sequence: 9 }]);
});

test("a log that is not there, or may not be read, is told once, and tried again", async () => {
  watch();
  expect(news).toEqual([{ reports: [], problem: "ENOENT", missed: 0 }]);
  await later(59_000);
  expect(news).toHaveLength(1);
  writeFileSync(path, xid(1));
  await later(1_000);
  expect(news).toHaveLength(2);
  expect(news[1]).toMatchObject({ problem: null, reports: [{ sequence: 1 }] });
});

test("a folder is no log", () => {
  watch({ path: folder });
  expect(news).toMatchObject([{ problem: "EISDIR" }]);
});

test("news that was not taken is told again, with what has come since", async () => {
  writeFileSync(path, xid(1) + record(2, "NVRM: loading NVIDIA UNIX x86_64 Kernel Module  1"));
  let refusing = true;
  watch({
    onNews: async (said) => {
      news.push(said);
      if (refusing) throw new Error("the store takes no changes");
    },
  });
  appendFileSync(path, xid(3) + xid(4, 31));
  refusing = false;
  await later();
  expect(news).toHaveLength(2);
  expect([...(news[1]?.reports ?? [])].sort((a, b) => a.sequence - b.sequence)).toMatchObject([
    { kind: "driver-loaded", sequence: 2 },
    { kind: "xid", xid: 79, count: 2, sequence: 3 },
    { kind: "xid", xid: 31, count: 1 },
  ]);
  await later();
  expect(news).toHaveLength(2);
});

test("nothing is told twice at once: the next news waits until the last was taken", async () => {
  writeFileSync(path, xid(1));
  const { promise, resolve } = Promise.withResolvers<void>();
  watch({
    onNews: (said) => {
      news.push(said);
      return promise;
    },
  });
  appendFileSync(path, xid(2, 48));
  await later();
  await later();
  expect(news).toHaveLength(1);
  resolve();
  await later();
  await later();
  expect(news).toHaveLength(2);
});

test("a flood is read in bounded turns, counted, and told in few words", async () => {
  const lines: string[] = [];
  for (let i = 0; i < 40_000; i++) lines.push(xid(i, i % 3 === 0 ? 31 : 79, i % 2 === 0 ? "3b" : "86"));
  writeFileSync(path, lines.join(""));
  const longest = { ms: 0 };
  const begun = performance.now();
  watch();
  for (let turn = 0; turn < 80; turn++) {
    const before = performance.now();
    clock.advance(100);
    longest.ms = Math.max(longest.ms, performance.now() - before);
    await new Promise(setImmediate);
  }
  const total = told().reduce((sum, { count }) => sum + count, 0);
  expect(total).toBe(40_000);
  expect(news.every(({ reports }) => reports.length <= 4)).toBe(true);
  console.log("a flood of 40,000 records:", { ms: performance.now() - begun, longest: longest.ms, news: news.length });
  // Some 10 ms where nothing else runs; all of it at once would take forty times as long.
  expect(news.length).toBeGreaterThan(20);
  expect(longest.ms).toBeLessThan(1_000);
});

test("after stopping nothing is read, nothing told, and the file is closed", async () => {
  writeFileSync(path, xid(1));
  const log = watch();
  const open = spawnSync("ls", ["-l", `/proc/${process.pid}/fd`]).stdout.toString();
  expect(open).toContain(path);
  log.stop();
  expect(spawnSync("ls", ["-l", `/proc/${process.pid}/fd`]).stdout.toString()).not.toContain(path);
  appendFileSync(path, xid(2));
  await later(120_000);
  expect(news).toHaveLength(1);
});

test("a pipe without a writer, with one, and after it, never blocks", async () => {
  expect(spawnSync("mkfifo", [path]).status).toBe(0);
  const begun = performance.now();
  watch();
  const writer = openSync(path, constants.O_WRONLY | constants.O_NONBLOCK);
  await later();
  writeSync(writer, xid(1));
  await later();
  await vi.waitFor(() => expect(told()).toMatchObject([{ sequence: 1 }]));
  closeSync(writer);
  await later();
  expect(news.map(({ problem }) => problem)).toEqual([null, null]);
  expect(performance.now() - begun).toBeLessThan(5_000);
});

test("the kernel's own log can be read from its beginning, or says why not", () => {
  watch({ path: "/dev/kmsg" });
  expect(news).toHaveLength(1);
  expect(news[0]?.problem ?? "none").toMatch(/^(none|EPERM|EACCES|ENOENT)$/);
});
