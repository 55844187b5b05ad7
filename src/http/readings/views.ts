import { printable } from "../../platform/printable.ts";
import type { Scheduler } from "../../scheduler/scheduler.ts";
import type { ReadingAnswer } from "../../wire/readings/answers.ts";
import { timestamp } from "../../wire/values.ts";
import { gpuViews } from "../gpus/views.ts";
import { monitorView } from "../host/views.ts";

export function readingView(scheduler: Scheduler): ReadingAnswer {
  const { state } = scheduler;
  const now = scheduler.now();
  const { healthy, last_reading_at, failure, warnings } = monitorView(state);
  return {
    at: timestamp(now),
    driver_version: state.sight.driverVersion === null ? null : printable(state.sight.driverVersion),
    cuda_version: state.sight.cudaVersion === null ? null : printable(state.sight.cudaVersion),
    storage_healthy: scheduler.storageHealthy,
    monitor: { healthy, last_reading_at, failure, warnings },
    gpus: gpuViews(state, now, null).map((gpu) => ({
      uuid: gpu.uuid,
      state: gpu.state,
      reason: gpu.reason,
      since: gpu.since,
      ailment: gpu.ailment,
      mig_devices: gpu.mig_devices.map((instance) => ({
        gpu_instance_id: instance.gpu_instance_id,
        compute_instance_id: instance.compute_instance_id,
        state: instance.state,
        reason: instance.reason,
        since: instance.since,
        ailment: instance.ailment,
        memory_used: instance.memory_used,
      })),
      pids: [gpu, ...gpu.mig_devices].flatMap(({ processes }) => processes.map(({ pid }) => pid)),
      memory_used: gpu.memory_used,
      memory_free: gpu.memory_free,
      utilization: gpu.utilization,
      temperature: gpu.temperature,
      power_draw: gpu.power_draw,
      last_updated: gpu.last_updated,
    })),
  };
}
