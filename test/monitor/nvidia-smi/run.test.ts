import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import {
  KILL_GRACE_MS,
  type Run,
  type RunOptions,
  startRun,
  TERM_GRACE_MS,
} from "../../../src/monitor/nvidia-smi/run.ts";
import { ManualClock, steadyClock } from "../../../src/platform/clock.ts";
import { FakeNvidiaSmi } from "../../fixtures/fake-nvidia-smi.ts";

let fake: FakeNvidiaSmi;
beforeEach(() => {
  fake = new FakeNvidiaSmi();
});
afterEach(() => fake[Symbol.dispose]());

function start(options: Partial<RunOptions> = {}): Run {
  return startRun({
    program: fake.path,
    args: ["-q", "-x"],
    env: { PATH: process.env.PATH },
    timeoutMs: 10_000,
    maxOutputBytes: 1024 * 1024,
    clock: steadyClock(),
    ...options,
  });
}

function isAlive(pid: number | null): boolean {
  try {
    return pid !== null && process.kill(pid, 0);
  } catch {
    return false;
  }
}

/** Until the program has come so far that it says its pid: then its signal handlers stand. */
async function started(): Promise<number> {
  return await vi.waitFor(
    () => {
      const [pid] = fake.runs();
      if (pid === undefined) throw new Error("not started");
      return pid;
    },
    { timeout: 10_000, interval: 5 },
  );
}

test("output, code and stderr are brought back", async () => {
  fake.tell({ mode: "text", text: "hello", stderr: "well", exit: 14 });
  const end = await start().end;
  expect(end).toMatchObject({ kind: "exited", exitCode: 14, signal: null, stderr: "well" });
  expect(end.kind === "exited" && Buffer.from(end.stdout).toString()).toBe("hello");
});

test("a program that a signal ended has no code", async () => {
  fake.tell({ mode: "crash" });
  expect(await start().end).toMatchObject({ kind: "exited", exitCode: null, signal: "SIGSEGV" });
});

test.each([
  ["/nowhere/nvidia-smi", "ENOENT"],
  ["no-such-nvidia-smi", "ENOENT"],
  ["/", "EACCES"],
  ["a\0b", "ERR_INVALID_ARG_VALUE"],
])("%j is not started: %s", async (program, code) => {
  const run = start({ program });
  expect(await run.end).toEqual({ kind: "not-started", code });
  await run.gone;
  run.stop();
});

test("what hangs is ended at its deadline and not before", async () => {
  fake.tell({ mode: "hang" });
  const clock = new ManualClock();
  const run = start({ timeoutMs: 10_000, clock });
  await started();
  clock.advance(9_999);
  expect(isAlive(run.pid)).toBe(true);
  clock.advance(1);
  expect(await run.end).toEqual({ kind: "timed-out", abandoned: false });
  expect(isAlive(run.pid)).toBe(false);
});

test("what ignores SIGTERM is killed", async () => {
  fake.tell({ mode: "stubborn" });
  const clock = new ManualClock();
  const signals: string[] = [];
  const run = start({
    clock,
    signal(group, signal) {
      signals.push(signal);
      process.kill(-group, signal);
    },
  });
  await started();
  run.stop();
  clock.advance(TERM_GRACE_MS - 1);
  expect(signals).toEqual(["SIGTERM"]);
  clock.advance(1);
  expect(signals).toEqual(["SIGTERM", "SIGKILL"]);
  expect(await run.end).toEqual({ kind: "stopped", abandoned: false });
  expect(isAlive(run.pid)).toBe(false);
});

test("what no signal ends is let go of at a known time, and its end is told", async () => {
  fake.tell({ mode: "hang" });
  const clock = new ManualClock();
  const run = start({ timeoutMs: 10_000, clock, signal() {} });
  clock.advance(10_000 + TERM_GRACE_MS + KILL_GRACE_MS);
  expect(await run.end).toEqual({ kind: "timed-out", abandoned: true });
  expect(isAlive(run.pid)).toBe(true);

  process.kill(run.pid as number, "SIGKILL");
  await run.gone;
  expect(isAlive(run.pid)).toBe(false);
});

test("output without end is cut off", async () => {
  fake.tell({ mode: "flood" });
  const run = start();
  expect(await run.end).toEqual({ kind: "flooded", abandoned: false });
  expect(isAlive(run.pid)).toBe(false);
});

test("what a wrapper script started is ended with it", async () => {
  fake.tell({ mode: "stubborn" });
  const wrapper = join(fake.folder, "wrapper");
  writeFileSync(wrapper, `#!/bin/sh\n${fake.path} &\nwait\n`, { mode: 0o755 });
  const run = start({ program: wrapper });
  const inner = await started();
  run.stop();
  expect(await run.end).toEqual({ kind: "stopped", abandoned: false });
  await vi.waitFor(() => expect(isAlive(inner)).toBe(false), { timeout: 5_000, interval: 5 });
});

test("output is not waited for when the program has ended and another holds its pipes", async () => {
  fake.tell({ mode: "hang" });
  const wrapper = join(fake.folder, "wrapper");
  writeFileSync(wrapper, `#!/bin/sh\necho done\n${fake.path} &\n`, { mode: 0o755 });
  const run = start({ program: wrapper });
  const end = await run.end;
  expect(end.kind === "exited" && Buffer.from(end.stdout).toString()).toBe("done\n");
  process.kill(await started(), "SIGKILL");
});
