/** What runs have written: their logs while they run, and their results in place. */
import { constants } from "node:fs";
import { type FileHandle, lstat, open } from "node:fs/promises";
import { join, normalize } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { WorkError } from "../work/errors.ts";

const STREAMS = ["stdout", "stderr"] as const;
const MAX_FILES = 5;
const FOLLOW_MS = 250;
const MAX_TAIL = 10_000;
/** What is read of a stream for its last lines. */
const MAX_TAIL_BYTES = 16 * 2 ** 20;
const MAX_READ_BYTES = 64 * 2 ** 20;
/** More than the longest line that a worker writes. */
const PIECE_BYTES = 2 ** 16;
const NEWLINE = 10;
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

/** How far a stream was written when somebody began to follow it. */
interface Mark {
  /** 0: there was no file. */
  readonly inode: number;
  readonly position: number;
}

type Marks = ReadonlyMap<LogLine["stream"], Mark>;

/** The last lines of a run, of both streams in the order of their times, and of each no more than 16 MiB. */
export async function logLines(folder: string, query: LogQuery, until: Marks = new Map()): Promise<LogLine[]> {
  const tail = Math.min(query.tail, MAX_TAIL);
  if (tail === 0) return [];
  const streams = await Promise.all(
    streamsOf(query).map((name) => lastLines(folder, name, tail, query.since, until.get(name) ?? null)),
  );
  // A sort is stable: lines of one instant stay as they were written.
  return streams
    .flat()
    .sort((a, b) => (a.time < b.time ? -1 : a.time > b.time ? 1 : 0))
    .slice(-tail);
}

function streamsOf({ stream }: LogQuery): LogLine["stream"][] {
  return STREAMS.filter((name) => stream === "both" || stream === name);
}

async function lastLines(
  folder: string,
  name: LogLine["stream"],
  tail: number,
  since: number | null,
  until: Mark | null,
): Promise<LogLine[]> {
  const from = since === null ? "" : new Date(since).toISOString();
  const pieces: LogLine[][] = [];
  let count = 0;
  for await (const lines of backwards(folder, name, until)) {
    const wanted = lines.filter(({ time }) => time >= from);
    pieces.push(wanted);
    count += wanted.length;
    // What stands before an older line is older still.
    if (count >= tail || wanted.length < lines.length || pieces.length * PIECE_BYTES >= MAX_TAIL_BYTES) break;
  }
  return pieces.reverse().flat().slice(-tail);
}

/** A stream's lines in pieces, the newest piece first. What the caller does not ask for is not read. */
async function* backwards(
  folder: string,
  name: LogLine["stream"],
  until: Mark | null,
): AsyncGenerator<LogLine[], void, undefined> {
  const seen = new Set<number>();
  let isBefore = until === null;
  for (let i = 0; i < MAX_FILES; i++) {
    const file = await openPlain(logPath(folder, name, i));
    if (file === null) continue;
    try {
      const { handle, inode, size } = file;
      const isMarked = inode === until?.inode;
      isBefore ||= isMarked;
      // A file that is turned over meanwhile is met again under its next name.
      if (isBefore && !seen.has(inode)) yield* piecesBackwards(handle, isMarked ? until.position : size, name);
      seen.add(inode);
    } finally {
      await file.handle.close();
    }
  }
}

async function* piecesBackwards(
  handle: FileHandle,
  size: number,
  name: LogLine["stream"],
): AsyncGenerator<LogLine[], void, undefined> {
  let rest: Buffer = Buffer.alloc(0);
  for (let end = size; end > 0; ) {
    const begin = Math.max(0, end - PIECE_BYTES);
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(end - begin), 0, end - begin, begin);
    const bytes = Buffer.concat([buffer.subarray(0, bytesRead), rest]);
    // The first line begins in the piece before. Without any newline it is none of a worker's, and is cut.
    const cut = begin === 0 ? 0 : bytes.indexOf(NEWLINE) + 1;
    rest = bytes.subarray(0, cut);
    yield linesIn(bytes.subarray(cut), name);
    end = begin;
  }
}

function logPath(folder: string, name: LogLine["stream"], i: number): string {
  return join(folder, "logs", i === 0 ? `${name}.log` : `${name}.log.${i}`);
}

/** @param bytes whole lines, so that no character is cut in two. */
function linesIn(bytes: Buffer, stream: LogLine["stream"]): LogLine[] {
  return bytes
    .toString("utf8")
    .split("\n")
    .filter((line) => line.length > TIME_LENGTH)
    .map((line) => ({ time: line.slice(0, TIME_LENGTH), stream, text: line.slice(TIME_LENGTH + 1) }));
}

/** The last lines first, then what is written from now on, until `isOver` and nothing more comes. */
export async function* followLogs(
  folder: string,
  query: LogQuery,
  isOver: () => boolean,
  signal: AbortSignal,
): AsyncGenerator<readonly LogLine[], void, undefined> {
  const followed = streamsOf(query).map((name) => new Follower(folder, name));
  try {
    // The past ends where the news begin, so that no line is lost or told twice.
    const marks = await Promise.all(followed.map(async (one) => [one.name, await one.begin()] as const));
    yield await logLines(folder, query, new Map(marks));
    while (!signal.aborted) {
      // Looked at before the lines: what was written before the end is still told.
      const over = isOver();
      const news = await Promise.all(followed.map((one) => one.next()));
      const lines = news.flatMap((some) => some ?? []);
      if (lines.length > 0) yield lines;
      if (news.some((some) => some !== null)) continue;
      if (over) return;
      await sleep(FOLLOW_MS, undefined, { signal }).catch(() => undefined);
    }
  } finally {
    await Promise.all(followed.map((one) => one.close()));
  }
}

