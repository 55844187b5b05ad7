/**
 * A second database that goes with the first one: a backup keeps it in a table of its own, so that one file has all. It is
 * copied after the first, each at one instant of its own; what it means is its owner's business.
 */
import { closeSync, openSync, readSync, rmSync, writeFileSync, writeSync } from "node:fs";
import { backup, DatabaseSync } from "node:sqlite";
import { BUSY_TIMEOUT_MS, pragma } from "./open.ts";
import { syncPath } from "./sync.ts";

const TABLE = "beside_copy";
const PART_BYTES = 8 * 2 ** 20;
const ALL_PAGES = 2 ** 31 - 1;

/** Puts a copy of `beside` into the closed database `copy`. */
export async function keepBeside(beside: string, copy: string): Promise<void> {
  const name = `${copy}.beside`;
  try {
    writeFileSync(name, "", { mode: 0o600, flag: "ax" });
    const source = new DatabaseSync(beside, { readOnly: true, timeout: BUSY_TIMEOUT_MS });
    try {
      await backup(source, name, { rate: ALL_PAGES });
    } finally {
      source.close();
    }
    const copied = new DatabaseSync(name);
    try {
      pragma(copied, "journal_mode = DELETE");
      const found = String(pragma(copied, "quick_check(1)"));
      if (found !== "ok") throw new Error(`${beside} is damaged (${found})`);
    } finally {
      copied.close();
    }
    writeParts(name, copy);
  } finally {
    for (const each of [name, `${name}-journal`, `${name}-wal`, `${name}-shm`]) rmSync(each, { force: true });
  }
}

function writeParts(name: string, copy: string): void {
  const database = new DatabaseSync(copy);
  const file = openSync(name, "r");
  try {
    database.exec(`BEGIN; CREATE TABLE ${TABLE} (part INTEGER PRIMARY KEY, bytes BLOB NOT NULL) STRICT`);
    const insert = database.prepare(`INSERT INTO ${TABLE} VALUES (?, ?)`);
    const buffer = Buffer.alloc(PART_BYTES);
    for (let part = 0; ; part++) {
      const length = readSync(file, buffer, 0, PART_BYTES, part * PART_BYTES);
      if (length === 0) break;
      insert.run(part, buffer.subarray(0, length));
    }
    database.exec("COMMIT");
  } finally {
    closeSync(file);
    database.close();
  }
}

/**
 * Takes what {@link keepBeside} has put into `database` out of it, and into the file `target`, which only its owner can read.
 *
 * @returns whether there was any.
 */
export function takeBeside(database: DatabaseSync, target: string): boolean {
  const { n } = database.prepare("SELECT count(*) AS n FROM sqlite_schema WHERE name = ?").get(TABLE) as { n: number };
  if (n === 0) return false;
  const file = openSync(target, "wx", 0o600);
  try {
    for (const { bytes } of database.prepare(`SELECT bytes FROM ${TABLE} ORDER BY part`).iterate()) {
      writeSync(file, bytes as Uint8Array);
    }
  } finally {
    closeSync(file);
  }
  syncPath(target);
  database.exec(`DROP TABLE ${TABLE}; VACUUM`);
  return true;
}
