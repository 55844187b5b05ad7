/** What admins decide: which GPUs get no new leases, which are well again, which are gone. */

import type { EpochMs } from "../base/time.ts";
import { findGpu } from "../host/indices.ts";
import type { HostState } from "../host/state.ts";
import { GpuInUseError, GpuNotFoundError } from "../model/errors.ts";
import type { Gpu } from "../model/gpu.ts";
import { holdersOf } from "../model/holds.ts";
import type { Command } from "./commands.ts";
import type { Drafting } from "./drafting.ts";
import { drainNotices } from "./drain.ts";

/** An admin's word about a GPU. What is so already stays as it is, but a cordon takes the new reason. */
export function govern(
  draft: Drafting,
  command: Extract<Command, { type: "cordon" | "uncordon" | "clear-quarantine" | "remove-gpu" }>,
  now: EpochMs,
): void {
  const gpu = gpuNamed(draft.state, command.gpu);
  const by = { uuid: gpu.uuid, at: now, by: command.actor.principal, reason: command.reason };
  switch (command.type) {
    case "cordon":
      draft.write({ type: "gpu-cordoned", ...by });
      tellWhoIsDrained(draft, now);
      return;
    case "uncordon":
      if (gpu.cordon === null) return;
      draft.write({ type: "gpu-uncordoned", ...by });
      tellWhoIsDrained(draft, now);
      return;
    case "clear-quarantine":
      if (isQuarantined(gpu.hold) || gpu.fault !== null) {
        const seen = draft.state.sight.kernelLog?.sequence ?? 0;
        const answeredUpTo = Math.max(gpu.answeredUpTo, gpu.fault?.sequence ?? 0, seen);
        draft.write({ type: "quarantine-cleared", ...by, answeredUpTo });
      }
      return;
    case "remove-gpu":
      // What it was cut into goes with it.
      for (const one of [...draft.state.gpus.instancesOf(gpu.uuid), gpu]) {
        demandUnused(one, draft.state);
        draft.write({ type: "gpu-removed", ...by, uuid: one.uuid });
      }
      return;
    default:
      command.type satisfies never;
  }
}

export function drain(draft: Drafting, command: Extract<Command, { type: "drain" }>, now: EpochMs): void {
  const { leaveMs, until, reason, actor } = command;
  // What is told as past is now.
  const drainBy = until === undefined ? leaveMs && now + leaveMs : Math.max(until, now + 1);
  const word = { at: now, by: actor.principal, reason, ...(drainBy === null ? {} : { drainBy }) };
  if (command.gpu === null) draft.write({ type: "host-cordoned", ...word });
  else draft.write({ type: "gpu-cordoned", uuid: gpuNamed(draft.state, command.gpu).uuid, ...word });
  tellWhoIsDrained(draft, now);
}

export function tellWhoIsDrained(draft: Drafting, now: EpochMs): void {
  for (const event of drainNotices(draft.state, now)) draft.write(event);
}

/** Whether an admin's word is asked for, or seen use must end, before anybody new gets the GPU. */
function isQuarantined(hold: Gpu["hold"]): boolean {
  return hold.kind === "quarantined" || (hold.kind === "shared" && hold.overdueSince !== null);
}

/** @throws GpuInUseError when it cannot be removed. */
function demandUnused({ uuid, hold }: Gpu, { sight }: HostState): void {
  if (holdersOf(hold).length > 0 || hold.kind === "reclaiming") throw new GpuInUseError(`${uuid} is ${hold.kind}`);
  // The next reading would bring it back.
  if (sight.gpus.has(uuid)) throw new GpuInUseError(`${uuid} is still seen by the driver`);
}

/**
 * By UUID, or by index: that of the GPU which has it now, before one that had it when it was last seen.
 *
 * @throws GpuNotFoundError
 */
export function gpuNamed(state: HostState, name: string): Gpu {
  const found = findGpu(state, name);
  if (found === undefined) throw new GpuNotFoundError(name);
  return found;
}
