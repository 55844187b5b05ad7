/**
 * How close the GPUs of a host are to each other, as figures that can be added up.
 *
 *  1. A pair is ranked by its link: NVLinks, the more the better; then one PCIe switch (PIX), several (PXB), a host
 *     bridge (PHB), one NUMA node (NODE), several (SYS). Of pairs with the same link those beside the same CPUs are
 *     closer, which is what tells GPUs behind NVSwitches or in a virtual machine apart.
 *  2. Of two sets that one is better connected whose worst pairs are fewer: what GPUs do together goes at the pace of
 *     the worst link between them. `within` adds up to that order.
 *  3. Of two ways to take GPUs that one does less harm which tears fewer of the best pairs apart. `across` adds up to
 *     that order.
 *  4. Both count the pairs of each rank as one digit of a number. The digits of the ranks that matter most are exact up
 *     to {@link EXACT_GPUS} GPUs; ranks beyond {@link RANKS}, which no real host has, count as equal.
 */
import type { GpuLink, GpuLocality, Topology } from "../model/device.ts";
import type { GpuUuid } from "../model/ids.ts";

/** Of a larger topology nothing is used. Hosts have up to 16. */
export const MAX_CLOSE_GPUS = 64;
/** Of 16 GPUs there are 120 pairs. */
const EXACT_GPUS = 16;
const DIGIT = 2 ** Math.ceil(Math.log2((EXACT_GPUS * (EXACT_GPUS - 1)) / 2 + 1));
/** As many digits as a double holds, with room for the sums on the way. */
const RANKS = 7;

export interface Closeness {
  readonly topology: Topology;
  readonly places: ReadonlyMap<GpuUuid, number>;
  /** The place of every GPU that the topology does not know: as far from all as can be. */
  readonly stranger: number;
  /** Places, so the figure of `a` and `b` stands at `a * width + b`. */
  readonly width: number;
  /** By place: GPUs of one kind are connected alike with all others, so that one stands for the other. */
  readonly kinds: Int32Array;
  /** How much worse a set is for having both in it. */
  readonly within: Float64Array;
  /** How much worse a choice is for taking one and leaving the other. */
  readonly across: Float64Array;
}

/** Ranks go from far to near. */
const UNKNOWN_RANK = 0;
const FAR_TO_NEAR = ["SYS", "NODE", "PHB", "PXB", "PIX"] as const;

/**
 * @param before is given back when it was made of the same topology.
 * @returns `null` when there is nothing to go by.
 */
export function closenessOf(topology: Topology | null, before: Closeness | null): Closeness | null {
  if (topology === null || topology.gpus.length > MAX_CLOSE_GPUS) return null;
  if (before?.topology === topology) return before;
  const stranger = topology.gpus.length;
  const width = stranger + 1;
  const ranks: (number | null)[] = [];
  for (let a = 0; a < width; a++) for (let b = 0; b < width; b++) ranks.push(rankOf(topology, a, b));
  const levels = [...new Set(ranks)].filter((rank) => rank !== null).sort((a, b) => a - b);
  const figures = (digitOf: (level: number) => number) =>
    Float64Array.from(ranks, (rank) => (rank === null ? 0 : digitOf(levels.indexOf(rank))));
  return {
    topology,
    places: new Map(topology.gpus.map(({ uuid }, place) => [uuid, place])),
    stranger,
    width,
    kinds: kindsOf(ranks, width),
    within: figures((level) => digit(level)),
    across: figures((level) => digit(levels.length - 1 - level)),
  };
}

/** Where a GPU sits, as far as is known. */
export function localityOf(closeness: Closeness | null, uuid: GpuUuid): GpuLocality {
  const place = closeness?.places.get(uuid);
  const known = place === undefined ? undefined : closeness?.topology.gpus[place];
  return known ?? { uuid, numaNodes: [], cpuAffinity: null };
}

/** What one pair adds up to, when the pairs of `level` other ranks matter more. */
function digit(level: number): number {
  return level < RANKS ? DIGIT ** (RANKS - 1 - level) : 0;
}

function kindsOf(ranks: readonly (number | null)[], width: number): Int32Array {
  const kinds = new Int32Array(width);
  for (let place = 0; place < width; place++) {
    let kind = 0;
    while (kind < place && !areAlike(ranks, width, kind, place)) kind++;
    kinds[place] = kind;
  }
  return kinds;
}

function areAlike(ranks: readonly (number | null)[], width: number, a: number, b: number): boolean {
  for (let other = 0; other < width; other++) {
    if (other !== a && other !== b && ranks[a * width + other] !== ranks[b * width + other]) return false;
  }
  return true;
}

/** How near two GPUs are; `null` of a GPU and itself. Two that are not known may still be two. */
function rankOf({ gpus, links }: Topology, a: number, b: number): number | null {
  const [first, second] = [gpus[a], gpus[b]];
  if (first === undefined || second === undefined) return UNKNOWN_RANK;
  const link = links[a]?.[b] ?? null;
  if (a === b) return null;
  return link === null ? UNKNOWN_RANK : 1 + 2 * nearness(link) + (areBesideSameCpus(first, second) ? 1 : 0);
}

function nearness(link: GpuLink): number {
  const place = FAR_TO_NEAR.indexOf(link as (typeof FAR_TO_NEAR)[number]);
  return place >= 0 ? place : FAR_TO_NEAR.length - 1 + Number(link.slice("NV".length));
}

/** By their NUMA nodes; where a driver does not tell those, by their CPUs. */
function areBesideSameCpus(a: GpuLocality, b: GpuLocality): boolean {
  if (a.numaNodes.length > 0 && b.numaNodes.length > 0) return a.numaNodes.some((node) => b.numaNodes.includes(node));
  return a.cpuAffinity !== null && a.cpuAffinity === b.cpuAffinity;
}
