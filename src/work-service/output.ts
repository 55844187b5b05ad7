/** What runs have written: their logs while they run, and their results in place. */
import { closeSync, constants, fstatSync, lstatSync, openSync, readFileSync, readSync } from "node:fs";
import { join, normalize } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { WorkError } from "../work/errors.ts";

const STREAMS = ["stdout", "stderr"] as const;
const MAX_FILES = 5;
const FOLLOW_MS = 250;
const MAX_TAIL = 10_000;
const MAX_READ_BYTES = 64 * 2 ** 20;
/** Time, blank. */
const TIME_LENGTH = "1970-01-01T00:00:00.000Z".length;

export interface LogQuery {
  readonly stream: "stdout" | "stderr" | "both";
  readonly tail: number;
  /** An instant in ms; `null`: from the beginning. */
  readonly since: number | null;
}

export interface LogLine {
  readonly time: string;
  readonly stream: "stdout" | "stderr";
  readonly text: string;
}

/** The last lines of a run, of both streams in the order of their times. */
export function logLines(folder: string, { stream, tail, since }: LogQuery): LogLine[] {
  const lines = STREAMS.filter((name) => stream === "both" || stream === name).flatMap((name) =>
    filesOf(folder, name).flatMap((text) => linesIn(text, name)),
  );
  const from = since === null ? "" : new Date(since).toISOString();
  // A sort is stable: lines of one instant stay as they were written.
  return lines
    .filter(({ time }) => time >= from)
    .sort((a, b) => (a.time < b.time ? -1 : a.time > b.time ? 1 : 0))
    .slice(-Math.min(tail, MAX_TAIL));
}

function filesOf(folder: string, name: string): string[] {
  return Array.from({ length: MAX_FILES }, (_, i) => MAX_FILES - 1 - i)
    .map((i) => readPlain(join(folder, "logs", i === 0 ? `${name}.log` : `${name}.log.${i}`)))
    .filter((text) => text !== null)
    .map((bytes) => bytes.toString("utf8"));
}

function linesIn(text: string, stream: LogLine["stream"]): LogLine[] {
  return text
    .split("\n")
    .filter((line) => line.length > TIME_LENGTH)
    .map((line) => ({ time: line.slice(0, TIME_LENGTH), stream, text: line.slice(TIME_LENGTH + 1) }));
}

/** What is written from now on, until `isOver` and nothing more comes. */
export async function* followLogs(
  folder: string,
  stream: LogQuery["stream"],
  isOver: () => boolean,
  signal: AbortSignal,
): AsyncGenerator<readonly LogLine[], void, undefined> {
  const followed = STREAMS.filter((name) => stream === "both" || stream === name).map(
    (name) => new Follower(folder, name, true),
  );
  while (!signal.aborted) {
    // Looked at before the lines: what was written before the end is still told.
    const over = isOver();
    const lines = followed.flatMap((one) => one.next());
    if (lines.length > 0) yield lines;
    else if (over) return;
    else await sleep(FOLLOW_MS, undefined, { signal }).catch(() => undefined);
  }
}

class Follower {
  readonly #path: string;
  readonly #name: LogLine["stream"];
  #inode = 0;
  #position = 0;
  #rest = "";

  constructor(folder: string, name: LogLine["stream"], fromEnd: boolean) {
    this.#path = join(folder, "logs", `${name}.log`);
    this.#name = name;
    if (fromEnd) this.#read(() => undefined);
  }

  next(): LogLine[] {
    let text = this.#rest;
    this.#read((bytes) => {
      text += bytes.toString("utf8");
    });
    const end = text.lastIndexOf("\n") + 1;
    this.#rest = text.slice(end);
    return linesIn(text.slice(0, end), this.#name);
  }

  #read(take: (bytes: Buffer) => void): void {
    let file: number;
    try {
      file = openSync(this.#path, constants.O_RDONLY | constants.O_NOFOLLOW);
    } catch {
      return;
    }
    try {
      const { ino, size } = fstatSync(file);
      // Turned over: what stood in the old one since the last look is in the next file, and left out here.
      if (ino !== this.#inode && this.#inode !== 0) this.#position = 0;
      this.#inode = ino;
      const bytes = Buffer.alloc(Math.min(Math.max(0, size - this.#position), 2 ** 20));
      const count = readSync(file, bytes, 0, bytes.length, this.#position);
      this.#position += count;
      if (count > 0) take(bytes.subarray(0, count));
    } finally {
      closeSync(file);
    }
  }
}

/** A regular file that is no link; `null`: there is none. */
function readPlain(path: string): Buffer | null {
  let file: number;
  try {
    file = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch {
    return null;
  }
  try {
    const stat = fstatSync(file);
    return stat.isFile() && stat.size <= MAX_READ_BYTES ? readFileSync(file) : null;
  } finally {
    closeSync(file);
  }
}

/**
 * A file of a task's results, beneath its folder.
 *
 * @throws WorkError `result-not-found`; so is one that is too large to be answered in one piece.
 */
export function resultFile(resultsDir: string, task: string, path: string): Buffer {
  const inside = normalize(path);
  const parts = inside.split("/");
  const isInside = inside !== "." && !parts.includes("..") && !inside.startsWith("/");
  const folder = join(resultsDir, task);
  const isPlain = parts.slice(0, -1).every((_, i) => isFolder(join(folder, ...parts.slice(0, i + 1))));
  const bytes = isInside && isPlain && isFolder(folder) ? readPlain(join(folder, inside)) : null;
  if (bytes === null)
    throw new WorkError("result-not-found", `task ${task} has no result ${JSON.stringify(path)} of up to 64 MiB`);
  return bytes;
}

function isFolder(path: string): boolean {
  return lstatSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false;
}
