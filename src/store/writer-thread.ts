/**
 * The writer of a database in a file: in the calling thread while the disk is fast, in store-worker.ts's once it is not.
 *
 * A commit on a fast disk takes less time than the wake-ups of another thread; on a slow one it would hold up everything
 * that the daemon does meanwhile.
 *
 * 1. A job is done when its answer has come, not before; a job of the thread's is never waited for by standing still.
 * 2. While there is no thread, jobs run here, on the main thread's connection: while the disk is fast, while the thread
 *    starts, and after its death. The connection can only be read from otherwise. A disk that was slow once is left to
 *    the thread from then on.
 * 3. If the thread dies under a job, only the file can tell whether it was done: `run` rejects with
 *    WriterDiedError when the thread, and with it its connection, is gone.
 * 4. A dead thread is started again, after a pause that doubles up to a limit.
 */
import { extname } from "node:path";
import type { DatabaseSync } from "node:sqlite";
import { MessageChannel, type MessagePort, Worker } from "node:worker_threads";
import { WriterDiedError } from "./errors.ts";
import type { Pruned } from "./prune.ts";
import type { FromWorker, ToWorker, WorkerInput } from "./store-worker.ts";
import { type Job, LocalWriter, type Writer } from "./writer.ts";

/** Beside this module, as a source file or as the bundle's second entry. */
const ENTRY = new URL(`./store-worker${extname(import.meta.url)}`, import.meta.url);
/** A turn that takes longer than this on the average, in ms, is not to be waited for in the main thread. */
const SLOW_TURN_MS = 4;
/** The share of the latest turn in that average: some twenty turns, so that one slow checkpoint does not decide. */
const LATEST_SHARE = 0.05;
const RESTART_MIN_MS = 50;
const RESTART_MAX_MS = 10_000;

interface Thread {
  readonly worker: Worker;
  readonly port: MessagePort;
  readonly signal: Int32Array<SharedArrayBuffer>;
  /** Its connection is open. */
  ready: boolean;
}

interface UnderWay {
  readonly resolve: (pruned: Pruned | null) => void;
  readonly reject: (error: unknown) => void;
}

export class WriterThread implements Writer {
  readonly #file: string;
  readonly #database: DatabaseSync;
  readonly #local: LocalWriter;
  readonly #slowTurnMs: number;
  #averageMs = 0;
  #thread: Thread | null = null;
  /** Of the thread, not of the local writer. */
  #underWay: UnderWay | null = null;
  #starting: NodeJS.Timeout | null = null;
  #pauseMs = RESTART_MIN_MS;
  /** Ends a `close` that waits for the thread. */
  #gone: (() => void) | null = null;

  /**
   * @param database this thread's connection to `file`; it stays the caller's to close, before this is.
   * @param slowTurnMs from which average on the thread is started; negative: by the first turn.
   */
  constructor(file: string, database: DatabaseSync, slowTurnMs = SLOW_TURN_MS) {
    this.#slowTurnMs = slowTurnMs;
    this.#file = file;
    this.#database = database;
    this.#local = new LocalWriter(database);
  }

  /** The thread has taken over. */
  get ready(): boolean {
    return this.#thread?.ready ?? false;
  }

  run(job: Job): Promise<Pruned | null> {
    const thread = this.#thread;
    // A transaction that could not be rolled back holds the file: only its own connection can end it.
    if (thread?.ready !== true || this.#database.isTransaction) return this.#runHere(job);
    return new Promise((resolve, reject) => {
      this.#underWay = { resolve, reject };
      // The process stays for the answer, not for the thread.
      thread.worker.ref();
      post(thread, job);
    });
  }

  async close(): Promise<void> {
    if (this.#starting !== null) clearTimeout(this.#starting);
    const thread = this.#thread;
    if (thread === null) return;
    const gone = new Promise<void>((resolve) => {
      this.#gone = resolve;
    });
    thread.worker.ref();
    post(thread, { type: "close" });
    await gone;
  }

  /** See 2. */
  async #runHere(job: Job): Promise<Pruned | null> {
    const begun = performance.now();
    try {
      return await this.#local.run(job);
    } finally {
      if (job.type === "write") this.#note(performance.now() - begun);
    }
  }

  #note(ms: number): void {
    this.#averageMs += LATEST_SHARE * (ms - this.#averageMs);
    if (this.#averageMs <= this.#slowTurnMs) return;
    if (this.#thread === null && this.#starting === null) this.#startIn(0);
  }

  #startIn(ms: number): void {
    this.#starting = setTimeout(() => this.#start(), ms);
    this.#starting.unref();
  }

  #start(): void {
    this.#starting = null;
    try {
      this.#thread = this.#begin();
    } catch {
      // The system gives no thread now.
      this.#startLater();
    }
  }

  #begin(): Thread {
    const { port1: port, port2 } = new MessageChannel();
    const signal = new Int32Array(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT));
    const workerData: WorkerInput = { file: this.#file, port: port2, signal };
    const worker = new Worker(ENTRY, { name: "store", workerData, transferList: [port2] });
    const thread: Thread = { worker, port, signal, ready: false };
    let cause: unknown = null;
    port.on("message", (message: FromWorker) => this.#hear(message, thread));
    port.unref();
    worker.on("error", (error) => {
      cause = error;
    });
    worker.once("exit", (code) => {
      port.close();
      this.#died(cause ?? `exit code ${code}`);
    });
    worker.unref();
    return thread;
  }

  #hear(message: FromWorker, thread: Thread): void {
    if (message.type === "ready") {
      if (this.#gone !== null) return;
      this.#database.exec("PRAGMA query_only = ON");
      thread.ready = true;
      return;
    }
    const underWay = this.#underWay;
    this.#underWay = null;
    thread.worker.unref();
    this.#pauseMs = RESTART_MIN_MS;
    if (message.type === "done") underWay?.resolve(message.pruned);
    else if (message.errcode === null) underWay?.reject(message.error);
    else underWay?.reject(Object.assign(message.error as Error, { errcode: message.errcode, errstr: message.errstr }));
  }

  #died(cause: unknown): void {
    this.#thread = null;
    if (this.#gone !== null) {
      this.#gone();
      return;
    }
    this.#database.exec("PRAGMA query_only = OFF");
    this.#startLater();
    const underWay = this.#underWay;
    this.#underWay = null;
    underWay?.reject(new WriterDiedError(`the database's thread has ended (${cause})`, { cause }));
  }

  /** See 4. */
  #startLater(): void {
    this.#startIn(this.#pauseMs);
    this.#pauseMs = Math.min(2 * this.#pauseMs, RESTART_MAX_MS);
  }
}

function post({ port, signal }: Thread, message: ToWorker): void {
  port.postMessage(message);
  Atomics.add(signal, 0, 1);
  Atomics.notify(signal, 0);
}
