/**
 * What the kernel's log says of GPUs.
 *
 *  1. An error that speaks against a GPU stays until it is answered: by a reset that the driver reports, by a driver
 *     that was loaded anew, by a new boot, or by an admin. No reading takes it back, and no restart of the daemon.
 *  2. The log is read from the beginning of its ring at every start. Records are numbered within one boot, so what has
 *     been answered is not taken for new.
 *  3. However often an error comes, one event is written for it: the rest is counted.
 *  4. An error belongs to the GPU that had it, not to its slot: what was written before a GPU came to its slot is of the
 *     one that was there before.
 *  5. A broken NVSwitch is a fault of every GPU that it connects: each can work alone, and not together with others.
 */
import type { EpochMs } from "../../base/time.ts";
import { withSight } from "../../host/changes.ts";
import type { Event } from "../../host/events.ts";
import { evolve } from "../../host/evolve.ts";
import type { XidCount } from "../../host/sight.ts";
import type { HostState } from "../../host/state.ts";
import type { Gpu, GpuFault } from "../../model/gpu.ts";
import { namesOfHolders } from "../../model/holds.ts";
import type { GpuUuid } from "../../model/ids.ts";
import { recoveryWord } from "../../readings/recovery.ts";
import { effectOf, type KernelNews, type KernelReport, meaningOf, type XidReport } from "../../readings/xid.ts";
import { answeredBefore, deviceOf, gpusAt } from "./slots.ts";

/** Kinds of errors that are counted for one GPU; there are some hundred at all. */
const MAX_KINDS = 256;

export function readKernelLog(
  before: HostState,
  news: KernelNews,
  now: EpochMs,
): { events: Event[]; state: HostState } {
  let state = before;
  const events: Event[] = [];
  const write = (event: Event) => {
    events.push(event);
    state = evolve(state, event);
  };
  const xids = new Map(before.sight.xids);
  const reports = [...news.reports].sort((a, b) => a.sequence - b.sequence);
  for (const report of reports) {
    switch (report.kind) {
      case "driver-loaded":
        for (const gpu of state.gpus.values()) answer(gpu, report.sequence, "the driver was loaded anew", now, write);
        break;
      case "switch-fault": {
        const reason = `NVSwitch at ${report.device}: SXid ${report.sxid}, fatal`;
        for (const gpu of connectedGpus(state)) faulted(gpu, "several", reason, report.sequence, now, write);
        break;
      }
      case "init-failed": {
        const gpu = gpuOf(report, state);
        const reason = "the driver could not bring it to work (RmInitAdapter failed)";
        if (gpu !== undefined) faulted(gpu, "all", reason, report.sequence, now, write);
        break;
      }
      case "xid": {
        const gpu = gpuOf(report, state);
        if (gpu === undefined) break;
        count(xids, gpu.uuid, report);
        if (report.sequence > gpu.answeredUpTo) apply(gpu, report, now, write);
        break;
      }
      default:
        report satisfies never;
    }
  }
  for (const event of past(reports, state, now)) write(event);
  const last = reports.at(-1)?.sequence ?? 0;
  const sequence = Math.max(before.sight.kernelLog?.sequence ?? 0, last);
  const kernelLog = { problem: news.problem, missed: news.missed, sequence };
  return { events, state: withSight(state, { ...state.sight, xids, kernelLog }) };
}

function apply(gpu: Gpu, report: XidReport, now: EpochMs, write: (event: Event) => void): void {
  const effect = effectOf(report);
  if (effect === "note") return;
  if (effect === "answered") {
    answer(gpu, report.sequence, "the driver asks for nothing any more", now, write);
    return;
  }
  faulted(gpu, effect === "exclude" ? "all" : "several", describe(report), report.sequence, now, write);
}

