import type { EpochMs } from "../../core/base/time.ts";
import { owns } from "../../core/decisions/lifecycle.ts";
import { isDrained } from "../../core/host/cordons.ts";
import type { KernelLogSight } from "../../core/host/sight.ts";
import type { HostState } from "../../core/host/state.ts";
import { holdersOf } from "../../core/model/holds.ts";
import type { Actor } from "../../core/model/ids.ts";
import { printable } from "../../platform/printable.ts";
import type { Scheduler } from "../../scheduler/scheduler.ts";
import type { HostDrainAnswer, ListAnswer, StatusAnswer } from "../../wire/host/answers.ts";
import { instant, text, timestamp } from "../../wire/values.ts";
import { Outlook } from "../allocations/outlook.ts";
import { deadlineOf, etaView, healthOfLease, overMemory, recordFor } from "../allocations/views.ts";
import { cordonView, gpuViews } from "../gpus/views.ts";

export function statusView(state: HostState, now: EpochMs, actor: Actor): StatusAnswer {
  const { sight } = state;
  return {
    gpus: gpuViews(state, now, actor),
    simulated: sight.simulated,
    driver_version: text(sight.driverVersion),
    cuda_version: text(sight.cudaVersion),
    ...hostDrainView(state),
    monitor: monitorView(state),
  };
}

export function monitorView({ sight }: HostState): StatusAnswer["monitor"] {
  return {
    healthy: sight.failure === null && sight.lastGoodProbeAt !== null,
    last_reading_at: instant(sight.lastGoodProbeAt),
    last_probe_at: instant(sight.lastProbeAt),
    failure: sight.failure === null ? null : { kind: sight.failure.kind, message: printable(sight.failure.message) },
    warnings: sight.warnings.map(printable),
    processes_hidden: sight.processesHidden,
    kernel_log: kernelLogView(sight.kernelLog),
  };
}

function kernelLogView(log: KernelLogSight | null): StatusAnswer["monitor"]["kernel_log"] {
  return log === null ? null : { readable: log.problem === null, problem: log.problem, overruns: log.missed };
}

export function listView(scheduler: Scheduler, actor: Actor): ListAnswer {
  const { state } = scheduler;
  const now = scheduler.now();
  const allocations = [];
  for (const allocation of state.allocations.values()) {
    if (allocation.status === "queued") continue;
    allocations.push({
      ...recordFor(actor, allocation, state),
      ...healthOfLease(allocation, state, now),
      ...overMemory(allocation, state),
    });
  }
  const queue = [];
  const outlook = new Outlook(state, now);
  for (const { allocation } of state.line.order.values()) {
    const { request } = allocation;
    const position: number = queue.length + 1;
    const { reason, publicReason } = outlook.reasonOf(request);
    const isOwn = owns(actor, allocation);
    queue.push({
      id: request.id,
      service_name: request.serviceName,
      required_gpus: request.requirement.gpus,
      min_memory_mb: request.requirement.memoryMib,
      priority: request.requirement.priority,
      position,
      ...(isOwn ? { principal: request.principal } : {}),
      submitted_at: timestamp(request.submittedAt),
      deadline: deadlineOf(request),
      reason: isOwn ? reason : publicReason,
      eta: etaView(outlook.etaOf(request, position)),
    });
  }
  const gpus = gpuViews(state, now, actor);
  return {
    last_event_id: scheduler.events.lastSeq,
    gpus,
    simulated: state.sight.simulated,
    ...hostDrainView(state),
    allocations,
    queue,
  };
}

export function hostDrainView(state: HostState): HostDrainAnswer {
  if (state.cordon === null) return { drain: null };
  const gpus = [...state.gpus.values()];
  const allocations = new Set(gpus.flatMap(({ hold }) => holdersOf(hold).map(({ allocationId }) => allocationId)));
  const drained = gpus.every((gpu) => isDrained(gpu, state));
  return { drain: { ...cordonView(state.cordon), drained, allocations: [...allocations] } };
}
