/**
 * What `nvidia-smi` says beside a document. Driver 610 prints a line for each GPU that it cannot reach, and then the
 * document of the others:
 *
 *     Unable to determine the device handle for GPU1: 0000:34:00.0: Unknown Error
 *
 * Process names stand inside the document, so that no local user can write such a line.
 */
import { pciDevice } from "../../core/base/pci-address.ts";
import { oneLine } from "./text.ts";

/** How much on either side of the documents is looked at. */
const MAX_SEARCHED = 4_096;
const BEGINS = ["<?xml", "<nvidia_smi_log"] as const;
const END = "</nvidia_smi_log>";

const FAULT = /Unable to determine the device handle|GPU is lost|fallen off the bus|is inaccessible/i;
/** The driver's number of the GPU, where it tells one before the address. */
const NUMBERED = /\bGPU ?(\d{1,3}): +(?=[0-9a-f]{4,8}:)/i;

/** A GPU of which the driver says that it cannot be reached. */
export interface NamedGpu {
  /** As `pciDevice` writes it. */
  readonly device: string;
  /** `null`: not told. */
  readonly index: number | null;
  readonly words: string;
}

/** The text before the first document and after the last; all of it when there is none. */
export function wordsBeside(output: Uint8Array): string {
  const decoder = new TextDecoder();
  const head = decoder.decode(output.subarray(0, MAX_SEARCHED));
  const starts = BEGINS.map((mark) => head.indexOf(mark)).filter((at) => at >= 0);
  const tail = decoder.decode(output.subarray(-MAX_SEARCHED));
  const end = tail.lastIndexOf(END);
  const before = head.slice(0, Math.min(...starts, head.length));
  const after = end >= 0 ? tail.slice(end + END.length) : "";
  return `${before.trim()}\n${after.trim()}`.trim();
}

/** The GPUs that such a text names as out of reach, each once. */
export function namedGpus(words: string): readonly NamedGpu[] {
  const named = new Map<string, NamedGpu>();
  for (const line of words.split("\n")) {
    if (!FAULT.test(line)) continue;
    const device = pciDevice(line);
    if (device === null || named.has(device)) continue;
    const number = NUMBERED.exec(line);
    named.set(device, { device, index: number === null ? null : Number(number[1]), words: oneLine(line) });
  }
  return [...named.values()];
}
