/** Values and turns for the store's tests: what the core would commit, without the core. */

import type { EpochMs } from "../../src/core/base/time.ts";
import type { Event } from "../../src/core/host/events.ts";
import type {
  Allocation,
  EndedAllocation,
  EndReason,
  Lease,
  LeasedAllocation,
  QueuedAllocation,
  Request,
} from "../../src/core/model/allocation.ts";
import type { Gpu, GpuHold } from "../../src/core/model/gpu.ts";
import type { UsedGpu } from "../../src/core/model/use.ts";
import { NO_USE } from "../../src/core/model/use.ts";
import type { Turn } from "../../src/ports/store.ts";
import type { Notification } from "../../src/ports/webhooks.ts";

export const START: EpochMs = 1_800_000_000_000;

export function request(id: string, over: Partial<Request> = {}): Request {
  return {
    id,
    serviceName: "trainer",
    principal: "anonymous",
    workloadType: "training",
    workloadData: { batch_size: 64, model: "resnet-50" },
    webhookUrl: null,
    requirement: {
      gpus: 1,
      memoryMib: 8192,
      priority: 5,
      maxUtilizationPercent: 90,
      maxUtilizationExplicit: false,
    },
    preferredGpus: [],
    gpuModel: null,
    ttlMs: null,
    maxDurationMs: null,
    preemptible: false,
    queueTimeoutMs: null,
    migProfile: null,
    sharing: "exclusive",
    fairShareDelayMs: 0,
    submittedAt: START,
    ...over,
  };
}

export function gpu(uuid: string, hold: GpuHold = { kind: "free" }): Gpu {
  const name = "NVIDIA H100 80GB HBM3";
  const device = { uuid, index: 0, name, pciBusId: "00000000:01:00.0", memoryTotalMib: 81559, mig: null };
  return { ...device, hold, cordon: null, fault: null, answeredUpTo: 0, lostSince: null, foreignSince: null };
}

export function lease(uuids: readonly string[], fencingToken = 1, grantedAt = START): Lease {
  return {
    gpus: uuids.map((uuid, index) => ({
      uuid,
      index,
      name: "NVIDIA H100 80GB HBM3",
      pciBusId: null,
      memoryTotalMib: 81559,
      mig: null,
      baselineMib: 4,
      numaNodes: [0],
      cpuAffinity: "0-31,64-95",
    })),
    fencingToken,
    grantedAt,
    expiresAt: null,
    sharedMib: null,
  };
}

export function queued(asked: Request): QueuedAllocation {
  return { status: "queued", request: asked, preemptingSince: null, headSince: null, seenAt: 0 };
}

export function leased(asked: Request, held: Lease): LeasedAllocation {
  return { status: "leased", request: asked, lease: held, idleSince: null, notice: null };
}

export function ended(
  asked: Request,
  held: Lease | null,
  at: EpochMs,
  reason: EndReason = "released",
  used: readonly UsedGpu[] = [],
): EndedAllocation {
  return { status: "ended", request: asked, lease: held, used, outcome: { reason, at, detail: null } };
}

export function turn(over: Partial<Turn> = {}): Turn {
  return {
    at: START,
    events: [],
    allocations: [],
    gpus: [],
    removedGpus: [],
    nextFencingToken: 1,
    bootId: null,
    cordon: null,
    bookings: [],
    notifications: [],
    settlements: [],
    withdrawn: [],
    outdated: [],
    keys: [],
    audit: [],
    redeliveries: [],
    inputs: null,
    gpuChanges: [],
    ...over,
  };
}

/** A turn that submits and leases at once: one GPU each, by the position of the id. */
export function grantTurn(ids: readonly string[], uuids: readonly string[], at: EpochMs, token: number): Turn {
  const events: Event[] = [];
  const allocations: Allocation[] = [];
  const gpus: Gpu[] = [];
  ids.forEach((id, i) => {
    const uuid = uuids[i] as string;
    const asked = request(id, { submittedAt: at });
    const held = lease([uuid], token + i, at);
    events.push({ type: "submitted", request: asked }, { type: "granted", id, lease: held, claimBy: null });
    allocations.push(leased(asked, held));
    gpus.push(gpu(uuid, { kind: "leased", allocationId: id, since: at, use: NO_USE }));
  });
  return turn({ at, events, allocations, gpus, nextFencingToken: token + ids.length });
}

/** The turn that releases all that `granted` leased. */
export function releaseTurn(granted: Turn, at: EpochMs): Turn {
  const allocations = granted.allocations.map((allocation) => {
    if (allocation.status !== "leased") throw new Error("only what a grantTurn made");
    return ended(allocation.request, allocation.lease, at);
  });
  return turn({
    at,
    events: allocations.map(({ request: asked, outcome }) => ({ type: "ended", id: asked.id, outcome, verify: [] })),
    allocations,
    gpus: granted.gpus.map(({ uuid }) => gpu(uuid)),
    nextFencingToken: granted.nextFencingToken,
  });
}

export function notification(deliveryId: string, allocationId: string, over: Partial<Notification> = {}): Notification {
  return {
    deliveryId,
    allocationId,
    status: "allocated",
    url: "http://127.0.0.1:9000/hook",
    body: '{"status":"allocated"}',
    createdAt: START,
    ...over,
  };
}
