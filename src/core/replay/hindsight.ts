/**
 * What a decision found and why it came out as it did, for somebody who asks afterwards. Facts and sentences; nothing
 * here names what a workload is made of or where its webhooks go. Text of drivers and clients is as they gave it: escape
 * it where it is shown.
 */

import { passedOver } from "../allocator/fit.ts";
import type { EpochMs } from "../base/time.ts";
import type { Command } from "../decisions/commands.ts";
import { explain } from "../explain/explain.ts";
import { candidates } from "../host/candidates.ts";
import { withPolicy, withSight } from "../host/changes.ts";
import { blockOf } from "../host/condition.ts";
import { shapeOf } from "../host/demand.ts";
import type { Event } from "../host/events.ts";
import { evolve } from "../host/evolve.ts";
import type { Candidate } from "../host/free-gpus.ts";
import type { HostState } from "../host/state.ts";
import type { Request } from "../model/allocation.ts";
import type { AllocationId, GpuUuid } from "../model/ids.ts";
import type { Policy } from "../model/policy.ts";

/** One command as it was decided. */
export interface Decided {
  readonly command: Command;
  readonly before: HostState;
  readonly after: HostState;
  readonly events: readonly Event[];
}

/** How a GPU stood when the line was served. */
export interface GpuStood {
  readonly uuid: GpuUuid;
  readonly index: number;
  readonly name: string;
  /** `free`, or why it could not be granted at all. */
  readonly standing: string;
  readonly detail: string | null;
  /** By the latest reading; `null`: none, or it did not say. */
  readonly memoryUsedMib: number | null;
  readonly memoryTotalMib: number | null;
  readonly utilizationPercent: number | null;
  /** How old that reading was; `null`: there was none. */
  readonly readingAgeMs: number | null;
}

/** One that waited when the line was served, in the order of the line. */
export interface Waited {
  readonly position: number;
  readonly id: AllocationId;
  readonly serviceName: string;
  readonly gpus: number;
  readonly memoryMib: number;
  readonly priority: number;
  readonly maxDurationMs: number | null;
  readonly waitedMs: number;
  /** What became of it in this decision, and why. */
  readonly outcome: "granted" | "waits" | "ended";
  readonly reason: string;
}

export interface Hindsight {
  readonly gpus: readonly GpuStood[];
  readonly queue: readonly Waited[];
  /** Per event, what it says in words. */
  readonly events: readonly string[];
}

export function explainDecision({ before, after, events }: Pick<Decided, "before" | "after" | "events">, now: EpochMs) {
  const served = whenServed(before, after, events);
  const outcomes = outcomesOf(served.state, events.slice(served.events), now);
  const queue: Waited[] = [];
  for (const { allocation } of served.state.line.order.values()) {
    const { request } = allocation;
    const { requirement } = request;
    queue.push({
      position: queue.length + 1,
      id: request.id,
      serviceName: request.serviceName,
      gpus: requirement.gpus,
      memoryMib: requirement.memoryMib,
      priority: requirement.priority,
      maxDurationMs: request.maxDurationMs,
      waitedMs: now - request.submittedAt,
      ...(outcomes.get(request.id) ?? { outcome: "waits", reason: explain(request, after, now).reason }),
    });
  }
  return {
    gpus: gpusOf(served.state, now),
    queue: withPassed(queue, after.policy),
    events: events.map(wordsOf),
  } satisfies Hindsight;
}

/** Says of those who were granted past others why that does these no harm. */
function withPassed(queue: readonly Waited[], { reserveAfterMs, preferWide }: Policy): Waited[] {
  return queue.map((one, place) => {
    const passed = queue.slice(0, place).filter(({ outcome }) => outcome === "waits");
    if (one.outcome !== "granted" || passed.length === 0) return one;
    const narrower = passed.filter(({ gpus }) => gpus < one.gpus);
    const isOpen = ({ maxDurationMs, priority }: Waited) => maxDurationMs === null && priority === one.priority;
    if (preferWide && narrower.length > 0 && [one, ...narrower].every(isOpen)) {
      return { ...one, reason: `${one.reason}; of equals that state no max_duration the widest that fits goes first` };
    }
    const areYoung = passed.every(({ waitedMs }) => waitedMs < reserveAfterMs);
    const why = areYoung
      ? `nobody before it that waits has waited for reserve_after (${reserveAfterMs / 1_000} s)`
      : "it puts nobody off for whom GPUs are held";
    return { ...one, reason: `${one.reason}; ${why}` };
  });
}

/** What was found when GPUs began to be given: after what the command itself did. */
function whenServed(before: HostState, after: HostState, events: readonly Event[]) {
  const seen = withSight(before, after.sight);
  let state = before.policy === after.policy ? seen : withPolicy(seen, after.policy);
  let count = 0;
  for (const event of events) {
    if (event.type === "granted") break;
    state = evolve(state, event);
    count++;
  }
  return { state, events: count };
}

function outcomesOf(served: HostState, events: readonly Event[], now: EpochMs) {
  const outcomes = new Map<AllocationId, Pick<Waited, "outcome" | "reason">>();
  let state = served;
  for (const event of events) {
    if (event.type === "granted") {
      const request = state.allocations.get(event.id)?.request;
      const uuids = event.lease.gpus.map(({ uuid }) => uuid);
      if (request !== undefined)
        outcomes.set(event.id, { outcome: "granted", reason: whyThese(request, uuids, state, now) });
    } else if (event.type === "ended") outcomes.set(event.id, { outcome: "ended", reason: wordsOf(event) });
    state = evolve(state, event);
  }
  return outcomes;
}

