import type { Cordon, Gpu } from "../model/gpu.ts";
import { parentOf } from "./mig.ts";
import type { HostState } from "./state.ts";

/** The cordons that keep new leases from a GPU, its own before the host's; of a MIG instance its GPU's is one. */
export function cordonsOf(gpu: Gpu, state: HostState): readonly Cordon[] {
  const board = parentOf(gpu, state)?.cordon ?? null;
  return [gpu.cordon, board, state.cordon].filter((one) => one !== null);
}

/**
 * Whether a cordoned GPU is empty: nothing is leased there, and nothing of an ended lease is left. A ghost counts as
 * empty: it has no process that could be waited for, and a reboot, for which the GPU may be drained, ends it.
 */
export function isDrained(gpu: Gpu, state: HostState): boolean {
  if (cordonsOf(gpu, state).length === 0) return false;
  return withItsInstances(gpu, state).every(
    ({ hold }) => hold.kind === "free" || (hold.kind === "quarantined" && hold.cause !== "overdue"),
  );
}

export function withItsInstances(gpu: Gpu, { gpus }: HostState): readonly Gpu[] {
  return [gpu, ...gpus.instancesOf(gpu.uuid)];
}

/** In words, with whoever has put it up. */
export function cordonReason({ reason, by }: Cordon): string {
  return `${reason} (${by})`;
}
