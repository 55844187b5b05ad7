/** Why a GPU is granted or is not: in words, made of what the API shows of it. */
import type { EpochMs } from "../../core/base/time.ts";
import { gpuNamed } from "../../core/decisions/admin.ts";
import { roughly } from "../../core/explain/windows.ts";
import type { HostState } from "../../core/host/state.ts";
import { hardEndOf } from "../../core/model/leases.ts";
import type { GpuAnswer, GpuWhyAnswer } from "../../wire/gpus/answers.ts";
import type { StatusAnswer } from "../../wire/host/answers.ts";
import { json } from "../exchange/answers.ts";
import type { Operation } from "../exchange/endpoint.ts";
import { hostDrainView } from "../host/views.ts";
import type { EndpointParts } from "../parts.ts";
import { gpuViewOf } from "./views.ts";

export function gpuWhy({ scheduler }: EndpointParts): Operation {
  return {
    role: "read",
    body: "ignored",
    answer({ id }) {
      const { state } = scheduler;
      const now = scheduler.now();
      const gpu = gpuViewOf(gpuNamed(state, id).uuid, state, now, null) as GpuAnswer;
      const why = gpuWords(gpu, hostDrainView(state).drain, state, now);
      return json(200, { id: gpu.id, uuid: gpu.uuid, state: gpu.state, why } satisfies GpuWhyAnswer);
    },
  };
}

function gpuWords(gpu: GpuAnswer, drain: StatusAnswer["drain"], state: HostState, now: EpochMs): string[] {
  const name = `GPU ${gpu.id ?? gpu.uuid} (${gpu.name})`;
  const since = gpu.since === null ? "" : `, for ${roughly(now - Date.parse(gpu.since))}`;
  const holders = gpu.holders.map(({ allocation_id: id }) => {
    const holder = state.allocations.get(id);
    const until = holder === undefined || holder.status === "queued" ? null : holder.lease.expiresAt;
    if (holder === undefined || holder.status === "queued" || until === null)
      return `${id} holds it until it is released`;
    const renewable = hardEndOf(holder) === until ? "" : ", unless it is renewed";
    return `${id} holds it for ${roughly(until - now)} more${renewable}`;
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
