import { type FileBytes, Malformed } from "./file-bytes.ts";

/**
 * The bytes of all tensors of a safetensors file: what follows its header, which is 8 bytes of length and JSON
 * (huggingface/safetensors, README, "Format").
 *
 * @throws Malformed
 */
export async function tensorBytes(file: FileBytes): Promise<number> {
  const header = await file.u64();
  const begin = await file.bytes(1);
  const bytes = file.size - 8 - header;
  if (header < 2 || bytes < 0 || begin.toString("latin1") !== "{") throw new Malformed("is no safetensors file");
  return bytes;
}