/** Reads a stream as it grows. It keeps its file open: one that is turned over is read to its end. */
class Follower {
  readonly name: LogLine["stream"];
  readonly #folder: string;
  #file: PlainFile | null = null;
  #position = 0;
  #rest: Buffer = Buffer.alloc(0);

  constructor(folder: string, name: LogLine["stream"]) {
    this.#folder = folder;
    this.name = name;
  }

  async begin(): Promise<Mark> {
    for (let i = 0; i < MAX_FILES && this.#file === null; i++) this.#file = await openPlain(this.#path(i));
    this.#position = this.#file?.size ?? 0;
    return { inode: this.#file?.inode ?? 0, position: this.#position };
  }

  /** @returns the lines of the next piece; `null`: nothing has been written since. */
  async next(): Promise<LogLine[] | null> {
    const lines = await this.#read();
    if (lines !== null) return lines;
    const newer = await this.#newer();
    if (newer === null) return null;
    // Written after the look above and before the file was turned over.
    const last = await this.#read();
    if (last !== null) {
      await newer.handle.close();
      return last;
    }
    await this.close();
    this.#file = newer;
    this.#position = 0;
    this.#rest = Buffer.alloc(0);
    return [];
  }

  async close(): Promise<void> {
    await this.#file?.handle.close();
    this.#file = null;
  }

  async #read(): Promise<LogLine[] | null> {
    if (this.#file === null) return null;
    const { buffer, bytesRead } = await this.#file.handle.read(
      Buffer.alloc(PIECE_BYTES),
      0,
      PIECE_BYTES,
      this.#position,
    );
    if (bytesRead === 0) return null;
    this.#position += bytesRead;
    const bytes = Buffer.concat([this.#rest, buffer.subarray(0, bytesRead)]);
    const newline = bytes.lastIndexOf(NEWLINE) + 1;
    // So much without a newline is none of a worker's lines: it is cut, and not kept until one comes.
    const end = newline === 0 && bytes.length >= PIECE_BYTES ? bytes.length : newline;
    this.#rest = Buffer.from(bytes.subarray(end));
    return linesIn(bytes.subarray(0, end), this.name);
  }

  /** The file after the present one: the oldest where that is gone; `null`: there is none. */
  async #newer(): Promise<PlainFile | null> {
    let present = 0;
    while (present < MAX_FILES && !(await this.#isAt(present))) present++;
    for (let i = present - 1; i >= 0; i--) {
      const file = await openPlain(this.#path(i));
      if (file !== null) return file;
    }
    return null;
  }

  async #isAt(i: number): Promise<boolean> {
    if (this.#file === null) return false;
    const { inode } = this.#file;
    return lstat(this.#path(i)).then(
      ({ ino }) => ino === inode,
      () => false,
    );
  }

  #path(i: number): string {
    return logPath(this.#folder, this.name, i);
  }
}

interface PlainFile {
  readonly handle: FileHandle;
  readonly inode: number;
  readonly size: number;
}

/** A regular file that is no link; `null`: there is none. */
async function openPlain(path: string): Promise<PlainFile | null> {
  const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
  const handle = await open(path, flags).catch(() => null);
  if (handle === null) return null;
  const stat = await handle.stat();
  if (stat.isFile()) return { handle, inode: stat.ino, size: stat.size };
  await handle.close();
  return null;
}

/**
 * A file of a task's results, beneath its folder.
 *
 * @throws WorkError `result-not-found`; so is one that is too large to be answered in one piece.
 */
export async function resultFile(resultsDir: string, task: string, path: string): Promise<Buffer> {
  const inside = normalize(path);
  const parts = inside.split("/");
  const isInside = inside !== "." && !parts.includes("..") && !inside.startsWith("/");
  const bytes = isInside ? await readBeneath(join(resultsDir, task), parts) : null;
  if (bytes === null)
    throw new WorkError("result-not-found", `task ${task} has no result ${JSON.stringify(path)} of up to 64 MiB`);
  return bytes;
}

async function readBeneath(folder: string, parts: readonly string[]): Promise<Buffer | null> {
  for (let i = 0; i < parts.length; i++) {
    if (!(await isFolder(join(folder, ...parts.slice(0, i))))) return null;
  }
  const file = await openPlain(join(folder, ...parts));
  if (file === null) return null;
  try {
    return file.size <= MAX_READ_BYTES ? await file.handle.readFile() : null;
  } finally {
    await file.handle.close();
  }
}

/** Whatever cannot be looked up, such as a name that is too long, is none. */
function isFolder(path: string): Promise<boolean> {
  return lstat(path).then(
    (stat) => stat.isDirectory(),
    () => false,
  );
}
