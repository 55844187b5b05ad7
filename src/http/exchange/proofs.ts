/**
 * Who is at the other end of a unix socket where nothing asks the kernel: whoever can make a directory is its owner.
 *
 *  1. An unknown connection is told a nonce. Its client makes a directory in a folder of the daemon's, with a name that
 *     follows from the nonce and from the path of the socket that the client called, and sends the nonce. The directory's
 *     owner is the caller. A nonce is for {@link NONCE_MS}, and for one proof.
 *  2. A nonce that somebody passes on to others is worth nothing: they called another socket, and make another name.
 *  3. What lies under the name must be a directory itself, of this file system, of one user alone, and empty. None can be
 *     moved there by somebody else: the folder is sticky and the daemon's, and a directory changes its parent only by who
 *     may write to it. The folder is looked at by its descriptor: what takes its place is not seen.
 *  4. It fails closed: what cannot be looked at, or removed, proves nothing.
 *  5. No file system of somebody else's is asked anything: it might not answer, and hold up the daemon. A name is opened
 *     as a place only (O_PATH, open(2)), and looked at when it is of the same mount as the folder.
 */
import { createHash, createHmac, randomBytes, timingSafeEqual } from "node:crypto";
import {
  chmodSync,
  closeSync,
  constants,
  type Dir,
  fstatSync,
  mkdirSync,
  opendirSync,
  openSync,
  readFileSync,
  realpathSync,
  rmdirSync,
  type Stats,
  statfsSync,
  unlinkSync,
} from "node:fs";
import { basename, dirname, join } from "node:path";

export const NONCE_MS = 10_000;
/** Of one user's that were used and are not over yet: more are not remembered, and so not taken. */
const MAX_USED = 4_096;
const SWEEP_MS = 60_000;
/** Looked at in one sweep; the next goes on from there. */
const MAX_SWEPT = 1_000;
/** Everybody may make something there, nobody may look round, and only its owner and the daemon may move it. */
const FOLDER_MODE = 0o1733;
/** Of Linux, on what node runs on there. */
const O_PATH = 0o10000000;
/** File systems in which another host says whose a directory is (statfs(2)): NFS, SMB, SMB2. */
const OF_OTHER_HOSTS: readonly number[] = [0x6969, 0xff534d42, 0xfe534d42];
const MAC_BYTES = 32;
const NONCE_BYTES = 8 + 16 + MAC_BYTES;

const OUT_OF_FILES: ReadonlySet<string> = new Set(["EMFILE", "ENFILE"]);

/** What was given may be a proof, and cannot be taken for the time being. */
export class ProofsError extends Error {
  override readonly name = "ProofsError";
}

export class Proofs {
  /** As its clients must call it: without links. */
  readonly #socketPath: string;
  readonly #folder: string;
  readonly #fd: number;
  readonly #mount: string;
  readonly #device: number;
  readonly #secret = randomBytes(32);
  /** Until when each is to be remembered, and whose it was; the first is over first. */
  readonly #used = new Map<string, { readonly over: number; readonly uid: number }>();
  /** How many of them are whose. */
  readonly #usedBy = new Map<number, number>();
  readonly #now: () => number;
  readonly #maxUsed: number;
  readonly #sweeping: NodeJS.Timeout;
  /** Where the last sweep stopped; `null`: at the end. */
  #swept: Dir | null = null;

