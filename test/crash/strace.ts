/**
 * What a program told the system to write, as strace (strace.io, strace(1)) saw it: the real write log of a database.
 *
 * strace runs with `-f -y -xx`: a line begins with a thread's id, each descriptor is followed by its path in `<>`, and
 * every byte of a text is `\xHH`. A call that another thread's line interrupts stands on two lines, `<unfinished ...>`
 * and `<... NAME resumed>`. A write counts from its begin, a sync from its end.
 */
import { spawnSync } from "node:child_process";
import { closeSync, openSync, readSync } from "node:fs";
import { dirname } from "node:path";
import type { Operation } from "./write-log.ts";

/** Longest text that is kept of one call: a page of the database with room to spare. */
const KEPT_BYTES = 8_192;
const CALLS =
  "openat,open,write,writev,pwrite64,pwritev,sendto,sendmsg,fsync,fdatasync,ftruncate,unlink,unlinkat,rename";

/** Whether strace is here and may trace. */
export const canTrace = spawnSync("strace", ["-o", "/dev/null", "true"], { stdio: "ignore" }).status === 0;

/**
 * What to put before a command so that its calls are written to `file`.
 *
 * @param aside the command is the caller's own child, and gets its signals; otherwise strace is, and all of the trace is
 *   there when it has ended.
 */
export function traced(file: string, aside = false): readonly string[] {
  return [
    "strace",
    ...(aside ? ["-D"] : []),
    "-f",
    "-y",
    "-xx",
    "-s",
    String(KEPT_BYTES),
    "-e",
    `trace=${CALLS}`,
    "-o",
    file,
  ];
}

/** Something that the program sent or printed: the first bytes of it, as text. */
export interface Sent {
  readonly type: "sent";
  readonly text: string;
}

interface Call {
  readonly name: string;
  /** All between the parentheses. */
  readonly args: string;
  readonly result: string;
}

/** The calls of `traceFile` that touch the database `database` or its folder, and all that was sent. */
export function* readTrace(traceFile: string, database: string): Generator<Operation | Sent, void, undefined> {
  const known = new Set<string>();
  for (const { name, args, result } of callsOf(traceFile)) {
    if (/^-1 /.test(result)) continue;
    switch (name) {
      case "open":
      case "openat": {
        const file = fileOf(textsIn(args)[0] ?? "", database);
        if (file === null || known.has(file) || !args.includes("O_CREAT")) break;
        known.add(file);
        yield { type: "create", file };
        break;
      }
      case "unlink":
      case "unlinkat": {
        const file = fileOf(textsIn(args)[0] ?? "", database);
        if (file === null || !known.delete(file)) break;
        yield { type: "remove", file };
        break;
      }
      default: {
        const path = pathIn(args);
        const operation = path === dirname(database) ? onFolder(name) : onFile(name, args, fileOf(path, database));
        if (operation !== null) yield operation;
      }
    }
  }
}

/** All files and folders that were synced at least once. */
export function syncedPaths(traceFile: string): ReadonlySet<string> {
  const paths = new Set<string>();
  for (const { name, args, result } of callsOf(traceFile)) {
    if (SYNCS.has(name) && result.startsWith("0")) paths.add(pathIn(args));
  }
  return paths;
}

function onFolder(name: string): Operation | null {
  return SYNCS.has(name) ? { type: "sync-folder" } : null;
}

function onFile(name: string, args: string, file: string | null): Operation | Sent | null {
  switch (name) {
    case "fsync":
    case "fdatasync":
      return file === null ? null : { type: "sync", file };
    case "ftruncate":
      return file === null ? null : { type: "truncate", file, size: lastNumber(args) };
    case "pwrite64": {
      if (file === null) return null;
      const bytes = Buffer.from(textsIn(args)[0] ?? "", "latin1");
      return { type: "write", file, offset: lastNumber(args), bytes };
    }
    case "write":
    case "writev":
    case "sendto":
    case "sendmsg":
      if (file !== null) throw new Error(`the database was written by ${name}, which says no offset`);
      return { type: "sent", text: textsIn(args).join("") };
    default:
      if (file !== null) throw new Error(`what does ${name} do to the database?`);
      return null;
  }
}

/** What comes after the name of the database; `null` for files whose contents do not outlive a power cut or do not matter. */
function fileOf(path: string, database: string): string | null {
  const file = path.startsWith(database) ? path.slice(database.length) : null;
  return file === "" || file === "-wal" || file === "-journal" ? file : null;
}

function lastNumber(args: string): number {
  return Number(/(\d+)$/.exec(args)?.[1]);
}

/** The path of the descriptor that is the first argument. */
function pathIn(args: string): string {
  return decoded(/^\d+<([^>]*)>/.exec(args)?.[1] ?? "");
}

function textsIn(args: string): string[] {
  return [...args.matchAll(/"((?:\\x[0-9a-f]{2})*)"/g)].map(([, text]) => decoded(text as string));
}

/** One character for each byte. */
function decoded(escaped: string): string {
  return Buffer.from(escaped.replaceAll("\\x", ""), "hex").toString("latin1");
}

const WHOLE = /^(\w+)\((.*)\)\s+= (.*)$/;
const BEGUN = /^(\w+)\((.*?),? *<unfinished \.\.\.>$/;
const RESUMED = /^<\.\.\. (\w+) resumed>(.*)\)\s+= (.*)$/;
const SYNCS: ReadonlySet<string> = new Set(["fsync", "fdatasync"]);

function* callsOf(traceFile: string): Generator<Call, void, undefined> {
  /** By thread: syncs that have begun. */
  const begun = new Map<string, string>();
  for (const line of linesOf(traceFile)) {
    const space = line.indexOf(" ");
    const thread = line.slice(0, space);
    const text = line.slice(space).trimStart();
    const whole = WHOLE.exec(text);
    const start = whole === null ? BEGUN.exec(text) : null;
    const end = whole === null && start === null ? RESUMED.exec(text) : null;
    if (whole !== null) yield { name: whole[1] as string, args: whole[2] as string, result: whole[3] as string };
    else if (start !== null) {
      const [, name = "", args = ""] = start;
      if (SYNCS.has(name)) begun.set(thread, args);
      // Whether it will succeed is not known yet; a write that fails ends the test's program anyway.
      else yield { name, args, result: "" };
    } else if (end !== null) {
      const [, name = "", , result = ""] = end;
      if (SYNCS.has(name)) yield { name, args: begun.get(thread) ?? "", result };
    }
  }
}

/** Some tens of megabytes, which need not be one text. */
function* linesOf(file: string): Generator<string, void, undefined> {
  const descriptor = openSync(file, "r");
  try {
    const chunk = Buffer.alloc(1 << 20);
    let rest = "";
    for (let length = readSync(descriptor, chunk); length > 0; length = readSync(descriptor, chunk)) {
      const lines = (rest + chunk.toString("latin1", 0, length)).split("\n");
      rest = lines.pop() ?? "";
      yield* lines;
    }
    if (rest !== "") yield rest;
  } finally {
    closeSync(descriptor);
  }
}
