import type { EpochMs, Span } from "../base/time.ts";
import type { Request } from "../model/allocation.ts";
import type { Gpu } from "../model/gpu.ts";
import type { GpuUuid } from "../model/ids.ts";
import { boardOf } from "../model/mig.ts";
import type { KeptWindow } from "../model/policy.ts";

/** A set of windows, or of those whose member somebody is: one bit each, by their place in the state. */
export type WindowSet = number;

/** When the windows of a set are open, and no others. */
export interface Together {
  readonly open: WindowSet;
  /** In order. */
  readonly spans: readonly Span[];
}

/** What follows from the calendar alone. */
export interface WindowPlan {
  readonly together: readonly Together[];
  /** Every instant at which a window opens or closes, ascending. */
  readonly changes: readonly EpochMs[];
}

export const NOTHING: ReadonlySet<GpuUuid> = new Set();

/** Times in which the same windows are open, in order. */
export function segmentsOf(spans: readonly (readonly Span[])[]): { readonly open: WindowSet; readonly span: Span }[] {
  const changes = spans.flatMap((all, window) =>
    all.flatMap(({ from, to }) => [
      { at: from, bit: 1 << window },
      { at: to, bit: 1 << window },
    ]),
  );
  changes.sort((a, b) => a.at - b.at);
  const segments: { open: WindowSet; span: Span }[] = [];
  let open: WindowSet = 0;
  for (const [index, { at, bit }] of changes.entries()) {
    open ^= bit;
    const to = changes[index + 1]?.at ?? at;
    if (open !== 0 && to > at) segments.push({ open, span: { from: at, to } });
  }
  return segments;
}

export function planOfWindows(windows: readonly KeptWindow[]): WindowPlan {
  const together = new Map<WindowSet, Span[]>();
  const changes = new Set<EpochMs>();
  for (const { open, span } of segmentsOf(windows.map(({ spans }) => spans))) {
    const spans = together.get(open) ?? [];
    spans.push(span);
    together.set(open, spans);
    changes.add(span.from).add(span.to);
  }
  return {
    together: [...together].map(([open, spans]) => ({ open, spans })),
    changes: [...changes].sort((a, b) => a - b),
  };
}

/** The windows whose GPUs a request may use. */
export function memberOf(request: Request, windows: readonly KeptWindow[]): WindowSet {
  let set: WindowSet = 0;
  for (const [index, { members }] of windows.entries()) {
    const isMember = members.some(
      ({ services, principals, workloadTypes }) =>
        (services.length === 0 || services.includes(request.serviceName)) &&
        (principals.length === 0 || principals.includes(request.principal)) &&
        (workloadTypes.length === 0 || workloadTypes.includes(request.workloadType)),
    );
    if (isMember) set |= 1 << index;
  }
  return set;
}

/**
 * The GPUs that a window names, each with its MIG instances; none when it gives a number.
 *
 * @param indexOf as the driver counts now: an index that was another GPU's once means the one that has it.
 */
export function namedBy(
  { gpus: named }: KeptWindow,
  gpus: Iterable<Gpu>,
  indexOf: (uuid: GpuUuid) => number | null,
): ReadonlySet<GpuUuid> {
  if (typeof named === "number") return NOTHING;
  const found = new Set<GpuUuid>();
  for (const gpu of gpus) {
    const names = [gpu.uuid, boardOf(gpu), String(indexOf(gpu.uuid))];
    if (names.some((name) => named.includes(name))) found.add(gpu.uuid);
  }
  return found;
}

/** The index of the first of `sorted` from which on `holds` is true; its length when there is none. */
export function firstIndex<T>(sorted: readonly T[], holds: (item: T) => boolean): number {
  let [low, high] = [0, sorted.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (holds(sorted[middle] as T)) high = middle;
    else low = middle + 1;
  }
  return low;
}
