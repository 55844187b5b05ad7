/**
 * Generated histories against the real core: after every step the invariants of design.md that the core answers for
 * must hold, and the journal must fold to the state.
 */

import { expect, test } from "vitest";
import { canonicalJson } from "../../src/core/base/json.ts";
import { emptyHost } from "../../src/core/host/changes.ts";
import { blockOf, isolationOf } from "../../src/core/host/condition.ts";
import type { Event } from "../../src/core/host/events.ts";
import { evolve } from "../../src/core/host/evolve.ts";
import type { HostState } from "../../src/core/host/state.ts";
import type { Topology } from "../../src/core/model/device.ts";
import { DomainError } from "../../src/core/model/errors.ts";
import type { AllocationId } from "../../src/core/model/ids.ts";
import type { GpuHealth, MigInstance } from "../../src/core/model/reading.ts";
import type { KernelReport } from "../../src/core/readings/xid.ts";
import fc from "../fc.ts";
import { cutGpu, instance, twins } from "../fixtures/mig.ts";
import {
  ADMIN,
  DEFAULT_POLICY,
  type SimulatedHost as Host,
  h100,
  process,
  SimulatedHost,
  seconds,
  t4,
} from "./simulated-host.ts";

type Step = (host: Host, ids: AllocationId[]) => void;

/** How GPU-e can be cut: two compute instances that share their memory, and two instances that do not. */
const WHOLE_CUT = [...twins(2), instance(2, 9), instance(3, 10)];
const CUTS: readonly (readonly MigInstance[])[] = [
  WHOLE_CUT,
  WHOLE_CUT,
  WHOLE_CUT.slice(1),
  WHOLE_CUT.map((one) => ({ ...one, uuid: null, profile: null })),
  [],
];

const GPUS = [h100("GPU-a"), h100("GPU-b"), t4("GPU-c"), t4("GPU-d"), cutGpu("GPU-e", WHOLE_CUT)].map((gpu, index) => ({
  ...gpu,
  pciBusId: `00000000:0${index}:00.0`,
}));
/** Two and two bridged; GPU-d is not known. */
const BRIDGED: Topology = {
  gpus: ["GPU-a", "GPU-b", "GPU-c"].map((uuid) => ({ uuid, numaNodes: [0], cpuAffinity: "0-7" })),
  links: [
    [null, "NV4", "SYS"],
    ["NV4", null, "SYS"],
    ["SYS", "SYS", null],
  ],
};
const pick = fc.nat(40);
const of = (ids: AllocationId[], n: number) => ids[n % Math.max(1, ids.length)];
const onOne = (act: (host: Host, id: AllocationId) => void) =>
  pick.map(
    (n): Step =>
      (host, ids) => {
        const id = of(ids, n);
        if (id !== undefined) act(host, id);
      },
  );
const optional = <T>(value: fc.Arbitrary<T>) => fc.option(value, { nil: null });

const submit = fc
  .record({
    serviceName: fc.constantFrom("a", "a-b", "b"),
    requiredGpus: fc.constantFrom(1, 1, 1, 2, 2, 3, 4, 5),
    minMemoryMib: fc.constantFrom(1_000, 1_000, 15_000, 40_000, 81_559, 90_000),
    priority: fc.integer({ min: 1, max: 10 }),
    ttlMs: optional(fc.integer({ min: 1_000, max: 120_000 })),
    maxDurationMs: optional(fc.integer({ min: 1_000, max: 120_000 })),
    queueTimeoutMs: optional(fc.integer({ min: 1_000, max: 60_000 })),
    webhookUrl: fc.constantFrom(null, "http://127.0.0.1:9/hook"),
    gpuModel: fc.constantFrom(null, null, null, "T4", "h100"),
    migProfile: fc.constantFrom(null, null, null, null, "1g.10gb", "2c.3g.71gb"),
    queue: fc.constantFrom(true, true, true, false),
    sharing: fc.constantFrom("exclusive", "exclusive", "shared"),
  })
  .map(
    (ask): Step =>
      (host, ids) => {
        ids.push(host.submit(ask));
      },
  );

