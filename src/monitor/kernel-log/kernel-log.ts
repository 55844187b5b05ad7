/**
 * Reads the kernel's log for errors of GPUs.
 *
 *  1. Nothing here waits: the file is opened without blocking and looked at from time to time, so neither the event loop
 *     nor the exit of the program depends on the kernel having something to say.
 *  2. It is read from the beginning of the kernel's ring, so that what happened before the start is known, too.
 *  3. A flood costs little: a bounded number of records per turn, most of them dropped by their first bytes, errors of
 *     one kind counted together. That the kernel overwrote records meanwhile is counted.
 *  4. News that was not taken is told again.
 */
import { closeSync, constants, openSync, readSync } from "node:fs";
import type { KernelNews, KernelReport, XidReport } from "../../core/readings/xid.ts";
import type { Cancel, Clock } from "../../platform/clock.ts";
import { type KernelRecord, parseRecord } from "./record.ts";
import { isDriverLoading, parseXidLine } from "./xid-line.ts";

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
/** Kinds of errors that are told of at once. */
const MAX_KINDS = 256;

const OURS = Buffer.from("NVRM: ");

export interface KernelLogOptions {
  /** `/dev/kmsg`, or a file or pipe with records of its form. */
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
  readonly #kinds = new Map<string, XidReport>();
  #driverLoaded: KernelReport | null = null;
  #missed = 0;
  #problem: string | null = null;
  /** What was told of last: `null` before the first time. */
  #told: { readonly problem: string | null; readonly missed: number } | null = null;
  #telling = false;
  #cancelTimer: Cancel | null = null;
  #stopped = false;

  constructor(options: KernelLogOptions) {
    this.#options = options;
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
    const pauseMs = this.#problem !== null ? RETRY_MS : more ? NEXT_TURN_MS : POLL_MS;
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
        this.#problem = code === "EAGAIN" ? null : code;
        return false;
      }
      this.#problem = null;
      if (bytes === 0) return false;
      total += bytes;
      this.#take(this.#buffer.subarray(0, bytes));
    }
    return true;
  }

  #close(): void {
    if (this.#descriptor === null) return;
    closeSync(this.#descriptor);
    this.#descriptor = null;
    this.#begun = Buffer.alloc(0);
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
  }

  #line(line: Buffer): void {
    // Most lines are others': they are dropped before they become text.
    if (!line.includes(OURS)) return;
    const record = parseRecord(line.toString("latin1"));
    if (record !== null) this.#note(record);
  }

  #note({ sequence, sinceBootMs, text }: KernelRecord): void {
    if (isDriverLoading(text)) {
      this.#driverLoaded = { kind: "driver-loaded", sequence };
      return;
    }
    const found = parseXidLine(text);
    if (found === null) return;
    const key = `${found.device} ${found.xid} ${found.fatal} ${found.action}`;
    const before = this.#kinds.get(key);
    if (before === undefined && this.#kinds.size >= MAX_KINDS) return;
    const { clock, sinceBootMs: uptime = monotonicMs } = this.#options;
    const now = clock.now();
    const at = Math.round(Math.min(now, now - (uptime() - sinceBootMs)));
    this.#kinds.set(key, { kind: "xid", ...found, sequence, at, count: (before?.count ?? 0) + 1 });
  }

  #tell(): void {
    const problem = this.#problem;
    const missed = this.#missed;
    const reports = [...this.#kinds.values(), ...(this.#driverLoaded === null ? [] : [this.#driverLoaded])];
    const isNews =
      reports.length > 0 || this.#told === null || this.#told.problem !== problem || this.#told.missed !== missed;
    if (!isNews || this.#telling) return;
    this.#telling = true;
    this.#kinds.clear();
    this.#driverLoaded = null;
    this.#options.onNews({ reports, problem, missed }).then(
      () => {
        this.#telling = false;
        this.#told = { problem, missed };
      },
      () => {
        this.#telling = false;
        for (const report of reports) this.#untold(report);
      },
    );
  }

  /** Puts back what was not taken, under what has come since. */
  #untold(report: KernelReport): void {
    if (report.kind === "driver-loaded") {
      this.#driverLoaded ??= report;
      return;
    }
    const key = `${report.device} ${report.xid} ${report.fatal} ${report.action}`;
    const since = this.#kinds.get(key);
    this.#kinds.set(key, since === undefined ? report : { ...since, count: since.count + report.count });
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
