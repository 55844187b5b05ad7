/**
 * Preloaded into the daemon (`node --import`): ends its process by SIGKILL at the chosen passing of a chosen point
 * around its commits. The program itself knows nothing of it: Node's own SQLite and HTTP classes are wrapped.
 *
 * In the environment: CRASH_POINT, CRASH_PASS (which passing in a thread, from 1), CRASH_DELAY_US (how far into the
 * COMMIT, for `inside-commit`), and SLOW_TURNS=1, which makes turns slow, so that commands gather and are committed
 * together.
 *
 * Just before the end a {@link CrashReport} is printed on stderr.
 */
import { writeSync } from "node:fs";
import type { ServerResponse as Response } from "node:http";
import { StatementSync } from "node:sqlite";
import { fileURLToPath } from "node:url";
import { isMainThread, Worker, workerData } from "node:worker_threads";

export const CRASH_POINTS = [
  "before-begin",
  "between-writes",
  "before-commit",
  "inside-commit",
  "after-commit",
  "before-answer",
  "after-answer",
] as const;
export type CrashPoint = (typeof CRASH_POINTS)[number];

export interface CrashReport {
  readonly crashPoint: CrashPoint;
  readonly thread: "main" | "store";
  readonly pass: number;
}

/** In the first turn all clients can come. */
const FIRST_SLOW_TURN_MS = 120;
/** What every turn takes at least afterwards: commands gather meanwhile, and are committed together. */
const SLOW_TURN_MS = 2;

/** Memory shared with the thread that kills: 1 wakes it, 2 says that it is awake, and from 3 on its delay counts. */
type Signal = Int32Array<SharedArrayBuffer>;

interface KillerInput {
  readonly signal: Signal;
  readonly delayUs: number;
}

const thread = isMainThread ? "main" : "store";
let passes = 0;

function die(): never {
  process.kill(process.pid, "SIGKILL");
  // SIGKILL has been delivered by the time kill(2) returns to the process that sent it to itself.
  throw new Error("unreachable: SIGKILL did not end the process");
}

function report(crashPoint: CrashPoint): void {
  writeSync(2, `${JSON.stringify({ crashPoint, thread, pass: passes } satisfies CrashReport)}\n`);
}

function newSignal(): Signal {
  return new Int32Array(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT));
}

function raise(signal: Signal, value: number): void {
  Atomics.store(signal, 0, value);
  Atomics.notify(signal, 0);
}

function sleep(ms: number): void {
  Atomics.wait(newSignal(), 0, 0, ms);
}

function arm(point: CrashPoint | null, pass: number): void {
  const isNow = (passed: CrashPoint): boolean => passed === point && ++passes === pass;
  const dieAt = (passed: CrashPoint): void => {
    if (!isNow(passed)) return;
    report(passed);
    die();
  };
  wrapStatements(dieAt, isNow, point === "inside-commit" ? startKiller() : null);
  if (isMainThread) wrapAnswers(dieAt);
}

function wrapStatements(
  dieAt: (point: CrashPoint) => void,
  isNow: (point: CrashPoint) => boolean,
  killer: Signal | null,
): void {
  const run = StatementSync.prototype.run;
  let slowMs = process.env.SLOW_TURNS === "1" ? (isMainThread ? FIRST_SLOW_TURN_MS : SLOW_TURN_MS) : 0;
  const commit = (statement: StatementSync) => {
    if (slowMs > 0) sleep(slowMs);
    if (isMainThread) slowMs = Math.min(slowMs, SLOW_TURN_MS);
    dieAt("before-commit");
    const strikes = killer !== null && isNow("inside-commit");
    if (strikes) {
      report("inside-commit");
      raise(killer, 1);
      Atomics.wait(killer, 0, 1);
      raise(killer, 3);
    }
    const result = (run as () => ReturnType<typeof run>).call(statement);
    if (strikes) {
      // It came too late to be inside: then it is this.
      report("after-commit");
      sleep(Number.POSITIVE_INFINITY);
    }
    dieAt("after-commit");
    return result;
  };
  StatementSync.prototype.run = function (this: StatementSync, ...parameters: Parameters<typeof run>) {
    const sql = this.sourceSQL;
    if (sql === "COMMIT") return commit(this);
    if (sql === "BEGIN IMMEDIATE") dieAt("before-begin");
    const result = run.apply(this, parameters);
    if (/^(?:INSERT|UPDATE|DELETE)/.test(sql)) dieAt("between-writes");
    return result;
  } as typeof run;
}

function wrapAnswers(dieAt: (point: CrashPoint) => void): void {
  // An `import` would load a whole web client too (src/http/server.ts).
  const { ServerResponse } = process.getBuiltinModule("node:http");
  const end = ServerResponse.prototype.end;
  ServerResponse.prototype.end = function (this: Response, ...parameters: unknown[]) {
    dieAt("before-answer");
    const result = end.apply(this, parameters as Parameters<typeof end>);
    dieAt("after-answer");
    return result;
  } as typeof end;
}

/** A COMMIT is one call: only another thread can strike inside it. */
function startKiller(): Signal {
  const signal = newSignal();
  const input: KillerInput = { signal, delayUs: Number(process.env.CRASH_DELAY_US ?? 0) };
  new Worker(fileURLToPath(import.meta.url), { workerData: { killer: input }, execArgv: [] }).unref();
  return signal;
}

function waitAndKill({ signal, delayUs }: KillerInput): void {
  // The first call of kill takes its time.
  process.kill(process.pid, 0);
  Atomics.wait(signal, 0, 0);
  raise(signal, 2);
  // Awake: to be woken again would take as long as the COMMIT.
  while (Atomics.load(signal, 0) < 3);
  const until = performance.now() + delayUs / 1_000;
  while (performance.now() < until);
  die();
}

const killer = (workerData as { readonly killer?: KillerInput } | null)?.killer;
if (killer !== undefined) waitAndKill(killer);
else if (process.env.CRASH_POINT !== undefined || process.env.SLOW_TURNS !== undefined) {
  arm((process.env.CRASH_POINT ?? null) as CrashPoint | null, Number(process.env.CRASH_PASS));
}
