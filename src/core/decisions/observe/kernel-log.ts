/**
 * What the kernel's log says of GPUs.
 *
 *  1. An error that speaks against a GPU stays until it is answered: by a reset that the driver reports, by a driver
 *     that was loaded anew, by a new boot, or by an admin. No reading takes it back, and no restart of the daemon.
 *  2. The log is read from the beginning of its ring at every start. Records are numbered within one boot, so what has
 *     been answered is not taken for new.
 *  3. However often an error comes, one event is written for it: the rest is counted.
 */
import { pciDevice } from "../../base/pci-address.ts";
import type { EpochMs } from "../../base/time.ts";
import type { Event } from "../../host/events.ts";
import { evolve } from "../../host/evolve.ts";
import type { XidCount } from "../../host/sight.ts";
import type { HostState } from "../../host/state.ts";
import type { Gpu } from "../../model/gpu.ts";
import { namesOfHolders } from "../../model/holds.ts";
import type { GpuUuid } from "../../model/ids.ts";
import { effectOf, type KernelNews, meaningOf, type XidReport } from "../../readings/xid.ts";

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
    if (report.kind === "driver-loaded") {
      for (const gpu of state.gpus.values()) answer(gpu, report.sequence, "the driver was loaded anew", now, write);
      continue;
    }
    const gpu = gpuAt(report.device, state);
    if (gpu === undefined) continue;
    count(xids, gpu.uuid, report);
    if (report.sequence > gpu.answeredUpTo) apply(gpu, report, now, write);
  }
  const last = reports.at(-1)?.sequence ?? 0;
  const sequence = Math.max(before.sight.kernelLog?.sequence ?? 0, last);
  const kernelLog = { problem: news.problem, missed: news.missed, sequence };
  return { events, state: { ...state, sight: { ...state.sight, xids, kernelLog } } };
}

function apply(gpu: Gpu, report: XidReport, now: EpochMs, write: (event: Event) => void): void {
  const effect = effectOf(report);
  if (effect === "note") return;
  if (effect === "answered") {
    answer(gpu, report.sequence, "the driver asks for nothing any more", now, write);
    return;
  }
  const scope = effect === "exclude" ? "all" : "several";
  if (gpu.fault?.scope === "all" || gpu.fault?.scope === scope) return;
  const { uuid, hold } = gpu;
  const reason = describe(report.xid);
  const { sequence } = report;
  write({ type: "gpu-faulted", uuid, at: now, ...namesOfHolders(hold), reason, scope, sequence });
}

function answer(gpu: Gpu, upTo: number, reason: string, now: EpochMs, write: (event: Event) => void): void {
  // What came after the answer is not answered by it.
  if (gpu.fault === null || gpu.fault.sequence > upTo) return;
  write({ type: "gpu-fault-answered", uuid: gpu.uuid, at: now, reason, answeredUpTo: upTo });
}

export function describe(xid: number): string {
  const meaning = meaningOf(xid);
  return meaning === null ? `Xid ${xid}` : `Xid ${xid}: ${meaning}`;
}

/** The GPU at an address: one that is seen there before one that was there once. */
function gpuAt(device: string, state: HostState): Gpu | undefined {
  const there = state.gpus.values().filter(({ pciBusId, mig }) => {
    return mig === null && pciBusId !== null && pciDevice(pciBusId) === device;
  });
  const seen = there.find(({ uuid }) => state.sight.gpus.has(uuid));
  return seen ?? (there.length === 1 ? there[0] : undefined);
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
