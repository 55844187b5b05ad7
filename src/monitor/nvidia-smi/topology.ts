/**
 * What `nvidia-smi topo -m` says of how GPUs are connected. The format has no specification: it was learned from output
 * of real hosts, with drivers from before 450 up to 610.
 *
 *     \tGPU0\tGPU1\tNIC0\tCPU Affinity\tNUMA Affinity\tGPU NUMA ID
 *     GPU0\t X \tNV18\tPXB\t0-51,104-155\t0\t\tN/A
 *
 * 1. The matrix of the GPUs is read whole or not at all: a row for each, in order, ended by a line break, with a cell
 *    for each. A cell of which nothing can be made, or that says other than the one across it, is a link that is not
 *    known; the rest stands.
 * 2. Cells of the matrix are never empty, so they are told apart by blanks or tabs; so are those of the NICs, whose
 *    names are not looked at. What follows may be empty: inside a cpuset the CPUs are.
 * 3. A CPU list or NUMA node that is missing, or cannot be told from its neighbour, is not known. It is never guessed.
 *
 * `topo -p2p`, which says between which GPUs peer access works, is not asked: where it is missing, it is so for every
 * pair (consumer cards), or for those that stand further apart in this matrix too.
 */
import { formatCpuList, type NumberRange, parseCpuList } from "../../core/base/cpu-list.ts";
import type { GpuLink, GpuLocality, Topology } from "../../core/model/device.ts";
import { type ParseError, UnreadableDocument } from "./document.ts";

/** Most that one run may print. Eight GPUs beside 17 NICs take 7 kB. */
export const MAX_TOPOLOGY_BYTES = 1024 * 1024;
/** Most GPUs of a matrix. Hosts have up to 16. */
export const MAX_TOPOLOGY_GPUS = 64;
/** Linux's MAX_NUMNODES. */
const MAX_NUMA_NODES = 1024;
/** The matrix is printed for terminals, with columns of a tab each. */
const TAB_STOP = 8;

const ANSI = new RegExp(`${String.fromCharCode(27)}\\[[0-9;]*[A-Za-z]`, "g");
const LINK = /^(?:NV[1-9]\d?|PIX|PXB|PHB|NODE|SYS)$/;
/** What drivers up to 387 call SYS. */
const FORMER_SYS = "SOC";
const SELF = "X";
/** `NIC0`; in older drivers the device's own name, such as `mlx5_0`. */
const NIC = /^[A-Za-z][\w.-]{0,63}$/;
const GPU = /^GPU\d/;
const HEADER_START = /^[ \t]+GPU0(?=[ \t]|$)/;
const HEADER_CELL = /CPU Affinity|NUMA Affinity|GPU NUMA ID|\S+/g;
/** In this order; older drivers lack the last, or the last two. */
const TAIL_COLUMNS: readonly string[] = ["CPU Affinity", "NUMA Affinity", "GPU NUMA ID"];
const NO_READING = "N/A";

/** The GPUs go by their indices of the moment in which it was printed. */
export interface SmiTopology {
  readonly gpus: readonly Omit<GpuLocality, "uuid">[];
  readonly links: Topology["links"];
}

export type TopologyResult =
  | { readonly ok: true; readonly topology: SmiTopology }
  | { readonly ok: false; readonly error: ParseError };

/** Reads the output of `nvidia-smi topo -m`. Never throws, whatever the bytes. */
export function parseTopology(output: Uint8Array | string): TopologyResult {
  try {
    return { ok: true, topology: readMatrix(output) };
  } catch (error) {
    if (error instanceof UnreadableDocument) {
      return { ok: false, error: { kind: error.kind, message: error.message } };
    }
    throw error;
  }
}

interface Header {
  readonly gpus: number;
  readonly nics: number;
  /** How many of {@link TAIL_COLUMNS} there are. */
  readonly tail: number;
}

function readMatrix(output: Uint8Array | string): SmiTopology {
  if (output.length > MAX_TOPOLOGY_BYTES) {
    throw new UnreadableDocument("too-large", `${output.length} bytes are more than ${MAX_TOPOLOGY_BYTES}`);
  }
  const text = (typeof output === "string" ? output : new TextDecoder("utf-8").decode(output)).replace(ANSI, "");
  if (text.trim() === "") throw new UnreadableDocument("empty", "it printed nothing");
  const lines = text.split(/\r?\n/);
  // What follows the last line break may be half a line.
  lines.pop();
  const top = lines.findIndex((line) => HEADER_START.test(line));
  if (top < 0) throw new UnreadableDocument("no-document", `it printed no matrix but: ${text.slice(0, 1000)}`);
  const header = readHeader(lines[top] as string);
  const rows = lines.slice(top + 1, top + 1 + header.gpus);
  if (rows.length < header.gpus) {
    throw new UnreadableDocument("unfinished", `the matrix of ${header.gpus} GPUs breaks off after ${rows.length}`);
  }
  const read = rows.map((line, index) => readRow(line, index, header));
  if (lines.slice(top + 1 + header.gpus).some((line) => GPU.test(line) || HEADER_START.test(line))) {
    throw malformed(`there are more rows than the ${header.gpus} GPUs of its head`);
  }
  const links = symmetric(read.map((row) => row.links));
  // That of peer access, for one, looks alike.
  if (header.gpus > 1 && links.flat().every((link) => link === null)) throw malformed("it names no connection");
  return { gpus: read.map(({ locality }) => locality), links };
}

