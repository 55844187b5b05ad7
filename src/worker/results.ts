/**
 * Puts what a run wrote into its task's place: `RESULTS_DIR/<task>/`.
 *
 * Two workers may be told to at once, one of them about to hear that the other has taken over. Whoever renames the run's
 * output has it, under its own name, until it is in place or its process is dead; the other touches nothing, and says so.
 */
import {
  chmodSync,
  chownSync,
  copyFileSync,
  cpSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { isAbsolute, join, normalize } from "node:path";
import { mergedResponses } from "../work/merge.ts";
import { holderOfOutput, type Order, OUT, outputOf, readIn } from "./folder.ts";
import { type RunEnd, readPlain } from "./watch.ts";

/** Deeper or more than this is not kept. */
const MAX_DEPTH = 16;
const MAX_FILES = 100_000;
const MAX_RESULT_BYTES = 64 * 2 ** 20;

export interface Publication {
  readonly run: string;
  readonly task: string;
  readonly replica: number;
  readonly replicas: number;
  readonly artifacts: readonly string[];
}

/**
 * Whatever was there of an earlier run of this replica is replaced. Doing it twice does no harm.
 *
 * @returns false when another process that lives has it: it is not known yet what becomes of it.
 */
export function publish(
  folder: string,
  end: RunEnd,
  { run, task, replica, replicas, artifacts }: Publication,
  resultsDir: string,
): boolean {
  const root = join(resultsDir, task);
  const place = replicas === 1 ? root : join(root, "replicas", String(replica));
  const claim = claimed(folder);
  if (claim === "another's") return false;
  const out = claim?.out ?? null;
  // Of one that died while it copied.
  rmSync(draftOf(place), { recursive: true, force: true });
  if (out !== null) {
    clean(out, 0, { files: 0 }, ownersOf(folder, claim?.isResumed === true));
    // What the run has put where the worker writes would be in its way.
    for (const name of ["manifest.json", "logs"]) rmSync(join(out, name), { recursive: true, force: true });
    const responses = join(out, "responses.json");
    if (!existsSync(responses)) {
      writeFileSync(responses, JSON.stringify({ ok: end.exitCode === 0, exit_code: end.exitCode }));
    }
    writeFileSync(
      join(out, "manifest.json"),
      JSON.stringify({ run, artifacts: artifacts.map((path) => present(out, path)) }),
    );
    linkAll(join(folder, "logs"), join(out, "logs"));
    mkdirSync(join(place, ".."), { recursive: true });
    replace(out, place);
  }
  if (replicas > 1) merge(root, replicas);
  return true;
}

/**
 * Whose files are kept: what a program has only moved into its output is not its own to show. `null`: anybody's.
 *
 * @param isResumed what was cleaned before is the worker's own by now.
 */
function ownersOf(folder: string, isResumed: boolean): ReadonlySet<number> | null {
  const uid = readIn<Order>(folder, "order")?.uid;
  // Root may read everything anyway.
  if (uid === undefined || uid === 0) return null;
  return new Set(isResumed ? [uid, process.getuid?.() ?? 0] : [uid]);
}

interface Claim {
  readonly out: string;
  /** Somebody has begun with it before. */
  readonly isResumed: boolean;
}

/** @returns where its output is, as long as this process lives; `null`: it is in its place, or there was none. */
function claimed(folder: string): Claim | "another's" | null {
  const own = join(folder, outputOf(process.pid));
  if (existsSync(own)) return { out: own, isResumed: true };
  if (isMoved(join(folder, OUT), own)) return { out: own, isResumed: false };
  for (const name of readdirSync(folder)) {
    const holder = holderOfOutput(name);
    if (holder === null) continue;
    if (holder.lives) return "another's";
    // Of a worker that died while it had it. Where a third one is quicker, it has it now.
    return isMoved(join(folder, name), own) ? { out: own, isResumed: true } : claimed(folder);
  }
  return null;
}

/** The files of a folder under a second name: on a full disk there is no room for a copy. */
function linkAll(from: string, to: string): void {
  if (!existsSync(from)) return;
  mkdirSync(to);
  for (const name of readdirSync(from)) {
    try {
      linkSync(join(from, name), join(to, name));
    } catch (error) {
      // A file system that has no links.
      if (!["EPERM", "EXDEV", "ENOTSUP"].includes((error as NodeJS.ErrnoException).code ?? "")) throw error;
      copyFileSync(join(from, name), join(to, name));
    }
  }
}

/** Of several that try, one has it. */
function isMoved(from: string, to: string): boolean {
  try {
    renameSync(from, to);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return false;
    throw error;
  }
}

function replace(from: string, to: string): void {
  rmSync(to, { recursive: true, force: true });
  try {
    renameSync(from, to);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EXDEV") throw error;
    // On another file system: seen whole or not at all.
    const draft = draftOf(to);
    cpSync(from, draft, { recursive: true });
    renameSync(draft, to);
    rmSync(from, { recursive: true, force: true });
  }
}

function draftOf(place: string): string {
  return `${place}.new`;
}

/** Only folders and plain files of its own stay, with names that are text, and they become the worker's. */
function clean(folder: string, depth: number, counted: { files: number }, owners: ReadonlySet<number> | null): void {
  chownSync(folder, process.getuid?.() ?? 0, process.getgid?.() ?? 0);
  chmodSync(folder, 0o750);
  for (const name of readdirSync(folder, { encoding: "buffer" })) {
    const path = textPath(folder, name);
    const stat = lstatSync(path);
    counted.files++;
    const isOwn = owners?.has(stat.uid) !== false;
    if (isOwn && stat.isDirectory() && depth < MAX_DEPTH) clean(path, depth + 1, counted, owners);
    else if (!isOwn || !stat.isFile() || stat.nlink > 1 || counted.files > MAX_FILES)
      rmSync(path, { recursive: true, force: true });
    else {
      chownSync(path, process.getuid?.() ?? 0, process.getgid?.() ?? 0);
      chmodSync(path, 0o640);
    }
  }
}

/** A name that is not UTF-8 cannot be asked for over HTTP: it is renamed, byte by byte to the character of that number. */
function textPath(folder: string, name: Buffer): string {
  const text = name.toString("utf8");
  if (Buffer.from(text).equals(name)) return join(folder, text);
  const given = Buffer.concat([Buffer.from(`${folder}/`), name]);
  let renamed = join(folder, name.toString("latin1"));
  while (lstatSync(renamed, { throwIfNoEntry: false }) !== undefined) renamed += "_";
  renameSync(given, renamed);
  return renamed;
}

function present(out: string, path: string): { path: string; present: boolean; bytes: number | null } {
  const inside = normalize(path);
  const isInside = !isAbsolute(inside) && !inside.startsWith("..");
  const stat = isInside ? statSync(join(out, inside), { throwIfNoEntry: false }) : undefined;
  return { path, present: stat !== undefined, bytes: stat?.isFile() ? stat.size : null };
}

/** One answer of all replicas that are there. */
function merge(root: string, replicas: number): void {
  const texts = Array.from({ length: replicas }, (_, replica) =>
    readPlain(join(root, "replicas", String(replica), "responses.json"), MAX_RESULT_BYTES),
  );
  writeFileSync(join(root, "responses.json.new"), mergedResponses(texts));
  renameSync(join(root, "responses.json.new"), join(root, "responses.json"));
}
