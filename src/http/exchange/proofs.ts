/**
 * Who is at the other end of a unix socket where nothing asks the kernel: whoever can make a directory is its owner.
 *
 *  1. An unknown connection is told a nonce. Its client makes a directory in a folder of the daemon's, with a name that
 *     follows from the nonce and from the path of the socket that the client called, and sends the nonce. The directory's
 *     owner is the caller. A nonce is for {@link NONCE_MS}, and for once, whatever comes of it.
 *  2. A nonce that somebody passes on to others is worth nothing: they called another socket, and make another name.
 *  3. What lies under the name must be a directory itself, of this file system, of one user alone, and empty. None can be
 *     moved there by somebody else: the folder is sticky and the daemon's, and a directory changes its parent only by who
 *     may write to it. The folder is looked at by its descriptor: what takes its place is not seen.
 *  4. It fails closed: what cannot be looked at, or removed, proves nothing.
 */
import { createHash, createHmac, randomBytes, timingSafeEqual } from "node:crypto";
import {
  chmodSync,
  closeSync,
  constants,
  type Dir,
  fstatSync,
  lstatSync,
  mkdirSync,
  opendirSync,
  openSync,
  realpathSync,
  rmdirSync,
  unlinkSync,
} from "node:fs";
import { basename, dirname, join } from "node:path";

export const NONCE_MS = 10_000;
/** Of those that were used and are not over yet; while there are so many nobody else is known. */
const MAX_USED = 65_536;
const SWEEP_MS = 60_000;
/** Looked at in one sweep. */
const MAX_SWEPT = 1_000;
/** Everybody may make something there, nobody may look round, and only its owner and the daemon may move it. */
const FOLDER_MODE = 0o1733;
const MAC_BYTES = 32;
const NONCE_BYTES = 8 + 16 + MAC_BYTES;

export class Proofs {
  /** As its clients must call it: without links. */
  readonly #socketPath: string;
  readonly #folder: string;
  readonly #fd: number;
  readonly #device: number;
  readonly #secret = randomBytes(32);
  /** Until when each is to be remembered; the first is over first. */
  readonly #used = new Map<string, number>();
  readonly #now: () => number;
  readonly #sweeping: NodeJS.Timeout;

  /**
   * @param socketPath in a folder that is there.
   * @throws Error when the folder beside it cannot be made, or does not keep owners and modes.
   */
  constructor(socketPath: string, now: () => number = () => performance.now()) {
    this.#now = now;
    this.#socketPath = join(realpathSync(dirname(socketPath)), basename(socketPath));
    this.#folder = proofsOf(this.#socketPath);
    mkdirSync(this.#folder, { recursive: true, mode: 0o700 });
    this.#fd = openSync(this.#folder, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW);
    try {
      this.#device = this.#own();
    } catch (error) {
      closeSync(this.#fd);
      throw error;
    }
    this.#sweeping = setInterval(() => this.#sweep(), SWEEP_MS).unref();
  }

  nonce(): string {
    const said = Buffer.alloc(NONCE_BYTES);
    said.writeDoubleBE(this.#now());
    randomBytes(16).copy(said, 8);
    this.#mac(said).copy(said, NONCE_BYTES - MAC_BYTES);
    return said.toString("base64url");
  }

  /** @returns the number of the user who has proved to be there; `null`: it is nobody. */
  ownerBy(nonce: string): number | null {
    if (!this.#use(nonce)) return null;
    const path = this.#inside(nameBy(nonce, this.#socketPath));
    try {
      const found = lstatSync(path);
      const isOnes = found.isDirectory() && (found.mode & 0o077) === 0 && found.dev === this.#device;
      // Only what is empty, and no file system of its own, can be removed.
      rmdirSync(path);
      return isOnes ? found.uid : null;
    } catch {
      return null;
    }
  }

  close(): void {
    clearInterval(this.#sweeping);
    closeSync(this.#fd);
    try {
      rmdirSync(this.#folder);
    } catch {
      // Something is left in it: the next daemon sweeps.
    }
  }

  /** Whether it is one that was told here, in time, and was not used yet. It is used then. */
  #use(nonce: string): boolean {
    const said = Buffer.from(nonce, "base64url");
    if (said.length !== NONCE_BYTES || said.toString("base64url") !== nonce) return false;
    if (!timingSafeEqual(said.subarray(-MAC_BYTES), this.#mac(said))) return false;
    const now = this.#now();
    if (now - said.readDoubleBE() >= NONCE_MS || this.#used.has(nonce)) return false;
    for (const [old, over] of this.#used) {
      if (over > now) break;
      this.#used.delete(old);
    }
    if (this.#used.size >= MAX_USED) return false;
    this.#used.set(nonce, now + NONCE_MS);
    return true;
  }

  #mac(said: Buffer): Buffer {
    return createHmac("sha256", this.#secret)
      .update(said.subarray(0, NONCE_BYTES - MAC_BYTES))
      .digest();
  }

  /** @returns the folder's device, once it is known to keep whose a directory is. */
  #own(): number {
    const own = fstatSync(this.#fd);
    if (own.uid !== process.geteuid?.()) throw new Error(`${this.#folder} belongs to somebody else: remove it`);
    chmodSync(this.#inside("."), FOLDER_MODE);
    const { mode, dev } = fstatSync(this.#fd);
    const tried = this.#inside(randomBytes(16).toString("hex"));
    mkdirSync(tried, { mode: 0o700 });
    const made = lstatSync(tried);
    rmdirSync(tried);
    if ((mode & 0o7777) !== FOLDER_MODE || made.uid !== own.uid || (made.mode & 0o777) !== 0o700)
      throw new Error(`the file system of ${this.#folder} does not keep owners and modes`);
    return dev;
  }

  #inside(name: string): string {
    return `/proc/self/fd/${this.#fd}/${name}`;
  }

  /** What clients left that ended before they were known. What somebody put there and filled stays. */
  #sweep(): void {
    let folder: Dir | null = null;
    try {
      folder = opendirSync(this.#inside("."));
      for (let n = 0; n < MAX_SWEPT; n++) {
        const entry = folder.readSync();
        if (entry === null) return;
        this.#removeOld(this.#inside(entry.name));
      }
    } catch {
      // It cannot be read: then nothing can be proved either.
    } finally {
      folder?.closeSync();
    }
  }

  #removeOld(path: string): void {
    try {
      const found = lstatSync(path);
      // By the wall clock, as files have it: at worst a client is asked again.
      if (Math.abs(Date.now() - found.mtimeMs) < 2 * NONCE_MS) return;
      if (found.isDirectory()) rmdirSync(path);
      else unlinkSync(path);
    } catch {
      // It has gone, or has something in it.
    }
  }
}

/** Where the clients of a socket make their directories. */
export function proofsOf(socketPath: string): string {
  return `${socketPath}.callers`;
}

/** What a client that called `socketPath` calls its directory. */
export function nameBy(nonce: string, socketPath: string): string {
  return createHash("sha256").update(`${nonce}\n${socketPath}`).digest("hex");
}
