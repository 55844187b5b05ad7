/**
 * The thread that owns the writing connection. It sleeps on a counter in shared memory rather than in its event loop:
 * that wakes it in half the time. The same program, started with another input, looks back at decisions.
 */
import { type MessagePort, parentPort, receiveMessageOnPort, workerData } from "node:worker_threads";
import type { Grant, PastDecision } from "../ports/past-decisions.ts";
import { isSqliteError } from "./errors.ts";
import { openWriter } from "./open.ts";
import type { Pruned } from "./prune.ts";
import { type Job, JobRunner } from "./writer.ts";

export interface WorkerInput {
  /** Opened by this process with `openDatabase`. */
  readonly file: string;
  readonly port: MessagePort;
  /** One element, which grows after each message that is sent to the port. */
  readonly signal: Int32Array<SharedArrayBuffer>;
}

export interface LookBackInput {
  /** The database's file. */
  readonly lookBackIn: string;
}

/** What the thread answers each question with. */
export interface Found {
  readonly decision: PastDecision | null;
}

export type ToWorker = Job | { readonly type: "close" };

export type FromWorker =
  /** Comes once, first. */
  | { readonly type: "ready" }
  | { readonly type: "done"; readonly pruned: Pruned | null }
  /** What SQLite adds to an error is lost when one is sent, so it goes beside it; `null` for errors of others. */
  | { readonly type: "failed"; readonly error: unknown; readonly errcode: number | null; readonly errstr: string };

/** Whatever is thrown here ends the thread, and is told to its owner. */
function main({ file, port, signal }: WorkerInput): void {
  const database = openWriter(file);
  const runner = new JobRunner(database);
  port.postMessage({ type: "ready" } satisfies FromWorker);
  for (;;) {
    // Read before the port is: a message that comes in between changes it, and the wait ends at once.
    const seen = Atomics.load(signal, 0);
    const received = receiveMessageOnPort(port) as { readonly message: ToWorker } | undefined;
    if (received === undefined) Atomics.wait(signal, 0, seen);
    else if (received.message.type === "close") break;
    else port.postMessage(run(runner, received.message));
  }
  database.close();
  port.close();
}

function run(runner: JobRunner, job: Job): FromWorker {
  try {
    return { type: "done", pruned: runner.run(job) };
  } catch (error) {
    const { errcode, errstr } = isSqliteError(error) ? error : { errcode: null, errstr: "" };
    return { type: "failed", error, errcode, errstr };
  }
}

async function lookBack({ lookBackIn }: LookBackInput): Promise<void> {
  const { grantIn } = await import("./replay.ts");
  parentPort?.on("message", (grant: Grant) => {
    parentPort?.postMessage({ decision: grantIn(lookBackIn, grant) } satisfies Found);
  });
}

const input = workerData as WorkerInput | LookBackInput;
// What it throws ends the thread, and its owner hears of it.
if ("lookBackIn" in input) void lookBack(input);
else main(input);
