/**
 * Completes a reading by the GPUs that the driver counts and the document leaves out, or shows although it says beside it
 * that it cannot reach them.
 *
 *  1. A GPU that is named beside the document is asked for alone, within what is left of the probe's deadline. Whatever
 *     comes of that, it is not granted: the listing of all has failed for it.
 *  2. One that does not answer is lost, in the driver's words. One that was never seen before is known by its PCI address
 *     until it says its UUID: so it is counted and shown, and not forgotten.
 *  3. The others are numbered as the driver counts, which may leave gaps (numbering.ts).
 */
import { pciDevice } from "../../core/base/pci-address.ts";
import type { GpuReading, HostReading } from "../../core/model/reading.ts";
import type { ListedGpu } from "./listing.ts";
import { numbersOf } from "./numbering.ts";
import { askForOne, type KnownGpu, lostReading, MIN_RUN_MS } from "./one-by-one.ts";
import type { RunEnd } from "./run.ts";
import type { NamedGpu } from "./words-beside.ts";

/** Where the words stand among the values that a reading could not have: see `outOfReach` in health.ts. */
const BESIDE = "nvidia-smi";

export interface Incomplete {
  readonly reading: HostReading;
  readonly attachedGpus: number | null;
  readonly named: readonly NamedGpu[];
  /** GPUs of earlier readings. */
  readonly roster: readonly KnownGpu[];
  /** Runs `nvidia-smi` with these arguments. */
  readonly run: (args: readonly string[], timeoutMs: number) => Promise<RunEnd>;
  /** What `nvidia-smi -L` lists; `null`: nothing, or there was no time. */
  readonly list: () => Promise<readonly ListedGpu[] | null>;
  readonly leftMs: () => number;
}

/** Whether the document shows what the driver counts, and nothing is said beside it. */
export function isWhole({ reading, attachedGpus, named }: Pick<Incomplete, "reading" | "attachedGpus" | "named">) {
  return named.length === 0 && (attachedGpus === null || attachedGpus <= reading.gpus.length);
}

export async function withLeftOut(incomplete: Incomplete): Promise<HostReading> {
  const { reading, named, attachedGpus } = incomplete;
  if (isWhole(incomplete)) return reading;
  const isNamed = (gpu: Pick<KnownGpu, "pciBusId">) => named.find(({ device }) => device === deviceOf(gpu));
  const shown = reading.gpus.map((gpu) => withWords(gpu, isNamed(gpu)));
  const absent = named.filter(({ device }) => !shown.some((gpu) => deviceOf(gpu) === device));
  const extra: GpuReading[] = [];
  for (const one of absent) extra.push(await readNamed(one, incomplete));
  const counted = (attachedGpus ?? 0) - shown.length - extra.length;
  const silent = counted > 0 ? silentGpus(incomplete, [...shown, ...extra], counted) : [];
  const leftOut = [
    ...absent.map(({ index }, n) => ({ pciBusId: extra[n]?.pciBusId as string, index })),
    ...silent.map(({ pciBusId }) => ({ pciBusId: pciBusId as string, index: null })),
  ];
  const unknown = counted - silent.length > 0;
  const numbers = numbersOf(shown, leftOut, unknown ? await incomplete.list() : null);
  const gpus = [...shown, ...extra].map((gpu, place) => ({ ...gpu, index: numbers[place] as number }));
  return { ...reading, gpus: gpus.sort((a, b) => a.index - b.index) };
}

/** GPUs that the driver counts and says nothing of: those of the roster that are gone, if these are as many. */
function silentGpus({ roster }: Incomplete, known: readonly GpuReading[], count: number): readonly KnownGpu[] {
  const gone = roster.filter((gpu) => gpu.pciBusId !== null && !known.some((one) => deviceOf(one) === deviceOf(gpu)));
  return gone.length === count ? gone : [];
}

async function readNamed(named: NamedGpu, { roster, run, leftMs }: Incomplete): Promise<GpuReading> {
  const gpu = roster.find((one) => deviceOf(one) === named.device) ?? strangerAt(named);
  const timeoutMs = leftMs() / 2;
  const answer = timeoutMs < MIN_RUN_MS ? null : await askForOne(gpu, (args) => run(args, timeoutMs));
  return withWords(answer?.said === "reading" ? answer.gpu : lostReading(gpu, named.words), named);
}

/** A GPU of which nothing is known but its address. */
function strangerAt({ device, index }: NamedGpu): KnownGpu {
  const [domain = "", bus = "", slot = ""] = device.split(":");
  const pciBusId = `${domain.padStart(8, "0")}:${bus.padStart(2, "0")}:${slot.padStart(2, "0")}.0`.toUpperCase();
  return { uuid: pciBusId, index: index ?? 0, name: "unknown GPU", pciBusId };
}

function withWords<T extends GpuReading>(gpu: T, named: NamedGpu | undefined): T {
  return named === undefined ? gpu : { ...gpu, errorValues: { ...gpu.errorValues, [BESIDE]: named.words } };
}

function deviceOf({ pciBusId }: Pick<KnownGpu, "pciBusId">): string | null {
  return pciBusId === null ? null : pciDevice(pciBusId);
}
