/**
 * The writer of a database in a file: small turns in the calling thread, large ones in store-worker.ts's.
 *
 * A small commit takes less time than the wake-ups of another thread. Large ones come when much is asked at once, on a
 * slow disk too, and while the thread writes one the next requests can be read. How long commits take does not count: a
 * busy machine looks like a slow disk, and a thread more makes it busier.
 *
 * 1. A job is done when its answer has come, not before; a job of the thread's is never waited for by standing still.
 * 2. Jobs run here, on the main thread's connection, while turns are small, while the thread starts, and after its
 *    death. The connection can only be read from otherwise. The thread is started when it is first wanted, and waits
 *    when it is not. After a job that failed in the thread the next is its too: it may still hold the file.
 * 3. If the thread dies under a job, only the file can tell whether it was done: `run` rejects with
 *    WriterDiedError when the thread, and with it its connection, is gone.
 * 4. A dead thread is started again, after a pause that doubles up to a limit.
 */
import type { DatabaseSync } from "node:sqlite";
import { MessageChannel, type MessagePort, Worker } from "node:worker_threads";
import { carried } from "../platform/executable.ts";
import { WriterDiedError } from "./errors.ts";
import type { Pruned } from "./prune.ts";
import type { FromWorker, ToWorker, WorkerInput } from "./store-worker.ts";
import { type Job, LocalWriter, type Writer } from "./writer.ts";

/** Beside this module, as a source file, or as the build has made it. */
const ENTRY = new URL(`./store-worker.${import.meta.url.endsWith(".ts") ? "ts" : "cjs"}`, import.meta.url);
/** Rows that a turn writes on the average from which on the thread has it: a command writes three, so some 16 commands. */
const LARGE_TURN_ROWS = 48;
/** Below this part of that the main thread has it again; between the two nothing changes. */
const SMALL_PART = 0.5;
/** The share of the latest turn in that average: some twenty turns, so that a single large one does not decide. */
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
  readonly #largeTurnRows: number;
  #averageRows = 0;
  #isLarge = false;
  #thread: Thread | null = null;
  /** Of the thread, not of the local writer. */
  #underWay: UnderWay | null = null;
  /** Its latest job failed. It may not have been rolled back on a failing disk, and its next job makes up for that. */
  #threadOwes = false;
  #writesHere = true;
  #starting: NodeJS.Timeout | null = null;
  #pauseMs = RESTART_MIN_MS;
  /** Ends a `close` that waits for the thread. */
  #gone: (() => void) | null = null;

  /**
   * @param database this thread's connection to `file`; it stays the caller's to close, before this is.
   * @param largeTurnRows from which average on the thread writes; 0: from the first turn on.
   */
  constructor(file: string, database: DatabaseSync, largeTurnRows = LARGE_TURN_ROWS) {
    this.#largeTurnRows = largeTurnRows;
    this.#file = file;
    this.#database = database;
    this.#local = new LocalWriter(database);
  }

  /** The thread can write. */
  get ready(): boolean {
    return this.#thread?.ready ?? false;
  }

  get runsAside(): boolean {
    return this.#isLarge && this.ready;
  }

  run(job: Job): Promise<Pruned | null> {
    if (job.type === "write") this.#note(job.writes.length);
    const thread = this.#thread;
    // A transaction that could not be rolled back holds the file: only its own connection can end it.
    const isThreads = this.#isLarge || this.#threadOwes;
    if (!isThreads || thread?.ready !== true || this.#database.isTransaction) return this.#runHere(job);
    this.#mayWriteHere(false);
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
  #runHere(job: Job): Promise<Pruned | null> {
    this.#mayWriteHere(true);
    return this.#local.run(job);
  }

  #mayWriteHere(may: boolean): void {
    if (may === this.#writesHere) return;
    this.#writesHere = may;
    this.#database.exec(`PRAGMA query_only = ${may ? "OFF" : "ON"}`);
  }

  #note(rows: number): void {
    this.#averageRows += LATEST_SHARE * (rows - this.#averageRows);
    if (this.#averageRows >= this.#largeTurnRows) this.#isLarge = true;
    else if (this.#averageRows < this.#largeTurnRows * SMALL_PART) this.#isLarge = false;
    if (this.#isLarge && this.#thread === null && this.#starting === null) this.#startIn(0);
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
    const options = { name: "store", workerData, transferList: [port2] };
    const own = carried("store-worker.js");
    const worker = own === null ? new Worker(ENTRY, options) : new Worker(own.toString(), { ...options, eval: true });
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
      thread.ready = this.#gone === null;
      return;
    }
    const underWay = this.#underWay;
    this.#underWay = null;
    thread.worker.unref();
    this.#pauseMs = RESTART_MIN_MS;
    this.#threadOwes = message.type === "failed";
    if (message.type === "done") underWay?.resolve(message.pruned);
    else if (message.errcode === null) underWay?.reject(message.error);
    else underWay?.reject(Object.assign(message.error as Error, { errcode: message.errcode, errstr: message.errstr }));
  }

  #died(cause: unknown): void {
    this.#thread = null;
    this.#threadOwes = false;
    if (this.#gone !== null) {
      this.#gone();
      return;
    }
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
