/** Why a request waits, was granted or has ended: in words, made of what the API shows of it. */
import { formatDuration } from "../../core/base/duration.ts";
import type { EpochMs } from "../../core/base/time.ts";
import { roughly } from "../../core/explain/windows.ts";
import type { HostState } from "../../core/host/state.ts";
import type { Actor } from "../../core/model/ids.ts";
import { printable } from "../../platform/printable.ts";
import { type Grant, type PastDecision, ProgramReplacedError } from "../../ports/past-decisions.ts";
import type { RecordAnswer, WhyAnswer } from "../../wire/allocations/answers.ts";
import { timestamp } from "../../wire/values.ts";
import { json } from "../exchange/answers.ts";
import type { Operation } from "../exchange/endpoint.ts";
import type { EndpointParts } from "../parts.ts";
import { recordView } from "./views.ts";

type Reason = NonNullable<NonNullable<RecordAnswer["gpus"]>[number]["reason"]>;

const REASONS: Readonly<Record<Reason, string>> = {
  held: "leased",
  reclaiming: "still in use after its lease ended",
  quarantined: "quarantined",
  cordoned: "cordoned by an admin",
  lost: "lost",
  unhealthy: "unhealthy",
  unknown: "without a current reading",
  recovering: "recovering: it must be seen well for a while",
  degraded: "degraded",
  mig: "cut into MIG instances",
  occupied: "used by a process that has no lease",
  memory: "too little free memory",
  kind: "not of the kind that is asked for",
  model: "another model",
  named: "not among those that are asked for",
  utilization: "busier than the request allows",
  isolated: "cannot work together with others",
  reserved: "held for a request that is before this one",
  quota: "kept by a quota",
  settling: "shared with somebody who has just started",
  crowded: "shared by as many as may share it",
  window: "kept for others by a reserved window",
};

const REPLACED =
  "the decision cannot be looked up: the program's files have been replaced since the daemon was started; restart it";

interface Looked {
  readonly past: PastDecision | null;
  readonly trouble: readonly string[];
}

/** Looking is no sign of life here: an admin's question must not keep a request alive. */
export function why({ scheduler, pastDecisions }: EndpointParts): Operation {
  const decisionOf = async (grant: Grant | null, principal: string): Promise<Looked> => {
    try {
      return { past: grant === null ? null : await pastDecisions.grantOf(grant, principal), trouble: [] };
    } catch (error) {
      if (!(error instanceof ProgramReplacedError)) throw error;
      return { past: null, trouble: [REPLACED] };
    }
  };
  return {
    role: "read",
    body: "ignored",
    async answer({ id, actor }) {
      const { allocation, state, at } = scheduler.peek(id);
      const record = recordView(allocation, state, at, actor);
      const lease = allocation.status === "queued" ? null : allocation.lease;
      const grant = lease === null ? null : { id: allocation.request.id, grantedAt: lease.grantedAt };
      const { past, trouble } = await decisionOf(grant, actor.principal);
      return json(200, {
        id: record.id,
        status: record.status,
        why: [...recordWhy(record, past, state, at), ...triggerWords(past, actor), ...trouble],
        decision: past === null ? null : { event: past.event, decided_at: timestamp(past.at) },
      } satisfies WhyAnswer);
    },
  };
}

function recordWhy(record: RecordAnswer, past: PastDecision | null, { line }: HostState, now: EpochMs): string[] {
  const gpus = record.required_gpus === 1 ? "1 GPU" : `${record.required_gpus} GPUs`;
  const asked = `${record.id} (${gpus} with ${record.min_memory_mb} MiB, priority ${record.priority})`;
  switch (record.status) {
    case "queued":
      return [
        `${asked} waits since ${roughly(now - Date.parse(record.submitted_at))}, at ${record.position ?? "?"} of ${line.order.size}`,
        record.reason ?? "its turn has not come",
        `its turn: ${etaWords(record.eta ?? null, now)}`,
        ...obstacles(record),
      ];
    case "offered":
      return [
        `${asked} was ${grantWords(record)}`,
        ...decisionWords(past),
        `it waits for its client to take it, until ${record.claim_by ?? "?"}`,
      ];
    case "leased":
      return [
        `${asked} was ${grantWords(record)}`,
        ...decisionWords(past),
        endWords(record),
        ...(record.notice === undefined ? [] : [`it must leave by ${record.notice.leave_by}: ${record.notice.detail}`]),
      ];
    case "ended": {
      const detail = record.end_detail === undefined ? "" : `: ${record.end_detail}`;
      return [
        `${asked} was ${record.allocated_at === undefined ? "never granted" : grantWords(record)}`,
        ...(record.allocated_at === undefined ? [] : decisionWords(past)),
        `it ended as ${record.end_reason ?? "ended"} at ${record.ended_at ?? "?"}${detail}`,
      ];
    }
    default:
      return record.status satisfies never;
  }
}

function grantWords(record: RecordAnswer): string {
  const { allocated_at: at = record.submitted_at, gpu_ids: ids = [], lost_gpus: lost = [] } = record;
  const waitedMs = Date.parse(at) - Date.parse(record.submitted_at);
  const how =
    waitedMs < 1_000
      ? "at once, since they were free"
      : `after ${formatDuration(Math.round(waitedMs / 1_000) * 1_000)} in the queue`;
  return `granted GPU ${[...ids, ...lost].join(",")} at ${at}, ${how}`;
}

function decisionWords(past: PastDecision | null): string[] {
  if (past === null) return ["what that decision went by is not kept any more"];
  const { passed } = past;
  return [
    printable(past.reason),
    ...(passed.length === 0 ? [] : [`before it in the line, and waiting on: ${namesOf(passed)}`]),
  ];
}

const MAX_NAMED = 5;

function namesOf(ids: readonly string[]): string {
  const more = ids.length > MAX_NAMED ? ` and ${ids.length - MAX_NAMED} more` : "";
  return `${ids.slice(0, MAX_NAMED).join(", ")}${more}`;
}

/** It may name another principal. */
function triggerWords(past: PastDecision | null, { admin }: Actor): string[] {
  return past === null || !admin ? [] : [`decided when ${printable(past.trigger)} (event ${past.event})`];
}

function etaWords(eta: RecordAnswer["eta"] | null, now: EpochMs): string {
  if (eta === null || eta === undefined) return "no end is certain";
  const [from, to] = [eta.earliest, eta.latest].map((at) => roughly(Math.max(0, Date.parse(at) - now)));
  return from === to ? `in about ${to}` : `in about ${from} to ${to}`;
}

/** The GPUs that will not do, those with the same reason together. */
function obstacles({ gpus = [] }: RecordAnswer): string[] {
  const names = Map.groupBy(gpus, ({ reason }) => reason);
  return [...names].map(([reason, those]) => {
    const list = those.map(({ id, uuid }) => id ?? uuid).join(",");
    return `GPU ${list}: ${reason === null ? "would do" : REASONS[reason]}`;
  });
}

function endWords({ expires_at, allocated_at, max_duration_seconds }: RecordAnswer): string {
  if (expires_at === undefined) return "it has no end of its own";
  const hardEnd = Date.parse(allocated_at ?? "") + (max_duration_seconds ?? Infinity) * 1_000;
  return `it ends at ${expires_at}${Date.parse(expires_at) >= hardEnd ? ", whatever is renewed" : " unless it is renewed"}`;
}
