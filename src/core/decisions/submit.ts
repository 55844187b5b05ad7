/** What becomes of a request before the line is served: it is completed, and refused or accepted. */

import { cardsFor, neverFits } from "../allocator/never-fits.ts";
import { analyze } from "../analyzer/analyze.ts";
import { MAX_DURATION_MS } from "../base/duration.ts";
import type { EpochMs } from "../base/time.ts";
import { ACCOUNT_KINDS, accountKey, quotaOf } from "../host/accounts.ts";
import { anyCurrentReading } from "../host/condition.ts";
import { delayOf } from "../host/fair-share.ts";
import { findGpu } from "../host/indices.ts";
import type { HostState } from "../host/state.ts";
import type { Request } from "../model/allocation.ts";
import {
  GpusUnavailableError,
  NoGpuFreeError,
  QueueFullError,
  QuotaError,
  RequestNeverFitsError,
} from "../model/errors.ts";
import type { GpuUuid } from "../model/ids.ts";
import type { Policy } from "../model/policy.ts";
import type { Analysis } from "../model/workload.ts";
import { budgetsOf } from "../queue/budgets.ts";
import { crowded, neverAllowed, overQuotas } from "../queue/quotas.ts";
import type { Scheduled } from "../queue/schedule.ts";
import type { AllocateAsk, AnalyzerAsk, Command } from "./commands.ts";
import type { Drafting } from "./drafting.ts";

/** When to ask again for what another lease or request of one's own keeps. */
const ASK_AGAIN_AFTER_MS = 10_000;

type Allocate = Extract<Command, { type: "allocate" }>;

/** What is asked, with all that the analyzer and the settings add. */
export function requestOf(command: Allocate, state: HostState, now: EpochMs): Request {
  const { id, ask, actor, arrivedAt = now } = command;
  const { policy, fairShares: shares } = state;
  const { exactGpus, boundTo } = ask;
  const request: Request = {
    id,
    serviceName: ask.serviceName,
    principal: actor.principal,
    workloadType: ask.workloadType,
    workloadData: ask.workloadData,
    webhookUrl: ask.webhookUrl,
    requirement: analysisFor(ask, { principal: actor.principal, serviceName: ask.serviceName }, state).requirement,
    preferredGpus: ask.preferredGpus,
    gpuModel: ask.gpuModel,
    ttlMs: ttlOf(ask, policy),
    maxDurationMs: ask.maxDurationMs ?? policy.defaultMaxDurationMs,
    preemptible: ask.preemptible,
    queueTimeoutMs: ask.queueTimeoutMs ?? policy.queueTimeoutMs,
    migProfile: ask.migProfile,
    sharing: ask.sharing,
    fairShareDelayMs: delayOf(shares, actor.principal, policy, now),
    submittedAt: Math.min(arrivedAt, now),
  };
  if (exactGpus === undefined && boundTo === undefined) return request;
  return {
    ...request,
    ...(exactGpus === undefined ? {} : { exactGpus: namedGpus(exactGpus, state) }),
    ...(boundTo === undefined ? {} : { boundTo }),
  };
}

/** By UUID, since an index may change while it waits. A name that nothing has stays as it is: it can never fit. */
function namedGpus(names: readonly string[], state: HostState): readonly GpuUuid[] {
  return names.map((name) => findGpu(state, name)?.uuid ?? name);
}

export function submit(draft: Drafting, command: Allocate, now: EpochMs): void {
  const request = requestOf(command, draft.state, now);
  if (!anyCurrentReading(draft.state, now)) {
    const failure = draft.state.sight.failure;
    throw new GpusUnavailableError(failure === null ? "no GPU has a current reading" : failure.message);
  }
  const never = neverFits(request, draft.state);
  if (never !== null) throw new RequestNeverFitsError(never);
  const forbidden = neverAllowed(request, draft.state.policy);
  if (forbidden !== null) throw new QuotaError(forbidden, null);
  draft.write({ type: "submitted", request });
}

/** `ttl` as asked, else the estimated duration with its safety margin, else the configured default. */
export function ttlOf(ask: Pick<AllocateAsk, "ttlMs" | "workloadData">, policy: Policy): number | null {
  if (ask.ttlMs !== null) return ask.ttlMs;
  const estimate = ask.workloadData.estimated_duration;
  if (typeof estimate === "number" && Number.isFinite(estimate) && estimate > 0) {
    return Math.min(MAX_DURATION_MS, Math.ceil(estimate * 1_000 * policy.defaultTtlMultiplier));
  }
  return policy.defaultTtlMs;
}

export function refuseUnserved(command: Allocate, scheduled: Scheduled, submitted: HostState, now: EpochMs): void {
  const after = scheduled.state;
  const newcomer = after.allocations.get(command.id);
  if (newcomer?.status !== "queued") return;
  if (!command.ask.queue) {
    const reason = budgetsOf(after, scheduled.reservations, now).objection(newcomer.request);
    // Whose fault it is tells the caller whom to ask for more.
    if (reason !== null) {
      const renewsAt = overQuotas(newcomer.request, after, now)[0]?.renewsAt ?? now + ASK_AGAIN_AFTER_MS;
      throw new QuotaError(reason, renewsAt - now);
    }
    throw new NoGpuFreeError("no GPUs that fit are free now, and the request does not want to wait");
  }
  const tooMany = crowded(newcomer.request, after);
  if (tooMany !== null) throw new QuotaError(tooMany, ASK_AGAIN_AFTER_MS);
  // The newcomer itself is in the line by now.
  if (after.line.order.size > submitted.policy.maxQueueSize) throw new QueueFullError(submitted.policy.maxQueueSize);
}

/** Whose quotas a request falls under; of a service nobody need have spoken yet. */
export interface Asker {
  readonly principal: string;
  readonly serviceName: string | null;
}

/** What the analyzer says of a workload, with its priority as high as the asker's quotas let it be. */
export function analysisFor(ask: AnalyzerAsk, asker: Asker, state: HostState): Analysis {
  const { policy } = state;
  let cards: readonly number[] | null = null;
  const analysis = analyze(
    ask,
    {
      defaults: policy.workloadDefaults,
      models: policy.models,
      cards() {
        cards ??= cardsFor(ask, state);
        return cards;
      },
    },
    ask.known,
  );
  let { requirement, sources } = analysis;
  for (const kind of ACCOUNT_KINDS) {
    const name = kind === "principal" ? asker.principal : asker.serviceName;
    const most = name === null ? null : quotaOf(policy.quotas, kind, name).maxPriority;
    if (name === null || most === null || requirement.priority <= most) continue;
    const priority = `${sources.priority}; ${requirement.priority} is more than the quota of ${accountKey(kind, name)} allows`;
    requirement = { ...requirement, priority: most };
    sources = { ...sources, priority };
  }
  return { ...analysis, requirement, sources };
}