const anyStep: fc.Arbitrary<Step> = fc.oneof(
  { weight: 6, arbitrary: submit },
  { weight: 4, arbitrary: onOne((host, id) => host.release(id)) },
  { weight: 2, arbitrary: onOne((host, id) => host.renew(id)) },
  { weight: 2, arbitrary: onOne((host, id) => host.claim(id)) },
  { weight: 2, arbitrary: onOne((host, id) => host.touch(id)) },
  { weight: 1, arbitrary: onOne((host, id) => host.hangUp(id)) },
  {
    weight: 5,
    arbitrary: fc.integer({ min: 1, max: 40_000 }).map(
      (ms): Step =>
        (host) =>
          host.advance(ms),
    ),
  },
  {
    weight: 4,
    arbitrary: fc
      .tuple(
        fc.nat(4),
        fc.constantFrom(
          ...["busy", "busy", "idle", "idle", "idle", "idle", "foreign memory"],
          ...["lost", "blind", "sick", "cut off"],
        ),
      )
      .map(
        ([n, mood]): Step =>
          (host) => {
            const uuid = GPUS[n]?.uuid ?? "";
            host.gpu(uuid, {
              processes: mood === "busy" ? [process(1)] : [],
              memoryUsedMib: mood === "blind" ? null : mood === "idle" ? 4 : 5_000,
              errorValues: mood === "lost" ? { x: "GPU is lost" } : {},
              health: {
                ...GPUS[0]?.health,
                ...(mood === "sick" ? { recoveryAction: "Reset" } : {}),
                ...(mood === "cut off" ? { fabricStatus: "Failure" } : {}),
              } as GpuHealth,
            });
          },
      ),
  },
  {
    weight: 1,
    arbitrary: fc
      .tuple(fc.nat(4), fc.constantFrom("cordon", "uncordon", "uncordon", "clear-quarantine", "remove-gpu"))
      .map(
        ([n, type]): Step =>
          (host) => {
            host.do({ type, gpu: GPUS[n]?.uuid ?? "", reason: "because", actor: ADMIN });
          },
      ),
  },
  {
    weight: 1,
    arbitrary: onOne((host, id) => {
      host.do({ type: "revoke", id, reason: "because", actor: ADMIN });
    }),
  },
  {
    weight: 1,
    arbitrary: fc.tuple(fc.nat(4), fc.constantFrom(31, 48, 74, 79, 154, "driver" as const), fc.nat(1_000)).map(
      ([n, what, sequence]): Step =>
        (host) => {
          const error = { device: `0:${n}:0`, at: host.now, count: 1, fatal: false, action: 0 };
          const report: KernelReport =
            what === "driver" ? { kind: "driver-loaded", sequence } : { kind: "xid", xid: what, sequence, ...error };
          host.do({ type: "read-kernel-log", news: { reports: [report], problem: null, missed: 0 } });
        },
    ),
  },
  // Faults come seldom and heal often, or most of a history would pass with nothing to grant.
  {
    weight: 1,
    arbitrary: fc.tuple(fc.nat(4), fc.nat(3)).map(
      ([n, luck]): Step =>
        (host) => {
          const device = host.devices[n];
          if (device !== undefined) device.present = luck > 0;
        },
    ),
  },
  {
    weight: 1,
    arbitrary: fc.tuple(fc.constantFrom(...CUTS), fc.nat(5)).map(
      ([migInstances, luck]): Step =>
        (host) => {
          host.gpu(
            "GPU-e",
            luck > 0 ? { migMode: "Enabled", migInstances } : { migMode: "Disabled", migInstances: [] },
          );
        },
    ),
  },
  {
    weight: 1,
    arbitrary: fc.constantFrom(0, 1, null).map(
      (computeInstanceId): Step =>
        (host) => {
          host.gpu("GPU-e", { processes: [process(1, { gpuInstanceId: 2, computeInstanceId })] });
        },
    ),
  },
  {
    weight: 1,
    arbitrary: fc.nat(5).map(
      (luck): Step =>
        (host) => {
          host.monitoring = luck > 0;
        },
    ),
  },
  {
    weight: 1,
    arbitrary: fc.constantFrom(BRIDGED, null).map(
      (known): Step =>
        (host) => {
          host.topology = known;
          host.observe();
        },
    ),
  },
  {
    weight: 1,
    arbitrary: fc.constantFrom("driver", "timeout").map(
      (kind): Step =>
        (host) =>
          host.failProbe(kind as "driver"),
    ),
  },
  {
    weight: 1,
    arbitrary: fc.tuple(fc.nat(600_000), fc.constantFrom("boot-1", "boot-2")).map(
      ([away, bootId]): Step =>
        (host) => {
          host.now += away;
          host.do({ type: "resume", bootId, fencingFloor: host.now });
        },
    ),
  },
  {
    weight: 1,
    arbitrary: fc.tuple(fc.nat(120_000), fc.integer({ min: 1_000, max: 900_000 })).map(
      ([reserveAfterMs, agingIntervalMs]): Step =>
        (host) => {
          host.do({ type: "reconfigure", policy: { ...host.state.policy, reserveAfterMs, agingIntervalMs } });
        },
    ),
  },
);