function faulted(
  { uuid, hold, fault, answeredUpTo }: Gpu,
  scope: GpuFault["scope"],
  reason: string,
  sequence: number,
  at: EpochMs,
  write: (event: Event) => void,
): void {
  if (sequence <= answeredUpTo || fault?.scope === "all" || fault?.scope === scope) return;
  write({ type: "gpu-faulted", uuid, at, ...namesOfHolders(hold), reason, scope, sequence });
}

function answer(gpu: Gpu, upTo: number, reason: string, now: EpochMs, write: (event: Event) => void): void {
  // What came after the answer is not answered by it.
  if (gpu.fault === null || gpu.fault.sequence > upTo) return;
  write({ type: "gpu-fault-answered", uuid: gpu.uuid, at: now, reason, answeredUpTo: upTo });
}

export function describe({ xid, action }: Pick<XidReport, "xid" | "action">): string {
  const meaning = meaningOf(xid);
  const wanted = action === null ? "" : `: ${recoveryWord(action)}`;
  return meaning === null ? `Xid ${xid}` : `Xid ${xid}: ${meaning}${wanted}`;
}

/** A report of one GPU, which its address names. */
type OfGpu = Exclude<KernelReport, { readonly kind: "driver-loaded" | "switch-fault" }>;

/** The GPU that a report is about. See 4. */
function gpuOf(report: OfGpu, state: HostState): Gpu | undefined {
  const there = gpusAt(report.device, state);
  const seen = there.find(({ uuid }) => state.sight.gpus.has(uuid));
  const others = there.filter((gpu) => gpu !== seen);
  if (seen !== undefined && (others.length === 0 || !isBefore(report, seen, state))) return seen;
  return others.length === 1 ? others[0] : undefined;
}

/** Whether a report is of the time before `gpu` came to the slot in which another one had been. */
function isBefore({ sequence, at }: OfGpu, gpu: Gpu, { sight }: HostState): boolean {
  const cameAt = sight.newcomers.get(gpu.uuid);
  return sequence <= gpu.answeredUpTo || (cameAt !== undefined && at <= cameAt);
}

/** That what was written before a GPU came to its slot does not speak against it, also when it is read once more. */
function past(reports: readonly KernelReport[], state: HostState, now: EpochMs): Event[] {
  const events: Event[] = [];
  for (const uuid of state.sight.newcomers.keys()) {
    const gpu = state.gpus.get(uuid);
    if (gpu === undefined || !state.sight.gpus.has(uuid)) continue;
    const device = deviceOf(gpu);
    const earlier = reports.filter(
      (report): report is OfGpu => "at" in report && report.device === device && isBefore(report, gpu, state),
    );
    const upTo = Math.max(...earlier.map(({ sequence }) => sequence));
    if (upTo > gpu.answeredUpTo) events.push(answeredBefore(gpu, upTo, now));
  }
  return events;
}

/** The GPUs that NVLinks connect; all of them when it is not known how they are connected. See 5. */
function connectedGpus(state: HostState): readonly Gpu[] {
  const whole = state.gpus.values().filter(({ mig }) => mig === null);
  const { closeness } = state.sight;
  if (closeness === null) return whole;
  const connected = whole.filter(({ uuid }) => {
    const place = closeness.places.get(uuid);
    return place !== undefined && closeness.topology.links[place]?.some((link) => link?.startsWith("NV") === true);
  });
  return connected.length > 0 ? connected : whole;
}

export function count(xids: Map<GpuUuid, ReadonlyMap<number, XidCount>>, uuid: GpuUuid, report: XidReport): void {
  const counts = new Map(xids.get(uuid));
  const before = counts.get(report.xid);
  if (before === undefined && counts.size >= MAX_KINDS) return;
  // A log that had to be opened anew is read from its beginning again.
  if (before !== undefined && report.sequence <= before.sequence) return;
  const { sequence, at: lastAt } = report;
  counts.set(report.xid, { count: (before?.count ?? 0) + report.count, lastAt, sequence });
  xids.set(uuid, counts);
}
