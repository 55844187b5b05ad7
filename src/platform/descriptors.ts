import { readFileSync } from "node:fs";

/** How many files and sockets this process may have open; `null`: the system does not say. */
export function openFilesLimit(): number | null {
  try {
    const line = /^Max open files +(\d+)/m.exec(readFileSync("/proc/self/limits", "utf8"));
    return line === null ? null : Number(line[1]);
  } catch {
    return null;
  }
}