function malformed(message: string): UnreadableDocument {
  return new UnreadableDocument("malformed", message);
}

function readHeader(line: string): Header {
  const words = line.match(HEADER_CELL) ?? [];
  let gpus = 0;
  while (words[gpus] === `GPU${gpus}`) gpus++;
  if (gpus > MAX_TOPOLOGY_GPUS) throw new UnreadableDocument("too-many-gpus", `more than ${MAX_TOPOLOGY_GPUS} GPUs`);
  let end = words.findIndex((word) => TAIL_COLUMNS.includes(word));
  if (end < 0) end = words.length;
  const nics = words.slice(gpus, end);
  if (nics.some((name) => !NIC.test(name) || GPU.test(name) || LINK.test(name))) {
    throw malformed("its head names columns that are neither GPUs nor NICs");
  }
  const tail = words.slice(end);
  if (tail.some((name, place) => name !== TAIL_COLUMNS[place])) throw malformed("its head ends in other columns");
  return { gpus, nics: nics.length, tail: tail.length };
}

interface Row {
  readonly links: readonly (GpuLink | null)[];
  readonly locality: Omit<GpuLocality, "uuid">;
}

function readRow(line: string, index: number, header: Header): Row {
  const cell = /[ \t]*(\S+)/y;
  const next = () => cell.exec(line)?.[1];
  if (!GPU.test(line) || next() !== `GPU${index}`) throw malformed(`the row of GPU${index} is not in its place`);
  const links: (GpuLink | null)[] = [];
  let end = cell.lastIndex;
  for (let column = 0; column < header.gpus + header.nics; column++) {
    const word = next();
    const isSelf = column === index;
    if (word === undefined || isSelf !== (word === SELF)) {
      throw malformed(`cell ${column} of GPU${index}'s row is no connection`);
    }
    if (column < header.gpus) links.push(isSelf ? null : linkOf(word));
    end = cell.lastIndex;
  }
  return { links, locality: readTail(line.slice(end), index, header) };
}

function linkOf(word: string): GpuLink | null {
  if (word === FORMER_SYS) return "SYS";
  return LINK.test(word) ? (word as GpuLink) : null;
}

function symmetric(links: Topology["links"]): Topology["links"] {
  return links.map((row, a) => row.map((link, b) => (links[b]?.[a] === link ? link : null)));
}

/** What follows the links: the CPUs, the NUMA nodes, and the number of a GPU that is a NUMA node itself. */
function readTail(rest: string, index: number, header: Header): Row["locality"] {
  const words = rest.split(/[ \t]+/).filter((word) => word !== "");
  if (words.length > header.tail) throw malformed(`GPU${index}'s row has more cells than its head`);
  let cpus: string | undefined;
  let others: readonly string[] = [];
  if (rest.includes("\t")) {
    // Wide columns take one tab or two, as the driver's author saw fit; before the first stands exactly one.
    const [before, first = "", ...cells] = rest.split("\t").map((cell) => cell.replace(/^ +| +$/g, ""));
    if (before !== "") throw malformed(`GPU${index}'s row runs into its CPUs`);
    cpus = first;
    others = cells.filter((cell) => cell !== "");
  } else if (words.length === header.tail) [cpus, ...others] = words;
  else if (rest.search(/\S/) >= TAB_STOP) others = words;
  const numa = others.length === header.tail - 1 ? others[0] : undefined;
  return { numaNodes: numaNodes(numa), cpuAffinity: cpuAffinity(cpus) };
}

function cpuAffinity(word: string | undefined): string | null {
  const ranges = rangesOf(word);
  return ranges === null ? null : formatCpuList(ranges);
}

function numaNodes(word: string | undefined): readonly number[] {
  const ranges = rangesOf(word) ?? [];
  if (ranges.some(([, last]) => last >= MAX_NUMA_NODES)) return [];
  return ranges.flatMap(([first, last]) => Array.from({ length: last - first + 1 }, (_, n) => first + n));
}

function rangesOf(word: string | undefined): readonly NumberRange[] | null {
  return word === undefined || word === NO_READING ? null : parseCpuList(word);
}
