/**
 * What keeps a revoked key revoked on a disk that is full. Both files stand beside the database, made while there is room.
 *
 * 1. The ballast is let go to make room for one write more, and made anew when the database can be written again.
 * 2. The marker's bytes are there before they are needed: writing over them takes no room. It names the keys, by their
 *    digests, that are revoked and still in the database.
 */
import { closeSync, existsSync, fsyncSync, openSync, readFileSync, rmSync, writeFileSync, writeSync } from "node:fs";
import { IN_MEMORY } from "./open.ts";

const BALLAST_BYTES = 1_024 * 1_024;
const MARKER_BYTES = 4_096;
const LINE_BYTES = 65;
const DIGEST = /[0-9a-f]{64}/g;

export class Revocations {
  readonly #ballast: string | null;
  readonly #marker: string | null;

  /** @param path of the database. */
  constructor(path: string) {
    this.#ballast = path === IN_MEMORY ? null : `${path}.ballast`;
    this.#marker = path === IN_MEMORY ? null : `${path}.revoked`;
  }

  /** Makes both files, as far as there is room and they are not there. */
  prepare(): void {
    fill(this.#ballast, Buffer.alloc(BALLAST_BYTES, "ballast for a revocation on a full disk\n"));
    fill(this.#marker, Buffer.alloc(MARKER_BYTES, " "));
  }

  /** @returns whether there is more room now than before. */
  letBallastGo(): boolean {
    if (this.#ballast === null || !existsSync(this.#ballast)) return false;
    rmSync(this.#ballast, { force: true });
    return true;
  }

  /** The keys that the marker names. */
  marked(): readonly string[] {
    if (this.#marker === null || !existsSync(this.#marker)) return [];
    return readFileSync(this.#marker, "latin1").match(DIGEST) ?? [];
  }

  /** @returns whether a restart will know all of them. */
  mark(digests: readonly string[]): boolean {
    if (this.#marker === null || digests.length * LINE_BYTES > MARKER_BYTES) return false;
    try {
      const descriptor = openSync(this.#marker, existsSync(this.#marker) ? "r+" : "w", 0o600);
      try {
        const text = digests.map((digest) => `${digest}\n`).join("");
        writeSync(descriptor, text.padEnd(MARKER_BYTES), 0, "latin1");
        fsyncSync(descriptor);
        return true;
      } finally {
        closeSync(descriptor);
      }
    } catch {
      return false;
    }
  }
}

function fill(file: string | null, bytes: Buffer): void {
  if (file === null || existsSync(file)) return;
  try {
    writeFileSync(file, bytes, { mode: 0o600, flush: true });
  } catch {
    // There is no room: half of it would be of no use.
    rmSync(file, { force: true });
  }
}
