/** What the tools answer: the parts of the API's bodies that decide what to do next, as JSON text. */
import type { CallToolResult } from "@modelcontextprotocol/sdk/types.js";
import { ApiProblem } from "../client/errors.ts";
import type { Allocation, Gpu, Granted } from "../client/types.ts";
import { visible } from "../platform/printable.ts";

/** Refusals are answers too: what the program is told of them decides what it does. */
export async function answered(call: () => Promise<object>): Promise<CallToolResult> {
  try {
    return { content: [{ type: "text", text: safe(await call()) }] };
  } catch (error) {
    return { isError: true, content: [{ type: "text", text: safe(problemOf(error)) }] };
  }
}

function problemOf(error: unknown): object {
  if (error instanceof ApiProblem) {
    const { code, message, errors, retryAfterMs } = error;
    return {
      code,
      detail: message,
      ...(errors.length === 0 ? {} : { errors }),
      ...(retryAfterMs === null ? {} : { retry_after_seconds: retryAfterMs / 1_000 }),
    };
  }
  return { detail: error instanceof Error ? error.message : String(error) };
}

function safe(value: object): string {
  return JSON.stringify(value, (_key, part) => (typeof part === "string" ? visible(part) : part));
}

/** Without its processes: their names are whatever a local user chose. */
export function deviceView(gpu: Gpu) {
  const { mig_devices: instances } = gpu;
  return {
    index: gpu.id,
    model: gpu.name,
    ...stateOf(gpu),
    utilization: gpu.utilization,
    temperature: gpu.temperature,
    ...(instances.length === 0 ? {} : { mig: instances.map((one) => ({ profile: one.profile, ...stateOf(one) })) }),
  };
}

function stateOf(device: Gpu | Gpu["mig_devices"][number]) {
  return {
    uuid: device.uuid,
    state: device.state,
    reason: device.reason,
    since: device.since,
    memory_used_mb: device.memory_used,
    memory_total_mb: device.memory_total,
    holders: device.holders.map(({ allocation_id, service_name, since, idle_since, leave_by }) => ({
      allocation_id,
      service_name,
      since,
      idle_since,
      leave_by,
    })),
  };
}

export function leaseView(one: Allocation) {
  return {
    id: one.id,
    service_name: one.service_name,
    status: one.status,
    priority: one.priority,
    gpus: one.gpu_ids,
    since: one.allocated_at,
    expires_at: one.expires_at,
    notice: one.notice,
  };
}

export function recordView(one: Allocation) {
  return {
    ...leaseView(one),
    required_gpus: one.required_gpus,
    submitted_at: one.submitted_at,
    position: one.position,
    reason: one.reason,
    eta: one.eta,
    gpus_why_not: one.status === "queued" ? one.gpus : undefined,
    ended_at: one.ended_at,
    end_reason: one.end_reason,
    end_detail: one.end_detail,
  };
}

/** What is held, with what makes a program use it. */
export function heldView({
  id,
  status,
  env,
  gpu_ids,
  gpu_uuids,
  expires_at,
  warnings,
}: Granted | (Allocation & { warnings?: undefined })) {
  return { id, status, gpus: gpu_ids, gpu_uuids, env, expires_at, warnings };
}
