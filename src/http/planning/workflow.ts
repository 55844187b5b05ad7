/** The workflow that a workload belongs to: what it depends on, and which GPUs that holds. */
import type { JsonObject, JsonValue } from "../../core/base/json.ts";
import { owns } from "../../core/decisions/lifecycle.ts";
import type { HostState } from "../../core/host/state.ts";
import type { Actor } from "../../core/model/ids.ts";
import type { Knowledge } from "../../ports/knowledge.ts";
import type { WorkloadAnswer } from "../../wire/planning/answers.ts";

const MAX_ID = 128;
const MAX_DEPENDENCIES = 64;

/** @returns `null` when the workload names no workflow. */
export async function workflowView(
  data: JsonObject,
  knowledge: Knowledge,
  waitMs: number,
  state: () => HostState,
  actor: Actor,
): Promise<WorkloadAnswer["workflow"]> {
  const id = idOf(data.workflow_id);
  if (id === null) return null;
  const told = await knowledge.workflow(id, waitMs);
  const stated = Array.isArray(data.workflow_dependencies) ? data.workflow_dependencies : [];
  const ids = new Set([...stated.map(idOf).filter((one) => one !== null), ...(told?.dependencies ?? [])]);
  const held = gpusByWorkflow(state(), actor);
  return {
    id,
    known: told === null ? null : told.isKnown,
    dependencies: [...ids].slice(0, MAX_DEPENDENCIES).map((one) => ({ id: one, gpus: held.get(one) ?? 0 })),
  };
}

function idOf(value: JsonValue | undefined): string | null {
  return typeof value === "string" && value !== "" && value.length <= MAX_ID ? value : null;
}

/** Of leases that `actor` may see: what others wrote in theirs is none of its business. */
function gpusByWorkflow({ allocations }: HostState, actor: Actor): ReadonlyMap<string, number> {
  const gpus = new Map<string, number>();
  for (const allocation of allocations.values()) {
    if (allocation.status === "queued" || !owns(actor, allocation)) continue;
    const id = idOf(allocation.request.workloadData.workflow_id);
    if (id !== null) gpus.set(id, (gpus.get(id) ?? 0) + allocation.lease.gpus.length);
  }
  return gpus;
}