  /**
   * @param socketPath in a folder that is there.
   * @throws Error when the folder beside it cannot be made, or does not keep owners and modes.
   */
  constructor(socketPath: string, now: () => number = () => performance.now(), maxUsed = MAX_USED) {
    this.#now = now;
    this.#maxUsed = maxUsed;
    this.#socketPath = join(realpathSync(dirname(socketPath)), basename(socketPath));
    this.#folder = proofsOf(this.#socketPath);
    mkdirSync(this.#folder, { recursive: true, mode: 0o700 });
    this.#fd = openSync(this.#folder, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW);
    try {
      this.#mount = mountOf(this.#fd);
      this.#device = this.#own();
    } catch (error) {
      closeSync(this.#fd);
      throw error;
    }
    this.#sweeping = setInterval(() => this.sweep(), SWEEP_MS).unref();
  }

  nonce(): string {
    const said = Buffer.alloc(NONCE_BYTES);
    said.writeDoubleBE(this.#now());
    randomBytes(16).copy(said, 8);
    this.#mac(said).copy(said, NONCE_BYTES - MAC_BYTES);
    return said.toString("base64url");
  }

  /**
   * @returns the number of the user who has proved to be there; `null`: it is nobody.
   * @throws ProofsError when that cannot be known for the time being.
   */
  ownerBy(nonce: string): number | null {
    if (!this.#isOpen(nonce)) return null;
    const path = this.#inside(nameBy(nonce, this.#socketPath));
    try {
      const found = this.#look(path);
      if (found === null) return null;
      const isOnes = found.isDirectory() && (found.mode & 0o077) === 0 && found.dev === this.#device;
      // Only what is empty, and no file system of its own, can be removed.
      rmdirSync(path);
      if (!isOnes) return null;
      this.#use(nonce, found.uid);
      return found.uid;
    } catch (error) {
      if (error instanceof ProofsError) throw error;
      if (OUT_OF_FILES.has((error as NodeJS.ErrnoException).code ?? ""))
        throw new ProofsError((error as Error).message);
      return null;
    }
  }

  close(): void {
    clearInterval(this.#sweeping);
    this.#swept?.closeSync();
    this.#swept = null;
    closeSync(this.#fd);
    try {
      rmdirSync(this.#folder);
    } catch {
      // Something is left in it: the next daemon sweeps.
    }
  }

  /** Removes what clients left that ended before they were known. What somebody put there and filled stays. */
  sweep(most = MAX_SWEPT): void {
    try {
      this.#swept ??= opendirSync(this.#inside("."));
      for (let n = 0; n < most; n++) {
        const entry = this.#swept.readSync();
        if (entry !== null) this.#removeOld(this.#inside(entry.name));
        else {
          this.#swept.closeSync();
          this.#swept = null;
          return;
        }
      }
    } catch {
      // It cannot be read: then nothing can be proved either.
    }
  }

  /** Whether it is one that was told here, in time, and has proved nothing yet. */
  #isOpen(nonce: string): boolean {
    const said = Buffer.from(nonce, "base64url");
    if (said.length !== NONCE_BYTES || said.toString("base64url") !== nonce) return false;
    if (!timingSafeEqual(said.subarray(-MAC_BYTES), this.#mac(said))) return false;
    return this.#now() - said.readDoubleBE() < NONCE_MS && !this.#used.has(nonce);
  }

  #use(nonce: string, uid: number): void {
    const now = this.#now();
    for (const [old, { over, uid: whose }] of this.#used) {
      if (over > now) break;
      this.#used.delete(old);
      const left = (this.#usedBy.get(whose) ?? 1) - 1;
      if (left === 0) this.#usedBy.delete(whose);
      else this.#usedBy.set(whose, left);
    }
    const count = this.#usedBy.get(uid) ?? 0;
    if (count >= this.#maxUsed) throw new ProofsError("this user has proved too often who it is");
    this.#used.set(nonce, { over: now + NONCE_MS, uid });
    this.#usedBy.set(uid, count + 1);
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
    if (isOfAnotherHost(statfsSync(this.#inside(".")).type))
      throw new Error(`${this.#folder} is of a network file system, and another host says whose a directory there is`);
    chmodSync(this.#inside("."), FOLDER_MODE);
    const { mode, dev } = fstatSync(this.#fd);
    const tried = this.#inside(randomBytes(16).toString("hex"));
    mkdirSync(tried, { mode: 0o700 });
    const made = this.#look(tried);
    rmdirSync(tried);
    if ((mode & 0o7777) !== FOLDER_MODE || made?.uid !== own.uid || (made.mode & 0o777) !== 0o700)
      throw new Error(`the file system of ${this.#folder} does not keep owners and modes`);
    return dev;
  }

  #inside(name: string): string {
    return `/proc/self/fd/${this.#fd}/${name}`;
  }

  /** What lies under a name itself; `null`: another file system, of which nothing is asked. */
  #look(path: string): Stats | null {
    const fd = openSync(path, O_PATH | constants.O_NOFOLLOW);
    try {
      return mountOf(fd) === this.#mount ? fstatSync(fd) : null;
    } finally {
      closeSync(fd);
    }
  }

  #removeOld(path: string): void {
    try {
      const found = this.#look(path);
      if (found === null) return;
      // By the wall clock, as files have it: at worst a client is asked again.
      if (Math.abs(Date.now() - found.mtimeMs) < 2 * NONCE_MS) return;
      if (found.isDirectory()) rmdirSync(path);
      else unlinkSync(path);
    } catch {
      // It has gone, or has something in it.
    }
  }
}

/** The mount that an open file is of, as the kernel itself knows it (proc(5)). */
function mountOf(fd: number): string {
  const [, mount] = /^mnt_id:\s*(\d+)$/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, "utf8")) ?? [];
  if (mount === undefined) throw new Error("the kernel does not say of which mount a file is");
  return mount;
}

/** @param type of a file system, by statfs(2). */
export function isOfAnotherHost(type: number): boolean {
  return OF_OTHER_HOSTS.includes(type);
}

/** Where the clients of a socket make their directories. */
export function proofsOf(socketPath: string): string {
  return `${socketPath}.callers`;
}

/** What a client that called `socketPath` calls its directory. */
export function nameBy(nonce: string, socketPath: string): string {
  return createHash("sha256").update(`${nonce}\n${socketPath}`).digest("hex");
}
