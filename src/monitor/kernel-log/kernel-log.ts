/**
 * Reads the kernel's log for errors of GPUs.
 *
 *  1. Nothing here waits: the file is opened without blocking and looked at from time to time, so neither the event loop
 *     nor the exit of the program depends on the kernel having something to say.
 *  2. It is read from the beginning of the kernel's ring, so that what happened before the start is known, too.
 *  3. A flood costs little: a bounded number of records per turn, most of them dropped by their first bytes, errors of
 *     one kind counted together. That the kernel overwrote records meanwhile is counted.
 *  4. News that was not taken is told again.
 *  5. A log of no form that is known is told of like one that cannot be opened.
 */
import { closeSync, constants, fstatSync, openSync, readSync, statSync } from "node:fs";
import type { KernelNews } from "../../core/readings/xid.ts";
import type { Cancel, Clock } from "../../platform/clock.ts";
import { Findings } from "./findings.ts";
import { KernelLines } from "./lines.ts";

/** How long the news of an error takes at most. */
export const POLL_MS = 1_000;
/** From one turn to the next while there is more to read. */
const NEXT_TURN_MS = 100;
/** How long to wait before a log that could not be read is tried again. */
const RETRY_MS = 60_000;
/** What one turn reads at most, in a few milliseconds: a record of `/dev/kmsg` at a time, a file in larger pieces. */
const MAX_READS_PER_TURN = 512;
const MAX_BYTES_PER_TURN = 64 * 1024;
/** The kernel's longest record takes 8 KiB; a file gives as much as is asked for. */
const BUFFER_BYTES = 16 * 1024;

/** The GPUs' driver, and that of NVSwitches. */
const OURS = [Buffer.from("NVRM:"), Buffer.from("SXid (")] as const;

export interface KernelLogOptions {
  /** `/dev/kmsg`, or a file or pipe with what it says in a form of lines.ts. */
  readonly path: string;
  readonly clock: Clock;
  /** When it rejects, the same is told again with what has come since. */
  readonly onNews: (news: KernelNews) => Promise<void>;
  /** Milliseconds since the boot, sleep left out, as the kernel counts for its log. */
  readonly sinceBootMs?: () => number;
}

export interface KernelLog {
  stop(): void;
}

/** Begins to read. Never throws; a log that cannot be read is news. */
export function watchKernelLog(options: KernelLogOptions): KernelLog {
  const log = new KernelLogReader(options);
  log.turn();
  return log;
}

class KernelLogReader implements KernelLog {
  readonly #options: KernelLogOptions;
  readonly #buffer = Buffer.allocUnsafe(BUFFER_BYTES);
  #descriptor: number | null = null;
  /** The beginning of a line whose end has not come yet; `null` while the end of one that is too long is awaited. */
  #begun: Buffer | null = Buffer.alloc(0);
  readonly #lines: KernelLines;
  readonly #findings = new Findings();
  /** Bytes that were read of the file that is open. */
  #position = 0;
  #missed = 0;
  #problem: string | null = null;
  /** What was told of last: `null` before the first time. */
  #told: { readonly problem: string | null; readonly missed: number } | null = null;
  #telling = false;
  #cancelTimer: Cancel | null = null;
  #stopped = false;

  constructor(options: KernelLogOptions) {
    this.#options = options;
    this.#lines = new KernelLines(() => options.clock.now(), options.sinceBootMs ?? monotonicMs);
  }

  stop(): void {
    this.#stopped = true;
    this.#cancelTimer?.();
    this.#close();
  }

