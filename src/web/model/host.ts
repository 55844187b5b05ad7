/** What the host looks like: the list, with the figures and states of later readings put in. Pure. */
import type { Gpu, Holder, Lease, List, MigDevice, Reading, Waiting } from "../api/answers.ts";
import { isOut } from "./states.ts";

/** A GPU of which a reading brings nothing new stays the same value, and is not drawn again. */
const SHOWN = ["state", "reason", "since", "memory_used", "utilization", "temperature", "power_draw"] as const;

type Now = Reading["gpus"][number];

/**
 * The list with a later reading in it.
 *
 * @returns whether more has changed than figures: then reasons of the queue, or whose a process is, may have too, and
 *   the list is out of date.
 */
export function withReading(list: List, reading: Reading): { readonly list: List; readonly moved: boolean } {
  const byUuid = new Map(reading.gpus.map((gpu) => [gpu.uuid, gpu]));
  let moved = reading.gpus.length !== list.gpus.length;
  const gpus = list.gpus.map((gpu): Gpu => {
    const now = byUuid.get(gpu.uuid);
    if (now === undefined) return gpu;
    const isMoved = hasMoved(gpu, now);
    moved ||= isMoved;
    const figures = gpu.mig_devices.map(({ memory_used }) => memory_used).join();
    const isSame = !isMoved && figures === now.mig_devices.map(({ memory_used }) => memory_used).join();
    return isSame && SHOWN.every((figure) => gpu[figure] === now[figure]) ? gpu : withNow(gpu, now);
  });
  return { list: { ...list, gpus }, moved };
}

function hasMoved(gpu: Gpu, now: Now): boolean {
  const pids = [gpu, ...gpu.mig_devices].flatMap(({ processes }) => processes.map(({ pid }) => pid));
  if (pids.join() !== now.pids.join()) return true;
  return (
    [gpu, ...gpu.mig_devices].map(conditionOf).join("\n") !== [now, ...now.mig_devices].map(conditionOf).join("\n")
  );
}

function conditionOf({ state, reason, ailment }: Pick<MigDevice, "state" | "reason" | "ailment">): string {
  return `${state} ${reason} ${ailment?.state} ${ailment?.reason}`;
}

function withNow(gpu: Gpu, { mig_devices, pids: _, ...now }: Now): Gpu {
  const instances = gpu.mig_devices.map((instance) => {
    const seen = mig_devices.find(
      (one) =>
        one.gpu_instance_id === instance.gpu_instance_id && one.compute_instance_id === instance.compute_instance_id,
    );
    return seen === undefined ? instance : { ...instance, ...seen };
  });
  return { ...gpu, ...now, mig_devices: instances };
}

export interface Counts {
  readonly all: number;
  readonly free: number;
  /** Held whole, in parts or by instances. */
  readonly held: number;
  /** Out of service because somebody wants it so; not among those that are `out`. */
  readonly cordoned: number;
  readonly out: number;
  /** On their way back to be free. */
  readonly returning: number;
  readonly waiting: number;
}

export function countsOf({ gpus, queue }: List): Counts {
  const held = gpus.filter(isHeld).length;
  const rest = gpus.filter((gpu) => !isHeld(gpu));
  const cordoned = rest.filter(({ state }) => state === "cordoned").length;
  const out = rest.filter(({ state }) => isOut(state)).length - cordoned;
  const free = rest.filter(({ state }) => state === "free" || state === "mig").length;
  const returning = rest.length - cordoned - out - free;
  return { all: gpus.length, free, held, cordoned, out, returning, waiting: queue.length };
}

export function isHeld({ holders, mig_devices }: Gpu): boolean {
  return holders.length > 0 || mig_devices.some((instance) => instance.holders.length > 0);
}

/** Who holds a GPU or parts of it, of each service the first. */
export function firstHolders({ holders, mig_devices }: Gpu): Holder[] {
  const all = [...holders, ...mig_devices.flatMap((instance) => instance.holders)];
  const first = new Map(all.toReversed().map((holder) => [holder.service_name, holder]));
  return all.filter((holder) => first.get(holder.service_name) === holder);
}

/** The leases that have a part in it. */
export function leasesOn(gpu: Gpu, leases: readonly Lease[]): Lease[] {
  const holders = [...gpu.holders, ...gpu.mig_devices.flatMap((instance) => instance.holders)];
  const ids = new Set(holders.map(({ allocation_id }) => allocation_id));
  return leases.filter(({ id }) => ids.has(id));
}

/** When a lease ends, in ms. `hard`: whatever is renewed. `unless-renewed`: by its TTL, with no other end. */
export interface LeaseEnd {
  readonly at: number;
  readonly kind: "hard" | "unless-renewed";
}

/** `null`: it has no end. A lease that is renewed is told by its hard end where it has one. */
export function endOf(lease: Lease): LeaseEnd | null {
  const { notice, claim_by, allocated_at, max_duration_seconds, expires_at } = lease;
  const hard = [notice?.leave_by, claim_by].flatMap((end) => (end ? [Date.parse(end)] : []));
  if (allocated_at !== undefined && max_duration_seconds !== null) {
    hard.push(Date.parse(allocated_at) + max_duration_seconds * 1_000);
  }
  if (hard.length > 0) return { at: Math.min(...hard), kind: "hard" };
  return expires_at ? { at: Date.parse(expires_at), kind: "unless-renewed" } : null;
}

/** Leases by their end, those without one last. */
export function byEnd(leases: readonly Lease[]): Lease[] {
  const end = (lease: Lease) => endOf(lease)?.at ?? Number.POSITIVE_INFINITY;
  return leases.toSorted((a, b) => (end(a) === end(b) ? (a.id < b.id ? -1 : 1) : end(a) - end(b)));
}

/** What a device is called where its UUID says nothing to people: `GPU 3`, `GPU 3 MIG 0`. */
export function namesOf(gpus: readonly Gpu[]): [uuid: string, name: string][] {
  return gpus.flatMap(({ uuid, id, mig_devices }): [string, string][] => {
    if (id === null) return [];
    const instances = mig_devices.flatMap((one): [string, string][] =>
      one.uuid === null || one.index === null ? [] : [[one.uuid, `GPU ${id} MIG ${one.index}`]],
    );
    return [[uuid, `GPU ${id}`], ...instances];
  });
}

/** The model's name when all GPUs are of one, so that it need be said only once. */
export function onlyModel(gpus: readonly Gpu[]): string | null {
  const names = new Set(gpus.map(({ name }) => name));
  return names.size === 1 ? ([...names][0] as string) : null;
}

/** Those that a search in plain text means. */
export function matching(queue: readonly Waiting[], search: string): readonly Waiting[] {
  const words = search.toLowerCase().split(/\s+/).filter(Boolean);
  if (words.length === 0) return queue;
  return queue.filter((one) => {
    const text = `${one.service_name} ${one.id} ${one.reason}`.toLowerCase();
    return words.every((word) => text.includes(word));
  });
}

/** The first sentence about the host, for the page's title too: `2 of 8 GPUs free, 3 waiting`. */
export function headline({ all, free, waiting }: Counts): string {
  if (all === 0) return "no GPUs";
  return `${free} of ${all} ${all === 1 ? "GPU" : "GPUs"} free${waiting === 0 ? "" : `, ${waiting} waiting`}`;
}
