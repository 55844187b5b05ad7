/** What a run writes, line by line with its time, in files that are turned over when they are full. */
import { closeSync, fstatSync, openSync, renameSync, rmSync, writeSync } from "node:fs";

/** A line longer than this is cut: a program that writes none must not fill the memory. */
const MAX_LINE_BYTES = 16_384;
const NEWLINE = 10;

export class LogFile {
  readonly #path: string;
  readonly #maxBytes: number;
  readonly #maxFiles: number;
  readonly #now: () => number;
  #file: number | null = null;
  #size = 0;
  #rest: Buffer = Buffer.alloc(0);
  /** Lines that could not be written: a full disk must not hold the program up. */
  dropped = 0;

  constructor(path: string, maxBytes: number, maxFiles: number, now: () => number = Date.now) {
    this.#path = path;
    this.#maxBytes = maxBytes;
    this.#maxFiles = maxFiles;
    this.#now = now;
  }

  write(chunk: Buffer): void {
    let text = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
    const lines: Buffer[] = [];
    for (let end = text.indexOf(NEWLINE); end !== -1; end = text.indexOf(NEWLINE)) {
      lines.push(text.subarray(0, end));
      text = text.subarray(end + 1);
    }
    while (text.length >= MAX_LINE_BYTES) {
      lines.push(text.subarray(0, MAX_LINE_BYTES));
      text = text.subarray(MAX_LINE_BYTES);
    }
    // A copy: what a chunk of the pipe was cut from must not stay for its last line.
    this.#rest = Buffer.from(text);
    this.#append(lines);
  }

  end(): void {
    if (this.#rest.length > 0) this.#append([this.#rest]);
    this.#rest = Buffer.alloc(0);
    if (this.#file !== null) closeSync(this.#file);
    this.#file = null;
  }

  #append(lines: readonly Buffer[]): void {
    if (lines.length === 0) return;
    const time = Buffer.from(`${new Date(this.#now()).toISOString()} `);
    const bytes = Buffer.concat(lines.flatMap((line) => [time, line, Buffer.from("\n")]));
    try {
      if (this.#file === null) this.#open();
      if (this.#size > 0 && this.#size + bytes.length > this.#maxBytes) this.#turnOver();
      for (let from = 0; from < bytes.length; ) from += writeSync(this.#file as number, bytes, from);
      this.#size += bytes.length;
    } catch {
      this.dropped += lines.length;
    }
  }

  #open(): void {
    this.#file = openSync(this.#path, "a", 0o640);
    this.#size = fstatSync(this.#file).size;
  }

  #turnOver(): void {
    closeSync(this.#file as number);
    this.#file = null;
    rmSync(`${this.#path}.${this.#maxFiles - 1}`, { force: true });
    for (let i = this.#maxFiles - 2; i >= 0; i--) {
      const from = i === 0 ? this.#path : `${this.#path}.${i}`;
      try {
        renameSync(from, `${this.#path}.${i + 1}`);
      } catch {
        // There are not so many yet.
      }
    }
    this.#open();
  }
}