  turn(): void {
    if (this.#stopped) return;
    const more = this.#read();
    this.#tell();
    const pauseMs = this.#descriptor === null ? RETRY_MS : more ? NEXT_TURN_MS : POLL_MS;
    this.#cancelTimer = this.#options.clock.after(pauseMs, () => this.turn());
  }

  /** Whether there is more than one turn may read. */
  #read(): boolean {
    try {
      this.#descriptor ??= openSync(this.#options.path, constants.O_RDONLY | constants.O_NONBLOCK);
    } catch (error) {
      this.#problem = codeOf(error);
      return false;
    }
    let total = 0;
    for (let reads = 0; reads < MAX_READS_PER_TURN && total < MAX_BYTES_PER_TURN; reads++) {
      let bytes: number;
      try {
        bytes = readSync(this.#descriptor, this.#buffer);
      } catch (error) {
        const code = codeOf(error);
        // The kernel has overwritten what would have been next, and goes on with what is left.
        if (code === "EPIPE") {
          this.#missed++;
          continue;
        }
        if (code !== "EAGAIN") this.#close();
        this.#problem = code === "EAGAIN" ? this.#lines.problem : code;
        return false;
      }
      this.#problem = this.#lines.problem;
      if (bytes === 0) {
        this.#followRotation(this.#descriptor);
        return false;
      }
      total += bytes;
      this.#position += bytes;
      this.#take(this.#buffer.subarray(0, bytes));
    }
    return true;
  }

  #close(): void {
    if (this.#descriptor === null) return;
    closeSync(this.#descriptor);
    this.#descriptor = null;
    this.#begun = Buffer.alloc(0);
    this.#position = 0;
    this.#lines.restart();
  }

  /** A file that was renamed or cut short is over; its successor is opened in the next turn. */
  #followRotation(descriptor: number): void {
    const open = fstatSync(descriptor);
    if (!open.isFile()) return;
    const now = statSync(this.#options.path, { throwIfNoEntry: false });
    if (now !== undefined && (now.ino !== open.ino || now.dev !== open.dev || now.size < this.#position)) this.#close();
  }

  /** The kernel gives whole records; a file or a pipe may end anywhere. */
  #take(bytes: Buffer): void {
    let from = 0;
    for (;;) {
      const end = bytes.indexOf(0x0a, from);
      const part = bytes.subarray(from, end < 0 ? bytes.length : end);
      if (end < 0) {
        if (part.length > 0 && this.#begun !== null) this.#begin(part);
        return;
      }
      if (this.#begun !== null) this.#line(this.#begun.length === 0 ? part : Buffer.concat([this.#begun, part]));
      this.#begun = Buffer.alloc(0);
      from = end + 1;
    }
  }

  #begin(part: Buffer): void {
    const begun = this.#begun === null ? part : Buffer.concat([this.#begun, part]);
    this.#begun = begun.length > BUFFER_BYTES ? null : begun;
    if (this.#begun === null) this.#lines.noteUnknown();
  }

  #line(line: Buffer): void {
    // Most lines are others': they are dropped before they become text.
    if (!this.#lines.wantsAll && !OURS.some((mark) => line.includes(mark))) return;
    const finding = this.#lines.read(line.toString("latin1"));
    if (finding !== null) this.#findings.note(finding);
  }

  #tell(): void {
    const problem = this.#problem;
    const missed = this.#missed;
    const told = this.#told;
    const isNews = this.#findings.size > 0 || told === null || told.problem !== problem || told.missed !== missed;
    if (!isNews || this.#telling) return;
    this.#telling = true;
    const reports = this.#findings.take();
    this.#options.onNews({ reports, problem, missed }).then(
      () => {
        this.#telling = false;
        this.#told = { problem, missed };
      },
      () => {
        this.#telling = false;
        for (const report of reports) this.#findings.add(report);
      },
    );
  }
}

/** CLOCK_MONOTONIC: counted from the boot on Linux, as the kernel's log is. */
function monotonicMs(): number {
  return Number(process.hrtime.bigint() / 1_000n) / 1_000;
}

function codeOf(error: unknown): string {
  const code = error instanceof Error ? (error as NodeJS.ErrnoException).code : undefined;
  return code ?? "unknown error";
}
