import { passedOver, together } from "./allocator/place.ts";
import { type Block, blockOf, type PassReason, survey } from "./allocator/survey.ts";
import type { EpochMs, GpuUuid, Request } from "./model.ts";
import { budgetsOf } from "./queue/budgets.ts";
import { shapeOf } from "./queue/line.ts";
import type { HostState } from "./state.ts";

/** Why a request is not served at an instant. */
export interface Explanation {
  /** In one sentence. */
  readonly reason: string;
  /** Per GPU, why not; `null` for one that suits and is free. */
  readonly gpus: ReadonlyMap<GpuUuid, PassReason | null>;
}

const WORDS: Record<Block | PassReason, string> = {
  held: "leased",
  reclaiming: "being reclaimed",
  quarantined: "quarantined",
  cordoned: "cordoned",
  lost: "lost",
  unhealthy: "unhealthy",
  unknown: "without a current reading",
  recovering: "recovering",
  degraded: "degraded",
  mig: "split by MIG",
  occupied: "used by a process of no lease",
  memory: "too small",
  kind: "of the other kind (whole or MIG instance)",
  model: "of another model",
  utilization: "too busy",
  isolated: "unable to work together with others",
  reserved: "reserved for an earlier request",
  quota: "kept from it by its quota",
  settling: "waiting for another lease's memory to settle",
  crowded: "shared by as many leases as may be",
};

/** Says why `request`, which waits, has not been granted as the host stands at `now`. */
export function explain(
  request: Request,
  state: HostState,
  now: EpochMs,
  overQuota = budgetsOf(state, now).objection(request),
): Explanation {
  const shape = shapeOf(request, state.gpus.values());
  const free = new Map(survey(state, now).map((candidate) => [candidate.gpu.uuid, candidate]));
  const gpus = new Map<GpuUuid, PassReason | null>();
  for (const gpu of state.gpus.values()) {
    const candidate = free.get(gpu.uuid);
    const reason = candidate === undefined ? blockOf(gpu, state, now)?.block : passedOver(request, shape, candidate);
    gpus.set(gpu.uuid, reason ?? null);
  }
  const suited = [...gpus].flatMap(([uuid, reason]) => (reason === null ? (free.get(uuid) ?? []) : []));
  const fitting = new Set(together(suited, request.requirement.memoryMib).map(({ gpu }) => gpu.uuid));
  for (const { gpu } of suited) if (!fitting.has(gpu.uuid)) gpus.set(gpu.uuid, "memory");
  const suiting = [...gpus].filter(([, reason]) => reason === null);
  if (overQuota !== null) {
    for (const [uuid] of suiting) gpus.set(uuid, "quota");
    return { reason: `waiting for its quota: ${overQuota}`, gpus };
  }
  // Enough suit and still it waits: they are kept for somebody before it.
  if (suiting.length >= shape.gpus) for (const [uuid] of suiting) gpus.set(uuid, "reserved");
  return { reason: sentence(request, shape.gpus, gpus), gpus };
}

function sentence(request: Request, count: number, gpus: Explanation["gpus"]): string {
  const tally = new Map<string, number>();
  let suit = 0;
  for (const reason of gpus.values()) {
    if (reason === null) suit++;
    else tally.set(WORDS[reason], (tally.get(WORDS[reason]) ?? 0) + 1);
  }
  const why = [...tally].map(([words, n]) => `${n} ${words}`).join(", ");
  const { migProfile } = request;
  const device = `${migProfile === null ? "GPU" : "MIG instance"}${count === 1 ? "" : "s"}`;
  const asked = `${count} ${device}${migProfile === null ? "" : ` ${migProfile}`} with ${request.requirement.memoryMib} MiB`;
  return `waiting for ${asked}: ${suit} of ${gpus.size} can be had now${why === "" ? "" : ` (${why})`}`;
}
