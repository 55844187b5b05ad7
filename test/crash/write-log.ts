/**
 * What a program did to the files of its database, in order, and what a power cut may leave of that.
 *
 * 1. What a sync has returned for is there. Of what came after it, anything may be: sectors are taken one by one, in
 *    any order; a sector that was not taken holds what it held, zeros, or whatever lay on the disk before.
 * 2. Only bytes that were written are in doubt, not their neighbours in the same sector (sqlite.org/psow.html).
 * 3. Names made and removed are kept in order, and are on disk when their folder was synced.
 */

export type Operation =
  /** `file` is what comes after the database's name: "", "-wal" or "-journal". */
  | { readonly type: "write"; readonly file: string; readonly offset: number; readonly bytes: Uint8Array }
  | { readonly type: "truncate"; readonly file: string; readonly size: number }
  | { readonly type: "sync" | "create" | "remove"; readonly file: string }
  | { readonly type: "sync-folder" }
  /** The turn was said to be on disk. */
  | { readonly type: "acknowledged"; readonly turn: number };

/** What becomes of the bytes that no sync has covered. */
export const CUT_STYLES = ["in order", "some sectors", "garbage", "zeros", "all there"] as const;
export type CutStyle = (typeof CUT_STYLES)[number];

type Change = Extract<Operation, { type: "write" | "truncate" }>;
type Naming = Extract<Operation, { type: "sync" | "create" | "remove" }>;

/** The contents of the database's files, by what comes after its name. */
export type Files = ReadonlyMap<string, Uint8Array>;

const SECTOR_BYTES = 512;
/** The longest file that a log here may make. */
const MOST_BYTES = 16 * 1024 * 1024;

/** Bytes that grow in place. */
class Content {
  readonly #bytes = new Uint8Array(MOST_BYTES);
  #length = 0;

  write(offset: number, bytes: Uint8Array): void {
    this.#bytes.set(bytes, offset);
    this.#length = Math.max(this.#length, offset + bytes.length);
  }

  truncate(size: number): void {
    this.#bytes.fill(0, size, Math.max(size, this.#length));
    this.#length = size;
  }

  copy(): Content {
    const other = new Content();
    other.write(0, this.bytes());
    return other;
  }

  bytes(): Uint8Array {
    return this.#bytes.subarray(0, this.#length);
  }
}

interface Inode {
  readonly synced: Content;
  pending: Change[];
}

/** The disk under a database. Feed it operations, and cut the power in between. */
export class Disk {
  /** The folder as the program sees it, and as it is on disk. */
  readonly #names = new Map<string, Inode>();
  #durableNames = new Map<string, Inode>();
  #pendingNames: { readonly operation: Naming; readonly inode: Inode }[] = [];

  apply(operation: Operation): void {
    switch (operation.type) {
      case "write":
      case "truncate":
        this.#inode(operation.file).pending.push(operation);
        return;
      case "sync": {
        const inode = this.#inode(operation.file);
        for (const change of inode.pending) applyWhole(inode.synced, change);
        inode.pending = [];
        return;
      }
      case "create": {
        const inode = { synced: new Content(), pending: [] };
        this.#names.set(operation.file, inode);
        this.#pendingNames.push({ operation, inode });
        return;
      }
      case "remove":
        this.#pendingNames.push({ operation, inode: this.#inode(operation.file) });
        this.#names.delete(operation.file);
        return;
      case "sync-folder":
        this.#durableNames = new Map(this.#names);
        this.#pendingNames = [];
        return;
      case "acknowledged":
        return;
      default:
        operation satisfies never;
    }
  }

  /** Whether bytes were written to `file` that no sync has covered yet. */
  isUnsynced(file: string): boolean {
    return (this.#names.get(file)?.pending.length ?? 0) > 0;
  }

  /** How many bytes were written that no sync has covered yet, in all files. */
  get unsyncedBytes(): number {
    let bytes = 0;
    for (const { pending } of this.#names.values()) for (const change of pending) bytes += sizeOf(change);
    return bytes;
  }

  /** What is there after a power cut now. */
  afterPowerCut(style: CutStyle, random: () => number): Files {
    const names = new Map(this.#durableNames);
    const kept = style === "all there" ? this.#pendingNames.length : anyOf(this.#pendingNames.length + 1, random);
    for (const { operation, inode } of this.#pendingNames.slice(0, kept)) {
      if (operation.type === "create") names.set(operation.file, inode);
      else names.delete(operation.file);
    }
    return new Map([...names].map(([file, inode]) => [file, settled(inode, style, random)]));
  }

  #inode(file: string): Inode {
    const inode = this.#names.get(file);
    if (inode === undefined) throw new Error(`the log does not say where "${file}" comes from`);
    return inode;
  }
}

function sizeOf(change: Change): number {
  return change.type === "write" ? change.bytes.length : 0;
}

function anyOf(count: number, random: () => number): number {
  return Math.floor(random() * count);
}

function applyWhole(content: Content, change: Change): void {
  if (change.type === "write") content.write(change.offset, change.bytes);
  else content.truncate(change.size);
}

function settled({ synced, pending }: Inode, style: CutStyle, random: () => number): Uint8Array {
  if (pending.length === 0) return synced.bytes();
  const content = synced.copy();
  if (style === "all there") for (const change of pending) applyWhole(content, change);
  else if (style === "in order") applyInOrder(content, pending, random);
  else applySectors(content, pending, style, random);
  return content.bytes();
}

/** The first changes are there, and a part of the next: none of it, all but a byte, or anything between. */
function applyInOrder(content: Content, pending: readonly Change[], random: () => number): void {
  const whole = anyOf(pending.length + 1, random);
  for (const change of pending.slice(0, whole)) applyWhole(content, change);
  const torn = pending[whole];
  if (torn?.type !== "write") return;
  const place = random();
  const { length } = torn.bytes;
  const taken = place < 0.3 ? 0 : place < 0.4 ? 1 : place < 0.5 ? length - 1 : anyOf(length, random);
  if (taken > 0) content.write(torn.offset, torn.bytes.subarray(0, taken));
}

function applySectors(content: Content, pending: readonly Change[], style: CutStyle, random: () => number): void {
  const share = random();
  for (const change of pending) {
    if (change.type === "truncate") {
      if (random() < share) content.truncate(change.size);
      continue;
    }
    for (const { offset, bytes } of sectorsOf(change)) {
      if (random() < share) content.write(offset, bytes);
      else if (style === "zeros") content.write(offset, new Uint8Array(bytes.length));
      else if (style === "garbage") content.write(offset, garbage(bytes.length, random));
    }
  }
}

function* sectorsOf({ offset, bytes }: Extract<Change, { type: "write" }>) {
  for (let at = 0; at < bytes.length; ) {
    const end = Math.min(bytes.length, at + SECTOR_BYTES - ((offset + at) % SECTOR_BYTES));
    yield { offset: offset + at, bytes: bytes.subarray(at, end) };
    at = end;
  }
}

export function garbage(length: number, random: () => number): Uint8Array {
  return Uint8Array.from({ length }, () => anyOf(256, random));
}
