/**
 * Two ways to get the write log of a database that real turns were committed to: by looking at its files after each
 * acknowledged turn, which takes for granted when they were synced, and by strace, which takes nothing for granted.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { readTrace, traced } from "./strace.ts";
import { REPORT_BEGINS, type Report } from "./turn-player.ts";
import type { Operation } from "./write-log.ts";

export interface Recording {
  readonly log: readonly Operation[];
  /** How many operations of the log only lead to where it begins: the power cannot be cut among them. */
  readonly given: number;
  /** One for each turn, in order. */
  readonly reports: readonly Report[];
}

export interface Play {
  readonly file: string;
  readonly seed: number;
  readonly turns: number;
  /** In which thread the store writes. */
  readonly where: "here" | "thread";
}

type Write = Extract<Operation, { type: "write" }>;
type Contents = Readonly<Record<"" | "-wal", Buffer>>;

const NOTHING = Buffer.alloc(0);
const PLAYER = fileURLToPath(new URL("./turn-player.ts", import.meta.url));
/** SQLite's format of the log: a header, then frames of a header and a page (sqlite.org/fileformat.html, section 4). */
const LOG_HEADER_BYTES = 32;
const FRAME_HEADER_BYTES = 24;
const PAGE_BYTES = 4_096;

/** Runs the player to its end; `look` at the files while it waits after each turn. */
async function play({ file, seed, turns, where }: Play, under: readonly string[], look: (report: Report) => void) {
  const player = [process.execPath, "--disable-warning=ExperimentalWarning", PLAYER];
  const [program = "", ...args] = [...under, ...player, file, String(seed), String(turns), where];
  const child: ChildProcess = spawn(program, args, { stdio: ["pipe", "pipe", "inherit"] });
  const gone = once(child, "exit");
  const reports: Report[] = [];
  if (child.stdin === null || child.stdout === null) throw new Error("the player has no pipes");
  child.stdin.on("error", () => undefined);
  for await (const line of createInterface({ input: child.stdout })) {
    const report = JSON.parse(line) as Report;
    reports.push(report);
    look(report);
    child.stdin.write("\n");
    if (report.n >= turns) child.stdin.end();
  }
  const [code] = await gone;
  if (code !== 0) throw new Error(`the player ended with ${code}`);
  return reports;
}

/** By looking. The log begins with the first turn on disk. */
export async function recordByLooking(how: Play): Promise<Recording> {
  const log: Operation[] = [];
  let before: Contents | null = null;
  const reports = await play(how, [], ({ n }) => {
    const now = { "": readFileSync(how.file), "-wal": readFileSync(`${how.file}-wal`) };
    log.push(...(before === null ? beginning(now) : changes(before, now)), { type: "acknowledged", turn: n });
    before = now;
  });
  return { log, given: log.findIndex(({ type }) => type === "acknowledged") + 1, reports };
}

function beginning(files: Contents): Operation[] {
  const made = Object.entries(files).flatMap(([file, bytes]): Operation[] => [
    { type: "create", file },
    { type: "write", file, offset: 0, bytes },
    { type: "sync", file },
  ]);
  return [...made, { type: "sync-folder" }];
}

/**
 * SQLite's order: frames go to the log and are synced, then a checkpoint may take them to the database. The log is begun
 * anew, or removed, only when all of it is synced there; its new header is synced by itself.
 */
function changes(before: Contents, now: Contents): Operation[] {
  const anew = !now["-wal"].subarray(0, LOG_HEADER_BYTES).equals(before["-wal"].subarray(0, LOG_HEADER_BYTES));
  const removed = now["-wal"].length < before["-wal"].length;
  const pages = synced(differences("", before[""], now[""], pagePieces));
  const logged = differences("-wal", removed ? NOTHING : before["-wal"], now["-wal"], framePieces);
  const header = synced(logged.filter(({ offset }) => offset === 0));
  const frames = synced(logged.filter(({ offset }) => offset > 0));
  if (!anew) return [...frames, ...pages];
  if (!removed) return [...pages, ...header, ...frames];
  const renamed: Operation[] = [
    { type: "remove", file: "-wal" },
    { type: "create", file: "-wal" },
  ];
  return [...pages, ...renamed, ...header, { type: "sync-folder" }, ...frames];
}

function synced(writes: readonly Write[]): Operation[] {
  const [first] = writes;
  return first === undefined ? [] : [...writes, { type: "sync", file: first.file }];
}

/** The pieces of a file in which `now` differs from `before`, as they were written. */
function differences(file: string, before: Buffer, now: Buffer, pieces: (bytes: number) => Iterable<[number, number]>) {
  const writes: Write[] = [];
  for (const [offset, end] of pieces(now.length)) {
    const bytes = now.subarray(offset, end);
    if (!bytes.equals(before.subarray(offset, end))) writes.push({ type: "write", file, offset, bytes });
  }
  return writes;
}

function* pagePieces(length: number): Generator<[number, number]> {
  for (let at = 0; at < length; at += PAGE_BYTES) yield [at, at + PAGE_BYTES];
}

function* framePieces(length: number): Generator<[number, number]> {
  yield [0, LOG_HEADER_BYTES];
  for (let at = LOG_HEADER_BYTES; at < length; at += FRAME_HEADER_BYTES + PAGE_BYTES) {
    yield [at, at + FRAME_HEADER_BYTES];
    yield [at + FRAME_HEADER_BYTES, at + FRAME_HEADER_BYTES + PAGE_BYTES];
  }
}

/** By strace, which writes to the file `trace`. The log begins with the making of the database. */
export async function recordByTracing(how: Play, trace = `${how.file}.trace`): Promise<Recording> {
  const reports = await play(how, traced(trace), () => undefined);
  const log: Operation[] = [];
  for (const operation of readTrace(trace, how.file)) {
    if (operation.type !== "sent") log.push(operation);
    else if (operation.text.startsWith(REPORT_BEGINS)) {
      const turn = Number(/\d+/.exec(operation.text)?.[0]);
      log.push({ type: "acknowledged", turn });
    }
  }
  return { log, given: 0, reports };
}
