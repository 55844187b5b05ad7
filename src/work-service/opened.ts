/** Programs under all the names that they go by on this host, so that a document may name any of them. */
import { realpathSync } from "node:fs";
import type { ExecutorSettings } from "../work/executor-settings.ts";

/** Where they are links, as on most hosts, what is in them has two names. */
const FOLDERS = ["/bin", "/sbin"] as const;

/**
 * As documents are judged by them. The worker resolves links by itself, on both sides; here what a client names is never
 * looked up: a path may lead to a file system that does not answer.
 */
export function opened(
  executors: Readonly<Record<string, ExecutorSettings>>,
  realPath: (path: string) => string = realPathOf,
): Readonly<Record<string, ExecutorSettings>> {
  return Object.fromEntries(
    Object.entries(executors).map(([name, { programs, ...settings }]) => [
      name,
      { ...settings, programs: [...new Set(programs.flatMap((program) => namesOf(program, realPath)))] },
    ]),
  );
}

function namesOf(program: string, realPath: (path: string) => string): readonly string[] {
  return [program, realPath(program)].flatMap((path) => [path, ...otherNames(path, realPath)]);
}

function otherNames(path: string, realPath: (path: string) => string): readonly string[] {
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
