/** Why something waits, was granted, has ended, or is not granted: in words, from what the API tells of it. */
import type { Allocation, Gpu, List } from "../../client/types.ts";
import { visible } from "../../platform/printable.ts";
import { type CommonOptions, contextOf } from "../context.ts";
import { allocationNamed, gpuNamed, gpusOf } from "../names.ts";
import { etaText, modelText, plural, sinceText, spanText } from "../words.ts";
import { looksLikeGpu } from "./look.ts";

type Reason = NonNullable<NonNullable<Allocation["gpus"]>[number]["reason"]>;

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
  utilization: "busier than the request allows",
  isolated: "cannot work together with others",
  reserved: "held for a request that is before this one",
  quota: "kept by a quota",
  settling: "shared with somebody who has just started",
  crowded: "shared by as many as may share it",
  window: "kept for others by a reserved window",
};

export async function why(name: string, options: CommonOptions): Promise<void> {
  const { client, terminal } = await contextOf(options);
  const list = await client.list();
  const now = Date.now();
  const lines = looksLikeGpu(name)
    ? gpuWhy(gpuNamed(name, list.gpus).gpu, list, now)
    : recordWhy(await client.record(await allocationNamed(name, client, list)), list, now);
  if (terminal.json) terminal.data({ why: lines });
  else for (const line of lines) terminal.line(visible(line));
}

function gpuWhy(gpu: Gpu, { allocations, drain }: List, now: number): string[] {
  const name = `GPU ${gpu.id ?? gpu.uuid} (${modelText(gpu.name)})`;
  const since = gpu.since === null ? "" : `, for ${sinceText(gpu.since, now)}`;
  const ends = new Map(allocations.map(({ id, expires_at }) => [id, expires_at]));
  const holders = gpu.holders.map(({ allocation_id: id }) => {
    const until = ends.get(id);
    return `${id} holds it ${until === undefined ? "until it is released" : `for ${spanText(Date.parse(until) - now)} more, unless it is renewed`}`;
  });
  return [
    gpu.state === "free" ? `${name} is free: it can be granted` : `${name} is not granted: it is ${gpu.state}${since}`,
    ...(gpu.reason === null || gpu.state === "leased" ? [] : [gpu.reason]),
    ...holders,
    ...(gpu.ailment === null ? [] : [`besides, it is ${gpu.ailment.state}: ${gpu.ailment.reason}`]),
    ...(gpu.cordon === null ? [] : [`${gpu.cordon.by} cordoned it: ${gpu.cordon.reason}`]),
    ...(drain === null ? [] : [`the host is drained by ${drain.by}: ${drain.reason}`]),
  ];
}

function recordWhy(record: Allocation, { queue }: List, now: number): string[] {
  const asked = `${plural(record.required_gpus, "GPU")} with ${record.min_memory_mb} MiB, priority ${record.priority}`;
  const held = heldWords(record);
  switch (record.status) {
    case "queued":
      return [
        `${record.id} (${asked}) waits since ${sinceText(record.submitted_at, now)}, at ${record.position ?? "?"} of ${queue.length}`,
        record.reason ?? "its turn has not come",
        `its turn: ${etaText(record.eta, now) ?? "no end is certain"}`,
        ...obstacles(record),
      ];
    case "offered":
      return [
        `${record.id} (${asked}) was ${held}`,
        `it waits for its client to take it, until ${record.claim_by ?? "?"}`,
      ];
    case "leased":
      return [
        `${record.id} (${asked}) was ${held}`,
        record.expires_at === undefined
          ? "it has no end of its own"
          : `it ends at ${record.expires_at} unless it is renewed`,
        ...(record.notice === undefined ? [] : [`it must leave by ${record.notice.leave_by}: ${record.notice.detail}`]),
      ];
    case "ended": {
      const detail = record.end_detail === undefined ? "" : `: ${record.end_detail}`;
      return [
        `${record.id} (${asked}) was ${record.allocated_at === undefined ? "never granted" : held}`,
        `it ended as ${record.end_reason ?? "ended"} at ${record.ended_at ?? "?"}${detail}`,
      ];
    }
    default:
      return record.status satisfies never;
  }
}

function heldWords(record: Allocation): string {
  if (record.allocated_at === undefined) return "not granted";
  const waitedMs = Date.parse(record.allocated_at) - Date.parse(record.submitted_at);
  const how = waitedMs < 1_000 ? "at once, since they were free" : `after ${spanText(waitedMs)} in the queue`;
  return `granted GPU ${gpusOf(record)} at ${record.allocated_at}, ${how}`;
}

/** The GPUs that will not do, those with the same reason together. */
function obstacles({ gpus = [] }: Allocation): string[] {
  const names = Map.groupBy(gpus, ({ reason }) => reason);
  return [...names].map(([reason, those]) => {
    const list = those.map(({ id, uuid }) => id ?? uuid).join(",");
    return `GPU ${list}: ${reason === null ? "would do" : REASONS[reason]}`;
  });
}