/** What two states that fold from the same events have in common. */
function durable(state: HostState) {
  return {
    allocations: [...state.allocations.values()].map((a) => (a.status === "queued" ? { ...a, seenAt: 0 } : a)),
    gpus: [...state.gpus.values()].sort((a, b) => (a.uuid < b.uuid ? -1 : 1)),
    nextFencingToken: state.nextFencingToken,
    bootId: state.bootId,
  };
}

function assertInvariants(host: Host, before: HostState, from: number): void {
  const { state } = host;
  const holders = new Map<string, Map<AllocationId, number | null>>();
  for (const allocation of state.allocations.values()) {
    if (allocation.status === "queued") continue;
    for (const { uuid } of allocation.lease.gpus) {
      const here = holders.get(uuid) ?? new Map<AllocationId, number | null>();
      holders.set(uuid, here.set(allocation.request.id, allocation.lease.sharedMib));
    }
    // 5. No lease outlives its end: the tick at this instant has been.
    if (allocation.lease.expiresAt !== null) expect(allocation.lease.expiresAt).toBeGreaterThan(host.now);
  }
  assertInstances(host);
  for (const { uuid, hold, memoryTotalMib } of state.gpus.values()) {
    const here = [...(holders.get(uuid) ?? [])];
    // The books of both sides agree.
    const booked = hold.kind === "shared" ? hold.shares : hold.kind === "leased" ? [hold] : [];
    const byToken = here.map(([id]) => id).sort();
    expect(booked.map(({ allocationId }) => allocationId).sort()).toEqual(byToken);
    // 1. No GPU is in an exclusive lease and another one, and shares leave the head-room.
    if (hold.kind === "leased") expect(here).toEqual([[hold.allocationId, null]]);
    if (hold.kind !== "shared") continue;
    const reserved = [...here.map(([, mib]) => mib ?? Infinity), ...hold.remains.map(({ memoryMib }) => memoryMib)];
    const shareableMib = (memoryTotalMib ?? 0) - Math.max(512, Math.ceil((memoryTotalMib ?? 0) * 0.05));
    expect(reserved.reduce((sum, mib) => sum + mib)).toBeLessThanOrEqual(shareableMib);
  }
  let token = before.nextFencingToken;
  for (const event of host.log.slice(from)) {
    if (event.type !== "granted") continue;
    // 4. Fencing tokens only grow.
    expect(event.lease.fencingToken).toBeGreaterThanOrEqual(token);
    token = event.lease.fencingToken + 1;
  }
  // Nobody waits for what the first in line could have now.
  const head = state.line.order.first()?.[1];
  if (head !== undefined) {
    const reasons = Object.values(host.whyQueued(head.key.id));
    const suiting = reasons.filter((reason) => reason === null || reason === "reserved").length;
    expect(suiting, "the head of the line fits and was not served").toBeLessThan(
      head.allocation.request.requirement.gpus,
    );
  }
}

/** 1, of MIG: no silicon is leased whole and in part, and no memory is promised twice. */
function assertInstances({ state }: Host): void {
  const promised = new Map<string, number>();
  for (const { hold, mig, memoryTotalMib } of state.gpus.values()) {
    if (hold.kind !== "leased" || mig === null) continue;
    const whole = state.gpus.get(mig.parentUuid)?.hold.kind;
    expect(["leased", "shared"], "an instance is leased beside its GPU").not.toContain(whole);
    const memory = `${mig.parentUuid}/${mig.gpuInstanceId}`;
    const askedMib = state.allocations.get(hold.allocationId)?.request.requirement.memoryMib ?? 0;
    promised.set(memory, (promised.get(memory) ?? 0) + askedMib);
    expect(promised.get(memory), `the memory of ${memory} is promised twice`).toBeLessThanOrEqual(memoryTotalMib ?? 0);
  }
  for (const allocation of state.allocations.values()) {
    if (allocation.status === "queued") continue;
    const kinds = new Set(allocation.lease.gpus.map(({ mig }) => mig === null));
    expect(kinds.size, "whole GPUs and instances in one lease").toBe(1);
  }
}

