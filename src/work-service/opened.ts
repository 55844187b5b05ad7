/** Programs under all the names that they go by on this host, so that a document may name any of them. */
import { readdirSync, realpathSync } from "node:fs";
import { dirname, join } from "node:path";
import type { ExecutorSettings } from "../work/executor-settings.ts";

/** Where they are links, as on most hosts, what is in them has two names. */
const FOLDERS = ["/bin", "/sbin"] as const;
/** Where the host's own links to programs are. In a folder that somebody else writes to a link opens nothing. */
const LINK_FOLDERS = ["/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin"] as const;

/** What is asked of the host's files. */
export interface Files {
  readonly realPath: (path: string) => string;
  /** The names of the links in a folder. */
  readonly linksIn: (folder: string) => readonly string[];
}

const FILES: Files = { realPath: realPathOf, linksIn };

/**
 * As documents are judged by them. The worker resolves links by itself, on both sides; here what a client names is never
 * looked up, as a path may lead to a file system that does not answer: the names are found out beforehand.
 */
export function opened(
  executors: Readonly<Record<string, ExecutorSettings>>,
  files: Files = FILES,
): Readonly<Record<string, ExecutorSettings>> {
  const all = new Set(Object.values(executors).flatMap(({ programs }) => programs));
  const links = linksTo(all, files);
  return Object.fromEntries(
    Object.entries(executors).map(([name, { programs, ...settings }]) => [
      name,
      { ...settings, programs: [...new Set(programs.flatMap((program) => namesOf(program, links, files)))] },
    ]),
  );
}

function namesOf(program: string, links: ReadonlyMap<string, readonly string[]>, files: Files): readonly string[] {
  const real = files.realPath(program);
  return [program, real, ...(links.get(real) ?? [])].flatMap((path) => [path, ...otherNames(path, files)]);
}

/** The links beside these programs, and in the host's own folders, by what they lead to. */
function linksTo(programs: ReadonlySet<string>, files: Files): ReadonlyMap<string, readonly string[]> {
  const found = new Map<string, string[]>();
  if (programs.size === 0) return found;
  const real = new Set([...programs].map((program) => files.realPath(program)));
  const folders = new Set([...LINK_FOLDERS, ...[...programs, ...real].map((program) => dirname(program))]);
  for (const folder of folders) {
    for (const name of files.linksIn(folder)) {
      const path = join(folder, name);
      const target = files.realPath(path);
      if (real.has(target)) found.set(target, [...(found.get(target) ?? []), path]);
    }
  }
  return found;
}

function otherNames(path: string, { realPath }: Files): readonly string[] {
  return FOLDERS.flatMap((folder) => {
    const real = realPath(folder);
    if (real === folder) return [];
    if (path.startsWith(`${folder}/`)) return [real + path.slice(folder.length)];
    return path.startsWith(`${real}/`) ? [folder + path.slice(real.length)] : [];
  });
}

function realPathOf(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    // It is not there now; a worker that starts it says so.
    return path;
  }
}

function linksIn(folder: string): readonly string[] {
  try {
    return readdirSync(folder, { withFileTypes: true }).flatMap((entry) =>
      entry.isSymbolicLink() ? [entry.name] : [],
    );
  } catch {
    return [];
  }
}
