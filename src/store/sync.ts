import { closeSync, fsyncSync, openSync } from "node:fs";

/**
 * Waits until a file's contents, or a folder's names, are on disk.
 *
 * Never for a file that SQLite has open in this process: closing it would drop SQLite's locks (open.ts, 3).
 */
export function syncPath(path: string): void {
  const descriptor = openSync(path, "r");
  try {
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
}