const RELIEFS: ReadonlySet<Event["type"]> = new Set([
  "gpu-freed",
  "gpu-uncordoned",
  "quarantine-cleared",
  "gpu-fault-answered",
]);

function assertGrantable(host: Host, before: HostState, from: number): void {
  // 6. Every grant was of a GPU that nothing spoke against at that instant (one turn's own events aside).
  const freed = new Set<string>();
  for (const event of host.log.slice(from)) {
    if (RELIEFS.has(event.type) && "uuid" in event) freed.add(event.uuid);
    if (event.type === "ended") {
      const ended = before.allocations.get(event.id);
      if (ended !== undefined && ended.status !== "queued") {
        for (const { uuid } of ended.lease.gpus) if (!event.verify.includes(uuid)) freed.add(uuid);
      }
    }
    if (event.type !== "granted") continue;
    for (const { uuid } of event.lease.gpus) {
      const gpu = before.gpus.get(uuid);
      // What was freed on the same silicon may have been in the way.
      if (gpu === undefined || [...freed].some((other) => isOnSameBoard(before, uuid, other))) continue;
      const block = blockOf(gpu, { ...before, sight: host.state.sight }, host.now);
      if (gpu.hold.kind === "shared" && event.lease.sharedMib !== null) expect(block?.block).toBe("held");
      else expect(block, `${uuid} was granted`).toBeNull();
      if (event.lease.gpus.length === 1) continue;
      const isolation = isolationOf(gpu, { ...before, sight: host.state.sight });
      expect(isolation, `${uuid} was granted together with others`).toBeNull();
    }
  }
}

function isOnSameBoard({ gpus }: HostState, ...uuids: string[]): boolean {
  return new Set(uuids.map((uuid) => gpus.get(uuid)?.mig?.parentUuid ?? uuid)).size === 1;
}

const NUM_RUNS = Number(globalThis.process.env.HISTORIES ?? 1_000);

test(`no history breaks an invariant, and replay rebuilds the state`, () => {
  fc.assert(
    fc.property(fc.array(anyStep, { maxLength: 200, size: "max" }), (steps) => {
      const sharing = { ...DEFAULT_POLICY.sharing, settleAfterMs: seconds(2), settleTimeoutMs: seconds(5) };
      const host = new SimulatedHost(GPUS, { maxQueueSize: 12, sharing });
      const ids: AllocationId[] = [];
      const ends = new Map<AllocationId, number>();
      for (const step of steps) {
        const before = host.state;
        const from = host.log.length;
        const now = host.now;
        try {
          step(host, ids);
        } catch (error) {
          if (!(error instanceof DomainError)) throw error;
          // 12. A refused command changes nothing.
          expect(host.state).toBe(before);
          expect(host.log.length).toBe(from);
        }
        host.do({ type: "tick" });
        assertInvariants(host, before, from);
        if (host.now === now) assertGrantable(host, before, from);
        for (const event of host.log.slice(from)) {
          // 3. Every request ends exactly once.
          if (event.type === "ended") {
            expect(ends.has(event.id)).toBe(false);
            ends.set(event.id, host.now);
          }
        }
      }
      // 8. The journal folds to the state, and a second time to the same.
      const folded = host.log.reduce(evolve, emptyHost(host.state.policy));
      expect(durable(folded)).toEqual(durable(host.state));
      expect(canonicalJson(durable(host.log.reduce(evolve, emptyHost(host.state.policy))))).toBe(
        canonicalJson(durable(folded)),
      );
    }),
    { numRuns: NUM_RUNS },
  );
});

test("without new requests and with finite leases the queue drains", () => {
  fc.assert(
    fc.property(fc.array(submit, { minLength: 1, maxLength: 40, size: "max" }), (submissions) => {
      const host = new SimulatedHost(GPUS);
      const ids: AllocationId[] = [];
      for (const step of submissions) {
        try {
          step(host, ids);
        } catch (error) {
          if (!(error instanceof DomainError)) throw error;
        }
      }
      for (let round = 0; round < 400 && host.state.allocations.size > 0; round++) {
        host.advance(seconds(15));
        for (const id of ids) {
          const live = host.state.allocations.get(id);
          if (live === undefined) continue;
          if (live.status === "leased" && host.now - live.lease.grantedAt > seconds(60)) host.release(id);
          else host.touch(id);
        }
      }
      expect(host.state.allocations.size).toBe(0);
    }),
    { numRuns: 100 },
  );
});
