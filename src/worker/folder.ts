/**
 * What is on disk of one run. The files are how worker and holder talk: each is written once, whole or not at all, and
 * tells a worker that starts later all that happened before it.
 *
 *  1. The folder is there before anything is started, and a folder is started at most once.
 *  2. `order.json` is made by whoever is first, the worker or one that takes over from it: the other takes it up.
 *  3. `holder.json` is made by whoever is first, the holder or a worker that gives the start up: never by both.
 *  4. Only the order outlasts a power cut for sure, and is there before anything is started: by it a run is known to have
 *     been begun. After a boot the rest says nothing more, so no start and no end waits for a disk on its account.
 */
import {
  closeSync,
  existsSync,
  fsync,
  linkSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import type { Assignment } from "../work/model.ts";
import { type HolderName, processOf } from "./processes.ts";

export interface Order {
  readonly run: string;
  /** Which books it is of: those of others are left alone. */
  readonly books: string;
  readonly epoch: number;
  readonly bootId: string;
  readonly orderedAt: number;
  readonly argv: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly cwd: string;
  readonly logs: string;
  readonly maxLogBytes: number;
  readonly maxLogFiles: number;
  /** Written to, with the holder's number, before and after the command is started: so that only it is in the cage. */
  readonly enter: readonly string[];
  readonly leave: readonly string[];
  readonly cage: CageRecord;
  readonly graceMs: number;
  readonly port: number | null;
  /** Whose files it writes; left out: its container maps them, or it was begun by an older version. */
  readonly uid?: number;
  readonly probes: Probes;
  /** What removes its container, whatever it does; left out: it has none. */
  readonly remove?: readonly string[];
  /** Left out: it goes on, whatever is heard of the controller. */
  readonly fence?: Fence;
  /** As it was told, so that other books can take it; left out: it is over, or was begun by an older version. */
  readonly assignment?: Assignment;
}

/** A run that may start elsewhere when nothing is heard of its node: it must be over by then. */
export interface Fence {
  /** Written by the daemon when a heartbeat was answered: `HEARD_FILE`. */
  readonly file: string;
  readonly withinMs: number;
  readonly signal: string;
  readonly graceMs: number;
}

export interface CageRecord {
  readonly kind: "systemd" | "cgroup" | "pidns" | "session";
  /** Folders of control groups, to be removed at the end. */
  readonly groups: readonly string[];
  /** Which limits hold. */
  readonly limits: readonly string[];
}

export interface Probes {
  readonly readiness: { readonly http: string; readonly intervalMs: number } | null;
  readonly liveness: {
    readonly completion: boolean;
    readonly intervalMs: number;
    readonly timeoutMs: number;
    readonly failures: number;
  } | null;
  readonly host: string;
  readonly model: string | null;
}

export type Beginning = (HolderName & { readonly at: number }) | { readonly givenUp: true };

export interface Exit {
  readonly code: number | null;
  readonly signal: string | null;
  readonly at: number;
  /** It could not be started at all. */
  readonly error: string | null;
  /** Something of it was ended for want of memory, as its transient unit tells; left out: nothing, or others tell. */
  readonly oom?: true;
  /** The same instant by the host's uptime; left out by a holder of an older version. */
  readonly atUptimeMs?: number;
}

export interface StopOrder {
  readonly signal: string;
  readonly graceMs: number;
  readonly to: "main" | "group";
  readonly at: number;
  /** Beyond what was ordered: `unhealthy`. */
  readonly why: "unhealthy" | null;
}

const FILES = {
  order: "order.json",
  holder: "holder.json",
  child: "child.json",
  exit: "exit.json",
  stop: "stop.json",
  end: "end.json",
  published: "published.json",
  settled: "settled.json",
  fenced: "fenced.json",
  adopted: "adopted.json",
} as const;
export type FileName = keyof typeof FILES;

export function pathIn(folder: string, name: FileName): string {
  return join(folder, FILES[name]);
}

/** A file in place of the folder is none of a run's. */
const ABSENT: ReadonlySet<string> = new Set(["ENOENT", "ENOTDIR"]);

/** `null`: it is not there yet, or a power cut has left its name without what it said. */
export function readIn<T>(folder: string, name: FileName): T | null {
  try {
    return JSON.parse(readFileSync(pathIn(folder, name), "utf8")) as T;
  } catch (error) {
    if (error instanceof SyntaxError || ABSENT.has((error as NodeJS.ErrnoException).code ?? "")) return null;
    throw error;
  }
}

/** Whole or not at all, whoever dies. Two workers may write at once, until one is refused. */
export function writeIn(folder: string, name: FileName, value: unknown): void {
  const path = pathIn(folder, name);
  const draft = `${path}.${process.pid}`;
  write(draft, value, name === "order");
  renameSync(draft, path);
}

/** As {@link writeIn}, for what outlasts a power cut and nobody waits for. */
export async function writeLater(folder: string, name: FileName, value: unknown): Promise<void> {
  const path = pathIn(folder, name);
  const draft = `${path}.${process.pid}.later`;
  await flushed(draft, value);
  renameSync(draft, path);
}

/**
 * Makes a file that must not be there, whole or not at all.
 *
 * @returns false when somebody else was first.
 */
export function claimIn(folder: string, name: FileName, value: unknown): boolean {
  const draft = `${pathIn(folder, name)}.${process.pid}`;
  write(draft, value, name === "order");
  return isFirst(draft, pathIn(folder, name));
}

/**
 * As {@link claimIn}, on the disk when it resolves, its name and its folder's too: a run that is known by nothing would
 * be started once more after a power cut. Others are served meanwhile.
 */
export async function claimDurably(folder: string, name: FileName, value: unknown): Promise<boolean> {
  const draft = `${pathIn(folder, name)}.${process.pid}`;
  await Promise.all([flushed(draft, value), flushedNames(dirname(folder))]);
  if (!isFirst(draft, pathIn(folder, name))) return false;
  await flushedNames(folder);
  return true;
}

/** What workers that died in the middle have left of their orders, secrets among it. */
export function removeDrafts(folder: string): void {
  const isDraft = (file: string) => file.startsWith(`${FILES.order}.`);
  for (const file of readdirSync(folder).filter(isDraft)) rmSync(join(folder, file), { force: true });
}

/** What a run writes; `out.` and the name of a worker's process while that puts it in place. */
export const OUT = "out";

export function outputOf(pid: number): string {
  const found = processOf(pid);
  return `${OUT}.${found?.pid ?? 0}-${found?.startTime ?? 0}`;
}

/** Whose output by this name it is, and whether that process still lives; `null`: nobody's. */
export function holderOfOutput(name: string): { readonly pid: number; readonly lives: boolean } | null {
  const [, pid] = /^out\.(\d+)-\d+$/.exec(name) ?? [];
  return pid === undefined ? null : { pid: Number(pid), lives: name === outputOf(Number(pid)) };
}

/** Nothing of it is of use once it is in place, or is not wanted: but who puts it there, and lives, has it until then. */
export function removeOutput(folder: string): void {
  for (const name of readdirSync(folder)) {
    if (name !== OUT && !name.startsWith(`${OUT}.`)) continue;
    const holder = holderOfOutput(name);
    if (holder?.lives === true && holder.pid !== process.pid) continue;
    rmSync(join(folder, name), { recursive: true, force: true });
  }
}

function isFirst(draft: string, path: string): boolean {
  try {
    // A link, other than a new name, does not replace what is there.
    linkSync(draft, path);
    return true;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    // Whoever was first has removed the drafts of others with it, where it was over before it began.
    if (code === "EEXIST" || (code === "ENOENT" && existsSync(path))) return false;
    throw error;
  } finally {
    rmSync(draft, { force: true });
  }
}

function write(path: string, value: unknown, flush: boolean): void {
  writeFileSync(path, JSON.stringify(value), { mode: 0o600, flush });
}

/** All that takes long of it: the rest would only wait for a thread. */
const flush = promisify(fsync);

async function flushed(path: string, value: unknown): Promise<void> {
  const file = openSync(path, "w", 0o600);
  try {
    writeSync(file, JSON.stringify(value));
    await flush(file);
  } finally {
    closeSync(file);
  }
}

async function flushedNames(folder: string): Promise<void> {
  const file = openSync(folder, "r");
  try {
    await flush(file);
  } finally {
    closeSync(file);
  }
}

export function makeFolder(path: string, mode: number): void {
  mkdirSync(path, { recursive: true, mode });
}
