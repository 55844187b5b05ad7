import type { FileHandle } from "node:fs/promises";

/** A file that is not what its name says; the message goes on "it ...". */
export class Malformed extends Error {}

const CHUNK_BYTES = 256 * 1024;
/** A head longer than this is no head: the largest vocabularies take some 10 MiB. */
const MAX_HEAD_BYTES = 64 * 1024 * 1024;

/** Reads a file from its beginning, a chunk at a time. */
export class FileBytes {
  readonly size: number;
  position = 0;
  readonly #file: FileHandle;
  #chunk = Buffer.alloc(0);
  #chunkAt = 0;

  constructor(file: FileHandle, size: number) {
    this.#file = file;
    this.size = size;
  }

  /** @throws Malformed when the file ends before. */
  async bytes(length: number): Promise<Buffer> {
    const end = this.position + length;
    if (length > CHUNK_BYTES || end > this.size || end > MAX_HEAD_BYTES)
      throw new Malformed("ends before its head does");
    if (this.position < this.#chunkAt || end > this.#chunkAt + this.#chunk.length) {
      const chunk = Buffer.alloc(Math.min(CHUNK_BYTES, this.size - this.position));
      const { bytesRead } = await this.#file.read(chunk, 0, chunk.length, this.position);
      if (bytesRead < length) throw new Malformed("ends before its head does");
      this.#chunk = chunk.subarray(0, bytesRead);
      this.#chunkAt = this.position;
    }
    const from = this.position - this.#chunkAt;
    this.position = end;
    return this.#chunk.subarray(from, from + length);
  }

  async skip(length: number): Promise<void> {
    const end = this.position + length;
    if (!Number.isSafeInteger(end) || end > this.size || end > MAX_HEAD_BYTES) {
      throw new Malformed("ends before its head does");
    }
    this.position = end;
  }

  async u32(): Promise<number> {
    return (await this.bytes(4)).readUInt32LE(0);
  }

  /** @throws Malformed when it is larger than any length can be. */
  async u64(): Promise<number> {
    const value = (await this.bytes(8)).readBigUInt64LE(0);
    if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw new Malformed("has a length that cannot be");
    return Number(value);
  }

  async text(length: number): Promise<string> {
    return (await this.bytes(length)).toString("utf8");
  }

  /** A number or truth value of the metadata; `null` for one that no length or count is. */
  async plain(type: number, length: number): Promise<number | null> {
    const bytes = await this.bytes(length);
    // 6 and 12 are floating-point numbers.
    if (type === 6 || type === 12) return null;
    if (length < 8) return bytes.readUIntLE(0, length);
    const value = bytes.readBigUInt64LE(0);
    return value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : null;
  }
}
