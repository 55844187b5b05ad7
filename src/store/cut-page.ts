/** A file that ends within a page was cut off: SQLite reads the rest as zeros, and does not look into all that it holds. */
import { closeSync, openSync, readFileSync, readSync, statSync } from "node:fs";

/** Of the file format (sqlite.org/fileformat2.html): the page size in the database, and the frames of the log. */
const MAGIC = "SQLite format 3\0";
const PAGE_SIZE_AT = 16;
const HEADER_BYTES = 100;
const LOG_HEADER_BYTES = 32;
const LOG_SALT_AT = 16;
const FRAME_HEADER_BYTES = 24;
const FRAME_SALT_AT = 8;
const SALT_BYTES = 8;

/** @returns the page that `file` ends within and its log does not make whole; `null` when there is none. */
export function cutPage(file: string): number | null {
  const bytes = statSync(file).size;
  if (bytes < HEADER_BYTES) return null;
  const pageBytes = pageSizeOf(file);
  if (pageBytes === null || bytes % pageBytes === 0) return null;
  const page = Math.floor(bytes / pageBytes) + 1;
  // A power cut while the log was folded in leaves such a page too, and the log with all of it.
  return pagesIn(`${file}-wal`, pageBytes).has(page) ? null : page;
}

/** `null`: it is no database. */
function pageSizeOf(file: string): number | null {
  const header = Buffer.alloc(HEADER_BYTES);
  const descriptor = openSync(file, "r");
  try {
    readSync(descriptor, header, 0, HEADER_BYTES, 0);
  } finally {
    closeSync(descriptor);
  }
  if (header.toString("latin1", 0, MAGIC.length) !== MAGIC) return null;
  const told = header.readUInt16BE(PAGE_SIZE_AT);
  return told === 1 ? 65_536 : told;
}

/** The pages that the log has, of its present round. */
function pagesIn(log: string, pageBytes: number): ReadonlySet<number> {
  const pages = new Set<number>();
  if ((statSync(log, { throwIfNoEntry: false })?.size ?? 0) < LOG_HEADER_BYTES) return pages;
  const text = readFileSync(log);
  const salt = text.subarray(LOG_SALT_AT, LOG_SALT_AT + SALT_BYTES);
  const frameBytes = FRAME_HEADER_BYTES + pageBytes;
  for (let at = LOG_HEADER_BYTES; at + frameBytes <= text.length; at += frameBytes) {
    const isOfNow = text.subarray(at + FRAME_SALT_AT, at + FRAME_SALT_AT + SALT_BYTES).equals(salt);
    if (isOfNow) pages.add(text.readUInt32BE(at));
  }
  return pages;
}