function gpusOf(state: HostState, now: EpochMs): GpuStood[] {
  return state.gpus
    .values()
    .map((gpu): GpuStood => {
      const block = blockOf(gpu, state, now);
      const seen = state.sight.gpus.get(gpu.uuid);
      return {
        uuid: gpu.uuid,
        index: gpu.index,
        name: gpu.name,
        standing: block?.block ?? "free",
        detail: block?.detail ?? null,
        memoryUsedMib: seen?.reading.memoryUsedMib ?? null,
        memoryTotalMib: gpu.memoryTotalMib,
        utilizationPercent: seen?.reading.utilizationPercent ?? null,
        readingAgeMs: seen === undefined ? null : now - seen.finishedAt,
      };
    })
    .sort((a, b) => a.index - b.index || (a.uuid < b.uuid ? -1 : 1));
}

/** Why `chosen`, and no others that could have been had: the first thing that tells them apart, as `place` goes by. */
function whyThese(request: Request, chosen: readonly GpuUuid[], state: HostState, now: EpochMs): string {
  const shape = shapeOf(request, state.gpus.models());
  const suiting = candidates(state, now).filter((candidate) => passedOver(request, shape, candidate) === null);
  const taken = suiting.filter(({ gpu }) => chosen.includes(gpu.uuid));
  const others = suiting.filter(({ gpu }) => !chosen.includes(gpu.uuid));
  const names = chosen.map((uuid) => state.gpus.get(uuid)?.index ?? uuid).join(", ");
  const gpus = `${chosen.length === 1 ? "GPU" : "GPUs"} ${names}`;
  if (others.length === 0) return `${gpus}: no others were free and suited`;
  const why = advantage(request, taken, others, state);
  return `${gpus}, out of ${suiting.length} that were free and suited: ${why}`;
}

function advantage(
  request: Request,
  taken: readonly Candidate[],
  others: readonly Candidate[],
  state: HostState,
): string {
  const isPreferred = ({ gpu }: Candidate) =>
    request.preferredGpus.includes(gpu.uuid) || request.preferredGpus.includes(String(gpu.index));
  if (taken.some(isPreferred)) return "its client prefers them";
  if (!taken.some(({ strained }) => strained) && others.some(({ strained }) => strained)) {
    return "others are slowed or degraded";
  }
  if (taken.length > 1 && state.sight.closeness !== null) return "no set of them is connected better";
  const largest = Math.max(...taken.map(({ availableMib }) => availableMib));
  if (others.some(({ availableMib }) => availableMib > largest))
    return "they are the smallest, so large ones stay whole";
  if (state.sight.closeness !== null) return "they tear the fewest good connections, then by UUID";
  return "they are all alike, so by UUID";
}

/** The command in a sentence. Commands without one of their own are told by their plain facts. */
export function commandInWords(command: Command): string {
  switch (command.type) {
    case "allocate": {
      const { ask, actor } = command;
      const facts = [
        ask.requiredGpus === null ? null : `${ask.requiredGpus} ${ask.requiredGpus === 1 ? "GPU" : "GPUs"}`,
        ask.minMemoryMib === null ? null : `${ask.minMemoryMib} MiB each`,
        ask.priority === null ? null : `priority ${ask.priority}`,
        ask.gpuModel === null ? null : `model ${ask.gpuModel}`,
        ask.maxDurationMs === null ? null : `for ${ask.maxDurationMs / 1_000} s at most`,
      ].filter((fact) => fact !== null);
      const what = facts.length === 0 ? "what its type needs" : facts.join(", ");
      return `${actor.principal} asked for GPUs as ${ask.serviceName} (${ask.workloadType}): ${what}`;
    }
    case "observe":
      return command.observation.ok
        ? `a reading of ${command.observation.reading.gpus.length} GPUs came in`
        : `a reading failed: ${command.observation.failure.message}`;
    case "tick":
      return "it was time to look at what is due";
    case "resume":
      return "the daemon began to serve, or had stood still";
    case "reconfigure":
      return "the settings were read again";
    case "hang-up":
      return `the client of ${command.id} hung up before it had its answer`;
    case "claim":
      return `the webhook about ${command.id} was taken`;
    default:
      return `${command.type}${plainFacts(command)}`;
  }
}

/** An event in words. */
function wordsOf(event: Event): string {
  switch (event.type) {
    case "submitted":
      return `${event.request.id} is in line`;
    case "granted": {
      const { gpus, fencingToken } = event.lease;
      const how = event.claimBy === null ? "leased to" : "offered to";
      const names = gpus.map(({ index }) => index).join(", ");
      return `${gpus.length === 1 ? "GPU" : "GPUs"} ${names} ${how} ${event.id}, fencing token ${fencingToken}`;
    }
    case "ended": {
      const { reason, detail } = event.outcome;
      return `${event.id} ended: ${reason}${detail === null ? "" : `, ${detail}`}`;
    }
    case "became-head":
      return `${event.id} is the head of the queue, and nobody can say when it will start: its patience runs`;
    case "gpu-seen":
      return `GPU ${event.gpu.index} is seen: ${event.gpu.name}, ${event.gpu.uuid}`;
    default:
      return `${event.type}${plainFacts(event)}`;
  }
}

/** Fields that are text or numbers, and who acts; of the rest nothing. */
function plainFacts(fields: object): string {
  const facts: string[] = [];
  for (const [name, value] of Object.entries(fields)) {
    if (name === "type" || name === "at") continue;
    if (typeof value === "string" || typeof value === "number") facts.push(`${name} ${value}`);
    else if (name === "actor") facts.push(`by ${(value as { readonly principal: string }).principal}`);
  }
  return facts.length === 0 ? "" : `: ${facts.join(", ")}`;
}
