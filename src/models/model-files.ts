/**
 * Models that lie on this host, under the folders that the settings allow.
 *
 * 1. A path is read only where it really lies: links are followed first, and what they lead to must be under an allowed
 *    folder, whatever the path looks like. What was opened is looked at again, so that nothing can be put in its place.
 * 2. Nothing but heads is read: a `config.json`, 8 bytes of a safetensors file, the metadata of a GGUF file.
 * 3. Answers about what is not allowed are the same whether it is there or not.
 */
import { constants } from "node:fs";
import { type FileHandle, open, readdir, readlink, realpath, stat } from "node:fs/promises";
import { basename, join, sep } from "node:path";
import type { ModelFile } from "../core/analyzer/known.ts";
import { isReadable, readConfig } from "../core/analyzer/read-config.ts";
import type { JsonObject } from "../core/base/json.ts";
import type { Clock } from "../platform/clock.ts";
import type { ModelFiles } from "../ports/knowledge.ts";
import { FileBytes, Malformed } from "./file-bytes.ts";
import { configOfGguf, readGguf } from "./gguf.ts";
import { tensorBytes } from "./safetensors.ts";

const MAX_CONFIG_BYTES = 256 * 1024;
/** The largest published checkpoints come in some 200 files. */
const MAX_FILES = 1_024;
const MAX_PATH = 4_096;
const NOT_ALLOWED = "it is not a model under analyzer.model_dirs";

class NotAllowed extends Error {}

/** The head of a large GGUF file takes some 100 ms to read. */
const KEPT_MS = 60_000;
const MOST_KEPT = 64;

type Answer = Awaited<ReturnType<ModelFiles["read"]>>;

/** @param dirs the allowed folders as they are now. */
export function modelFiles(dirs: () => readonly string[], clock: Clock): ModelFiles {
  const kept = new Map<string, { readonly answer: Promise<Answer>; readonly until: number }>();
  return {
    read(path) {
      const allowed = dirs();
      const key = JSON.stringify([path, allowed]);
      const known = kept.get(key);
      if (known !== undefined && clock.now() < known.until) return known.answer;
      const answer = answered(path, allowed);
      kept.delete(key);
      kept.set(key, { answer, until: clock.now() + KEPT_MS });
      const oldest = kept.keys().next();
      if (kept.size > MOST_KEPT && !oldest.done) kept.delete(oldest.value);
      return answer;
    },
  };
}

async function answered(path: string, dirs: readonly string[]): Promise<Answer> {
  try {
    return await read(path, dirs);
  } catch (error) {
    return { problem: error instanceof Malformed ? `it ${error.message}` : NOT_ALLOWED };
  }
}

async function read(path: string, dirs: readonly string[]): Promise<ModelFile> {
  if (dirs.length === 0 || path.length > MAX_PATH || !path.startsWith("/")) throw new NotAllowed();
  const roots = await Promise.all(dirs.map((dir) => realpath(dir).catch(() => null)));
  const real = await realpath(path);
  const isUnder = (place: string) =>
    roots.some((root) => root !== null && (place === root || place.startsWith(root.endsWith(sep) ? root : root + sep)));
  if (!isUnder(real)) throw new NotAllowed();
  return (await stat(real)).isDirectory() ? folder(real, isUnder) : single(real, isUnder);
}

async function folder(path: string, isUnder: (place: string) => boolean): Promise<ModelFile> {
  const names = (await readdir(path)).filter((name) => /\.(?:safetensors|gguf)$/.test(name)).sort();
  const gguf = names.filter((name) => name.endsWith(".gguf"));
  const weights = names.filter((name) => name.endsWith(".safetensors"));
  const [first] = gguf;
  if (weights.length === 0 && first !== undefined) return single(join(path, first), isUnder);
  if (weights.length > MAX_FILES) throw new Malformed("has too many files");
  const config = await withFile(join(path, "config.json"), isUnder, async (file, size) => {
    if (size > MAX_CONFIG_BYTES) throw new Malformed("has too large a config.json");
    return asObject((await file.readFile()).toString("utf8"));
  });
  let bytes = 0;
  for (const name of weights) {
    bytes += await withFile(join(path, name), isUnder, (file, size) => tensorBytes(new FileBytes(file, size)));
  }
  return { name: basename(path), ...described(config, weights.length === 0 ? null : bytes) };
}

/** A GGUF file, with the further parts of one that was split: `...-00001-of-00003.gguf`. */
async function single(path: string, isUnder: (place: string) => boolean): Promise<ModelFile> {
  if (!path.endsWith(".gguf")) throw new NotAllowed();
  const head = (part: string) => withFile(part, isUnder, (file, size) => readGguf(new FileBytes(file, size)));
  const first = await head(path);
  let bytes = first.tensorBytes;
  const [, stem = "", count = "1"] = /^(.*)-00001-of-(\d{5})\.gguf$/.exec(path) ?? [];
  for (let part = 2; part <= Math.min(MAX_FILES, Number(count)); part++) {
    bytes += (await head(`${stem}-${String(part).padStart(5, "0")}-of-${count}.gguf`)).tensorBytes;
  }
  return { name: basename(path), ...described(configOfGguf(first), bytes) };
}

function described(config: JsonObject, weightBytes: number | null): Omit<ModelFile, "name"> {
  const read = readConfig(config);
  return { architecture: isReadable(read) ? read : null, weightBytes };
}

function asObject(text: string): JsonObject {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new Malformed("has a config.json that is not JSON");
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new Malformed("has a config.json that is no object");
  }
  return value as JsonObject;
}

/** Opens a regular file that lies under an allowed folder; a link to elsewhere is not followed there. */
async function withFile<T>(
  path: string,
  isUnder: (place: string) => boolean,
  use: (file: FileHandle, size: number) => Promise<T>,
): Promise<T> {
  const file = await open(await realpath(path), constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  try {
    const { size, isFile } = await file.stat().then((one) => ({ size: one.size, isFile: one.isFile() }));
    if (!isFile || !isUnder(await readlink(`/proc/self/fd/${file.fd}`))) throw new NotAllowed();
    return await use(file, size);
  } finally {
    await file.close();
  }
}
