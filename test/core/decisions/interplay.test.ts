/**
 * Histories in which quotas, fair share, reserved windows, preemption, drains, shared GPUs, MIG instances, adoption and
 * backfill are on at once, in any mixture and changed while things run.
 */

import { expect, test } from "vitest";
import { neverFits } from "../../../src/core/allocator/never-fits.ts";
import { planOf } from "../../../src/core/explain/plan.ts";
import { emptyHost } from "../../../src/core/host/changes.ts";
import { evolve } from "../../../src/core/host/evolve.ts";
import type { HostState } from "../../../src/core/host/state.ts";
import { DomainError } from "../../../src/core/model/errors.ts";
import type { AllocationId } from "../../../src/core/model/ids.ts";
import type { Policy, Quota, ReservedWindow } from "../../../src/core/model/policy.ts";
import type { GpuHealth, MigInstance } from "../../../src/core/model/reading.ts";
import { neverAllowed } from "../../../src/core/queue/quotas.ts";
import fc from "../../fc.ts";
import { cutGpu, instance, twins } from "../../fixtures/mig.ts";
import {
  ADMIN,
  ASK,
  DEFAULT_POLICY,
  h100,
  minutes,
  NO_QUOTA,
  NO_QUOTAS,
  process,
  refusal,
  seconds,
  t4,
} from "../../simulation/simulated-host.ts";
import { JudgedHost } from "./interplay-judge.ts";

const START = 1_800_000_000_000;
const PERIOD_MS = minutes(10);
const WHOLE_CUT = [...twins(2), instance(2, 9), instance(3, 10)];
const CUTS: readonly (readonly MigInstance[])[] = [WHOLE_CUT, WHOLE_CUT.slice(1), WHOLE_CUT.slice(0, 3)];
const GPUS = [h100("GPU-a"), h100("GPU-b"), t4("GPU-c"), h100("GPU-d"), cutGpu("GPU-e", WHOLE_CUT)].map(
  (gpu, index) => ({ ...gpu, pciBusId: `00000000:0${index}:00.0` }),
);
const UUIDS = GPUS.map(({ uuid }) => uuid);

const optional = <T>(value: fc.Arbitrary<T>) => fc.option(value, { nil: null });
const anyQuota: fc.Arbitrary<Quota> = fc.record({
  maxGpus: optional(fc.integer({ min: 1, max: 4 })),
  maxQueued: optional(fc.integer({ min: 1, max: 5 })),
  maxPriority: optional(fc.integer({ min: 3, max: 10 })),
  gpuTime: optional(
    fc.record({
      limitMs: fc.integer({ min: seconds(30), max: 2 * PERIOD_MS }),
      periodMs: fc.constantFrom(PERIOD_MS, 2 * PERIOD_MS),
    }),
  ),
});
const anyWindow: fc.Arbitrary<ReservedWindow> = fc
  .record({
    gpus: fc.oneof(fc.integer({ min: 1, max: 3 }), fc.subarray(["GPU-a", "1", "GPU-e"], { minLength: 1 })),
    services: fc.subarray(["a", "b", "c"], { minLength: 1, maxLength: 2 }),
    begin: fc.integer({ min: 0, max: 600 }),
    lengths: fc.array(fc.integer({ min: 5, max: 300 }), { minLength: 1, maxLength: 3 }),
  })
  .map(({ gpus, services, begin, lengths }) => {
    let from = START + seconds(begin);
    const spans = lengths.map((length) => {
      const span = { from, to: from + seconds(length) };
      from = span.to + seconds(length);
      return span;
    });
    const calendar = { schedule: "0 0 * * *", timeZone: "UTC", durationMs: minutes(1) };
    return { name: `w${begin}`, ...calendar, gpus, members: [{ services, principals: [], workloadTypes: [] }], spans };
  });

const anyPolicy: fc.Arbitrary<Partial<Policy>> = fc.record({
  maxQueueSize: fc.constantFrom(5, 20, 20),
  agingIntervalMs: fc.constantFrom(seconds(20), minutes(10)),
  reserveAfterMs: fc.constantFrom(0, seconds(20), minutes(20)),
  queueTimeoutMs: fc.constantFrom(null, null, minutes(5)),
  defaultMaxDurationMs: fc.constantFrom(null, null, seconds(90)),
  verifyRelease: fc.constantFrom("when_used" as const, "always" as const, "never" as const),
  degradedGpus: fc.constantFrom("exclude" as const, "avoid" as const),
  foreignUse: fc.constantFrom("adopt" as const, "notify" as const),
  preemption: fc.option(
    fc.record({
      minPriorityGap: fc.integer({ min: 1, max: 3 }),
      graceMs: fc.constantFrom(0, seconds(1), seconds(20)),
      minRuntimeMs: fc.constantFrom(0, seconds(15)),
    }),
    { nil: null, freq: 2 },
  ),
  windows: fc.uniqueArray(anyWindow, { maxLength: 2, selector: ({ name }) => name }),
  quotas: fc.oneof(
    fc.constant(NO_QUOTAS),
    fc.record({
      principals: fc.record({ ann: anyQuota }),
      services: fc.record({ b: anyQuota }),
      defaultPrincipal: fc.constantFrom(NO_QUOTA, { ...NO_QUOTA, maxGpus: 5 }),
      defaultService: fc.constant(NO_QUOTA),
    }),
  ),
  fairShare: optional(fc.record({ halfLifeMs: fc.constant(minutes(5)), maxDelayMs: fc.constant(minutes(1)) })),
  sharing: fc.constantFrom(1, 2, 16).map((maxLeasesPerGpu) => ({
    ...DEFAULT_POLICY.sharing,
    maxLeasesPerGpu,
    settleAfterMs: seconds(2),
    settleTimeoutMs: seconds(5),
  })),
});

type Step = (world: World) => void;

/** A counterexample shows a step in words. */
function op<T>(name: string, drawn: fc.Arbitrary<T>, act: (world: World, value: T) => void): fc.Arbitrary<Step> {
  return drawn.map((value) => {
    const step: Step = (world) => act(world, value);
    return Object.assign(step, { [fc.toStringMethod]: () => `${name} ${JSON.stringify(value)}` });
  });
}

class World {
  readonly host: JudgedHost;
  readonly ids: AllocationId[] = [];
  #adopted = 0;
  #booked = 0;

  constructor(policy: Partial<Policy>) {
    this.host = new JudgedHost(GPUS, policy);
  }

  nextBooking(): string {
    return `reservation-${++this.#booked}`;
  }

  nextAdoption(): AllocationId {
    return `c-${String(++this.#adopted).padStart(26, "9")}`;
  }
}

const anyAsk = fc.record({
  serviceName: fc.constantFrom("a", "b", "c"),
  requiredGpus: fc.constantFrom(1, 1, 1, 2, 2, 3, 4),
  minMemoryMib: fc.constantFrom(1_000, 9_000, 15_000, 40_000, 70_000),
  priority: fc.constantFrom(1, 1, 2, 5, 9, 10),
  ttlMs: optional(fc.integer({ min: 1_000, max: 120_000 })),
  maxDurationMs: optional(fc.integer({ min: 1_000, max: 90_000 })),
  queueTimeoutMs: fc.constantFrom(null, null, null, seconds(30)),
  webhookUrl: fc.constantFrom(null, "http://127.0.0.1:9/hook", "http://127.0.0.1:9/hook"),
  gpuModel: fc.constantFrom(null, null, null, null, "T4", "h100"),
  migProfile: fc.constantFrom(null, null, null, null, null, "1g.10gb", "2c.3g.71gb"),
  preferredGpus: fc.constantFrom<string[][]>([], [], ["GPU-d"], ["4"]),
  queue: fc.constantFrom(true, true, true, true, false),
  preemptible: fc.constantFrom(true, true, false),
  sharing: fc.constantFrom("exclusive", "exclusive", "exclusive", "shared"),
});

/** What is planned comes of it. */
const submit = op(
  "submit",
  fc.tuple(anyAsk, fc.constantFrom("ann", "bob", "cyd")),
  ({ host, ids }, [ask, principal]) => {
    const actor = { principal, admin: false };
    const plan = planOf(host.state, { ...ASK, ...ask }, actor, host.now);
    const code = refusal(() => ids.push(host.submit({ ...ask, actor })));
    const allocation = code === null ? host.allocation(ids.at(-1) as string) : null;
    if (allocation === null) expect(plan).toMatchObject({ outcome: "refused", code });
    else if (allocation.status === "queued") {
      expect(plan).toMatchObject({ outcome: "queued", position: host.position(allocation.request.id) });
    } else expect(plan).toMatchObject({ outcome: "granted", gpus: host.lease(allocation.request.id)?.gpus });
  },
);
const onOne = (name: string, act: (host: JudgedHost, id: AllocationId) => void) =>
  op(name, fc.nat(40), ({ host }, n) => {
    const live = [...host.state.allocations.values()];
    const one = live[n % Math.max(1, live.length)];
    if (one !== undefined) act(host, one.request.id);
  });
const anyMs = fc.oneof(fc.integer({ min: 1, max: 5_000 }), fc.integer({ min: 1, max: 60_000 }));
const anyGpu = fc.nat(UUIDS.length - 1);
const anyMood = fc.constantFrom("busy", "idle", "idle", "idle", "foreign memory", "lost", "blind", "sick");
const because = { reason: "because", actor: ADMIN };
const GOVERN = ["cordon", "uncordon", "uncordon", "clear-quarantine", "remove-gpu"] as const;

const LIFE: readonly { readonly weight: number; readonly arbitrary: fc.Arbitrary<Step> }[] = [
  { weight: 20, arbitrary: submit },
  { weight: 5, arbitrary: onOne("release", (host, id) => host.release(id)) },
  { weight: 2, arbitrary: onOne("renew", (host, id) => host.renew(id)) },
  { weight: 4, arbitrary: onOne("claim", (host, id) => host.claim(id)) },
  { weight: 2, arbitrary: onOne("touch", (host, id) => host.touch(id)) },
  { weight: 1, arbitrary: onOne("hang up", (host, id) => host.hangUp(id)) },
  { weight: 1, arbitrary: onOne("revoke", (host, id) => host.do({ type: "revoke", id, ...because })) },
  { weight: 9, arbitrary: op("pass", anyMs, ({ host }, ms) => host.advance(ms)) },
  {
    weight: 2,
    arbitrary: op(
      "book",
      fc.record({
        gpus: fc.constantFrom<(number | string[])[]>(1, 1, 2, 3, ["GPU-b"], ["0", "GPU-c"]),
        principal: fc.constantFrom(null, "ann", "bob", "cyd"),
        serviceName: fc.constantFrom(null, null, "a"),
        inMs: fc.integer({ min: 0, max: 120_000 }),
        lengthMs: fc.integer({ min: 60_000, max: 240_000 }),
      }),
      (world, { inMs, lengthMs, ...ask }) => {
        const from = world.host.now + inMs;
        const id = world.nextBooking();
        world.host.do({ type: "book", id, ask: { ...ask, from, to: from + lengthMs }, actor: ADMIN });
        world.host.judgeBookings();
      },
    ),
  },
  {
    weight: 1,
    arbitrary: op("cancel booking", fc.nat(4), ({ host }, n) => {
      const id = host.state.bookings[n]?.id ?? "reservation-none";
      host.do({ type: "cancel-booking", id, actor: ADMIN });
    }),
  },
  { weight: 1, arbitrary: op("reload", anyPolicy, ({ host }, policy) => host.reconfigure(policy)) },
];
const TROUBLE: typeof LIFE = [
  { weight: 2, arbitrary: op("heal", fc.constant(null), ({ host }) => heal(host)) },
  {
    weight: 4,
    arbitrary: op("mood", fc.tuple(anyGpu, anyMood), ({ host }, [n, mood]) =>
      host.gpu(UUIDS[n] as string, {
        processes: mood === "busy" ? [process(1)] : [],
        memoryUsedMib: mood === "blind" ? null : mood === "idle" ? 4 : 5_000,
        errorValues: mood === "lost" ? { x: "GPU is lost" } : {},
        health: { ...GPUS[0]?.health, ...(mood === "sick" ? { recoveryAction: "Reset" } : {}) } as GpuHealth,
      }),
    ),
  },
  {
    weight: 2,
    arbitrary: op("govern", fc.tuple(anyGpu, fc.constantFrom(...GOVERN)), ({ host }, [n, type]) =>
      host.do({ type, gpu: UUIDS[n] as string, ...because }),
    ),
  },
  {
    weight: 1,
    arbitrary: op("drain", fc.tuple(fc.option(anyGpu), fc.nat(30)), ({ host }, [n, s]) =>
      host.do({ type: "drain", gpu: n === null ? null : (UUIDS[n] as string), leaveMs: seconds(s), ...because }),
    ),
  },
  {
    weight: 1,
    arbitrary: op("undrain", fc.constant(null), ({ host }) => host.do({ type: "undrain", ...because })),
  },
  {
    weight: 1,
    arbitrary: op("adopt", anyGpu, (world, n) => {
      const who = { serviceName: "c", principal: "bob", pid: null, ttlMs: null, maxDurationMs: null };
      const gpu = UUIDS[n] as string;
      const id = world.nextAdoption();
      world.host.do({ type: "adopt", id, gpu, adoption: { ...who, reason: "x" }, actor: ADMIN });
    }),
  },
  {
    weight: 1,
    arbitrary: op(
      "away",
      fc.tuple(fc.nat(100_000), fc.constantFrom("boot-1", "boot-1", "boot-2"), fc.boolean()),
      ({ host }, [ms, bootId, isKilled]) => {
        host.now += ms;
        if (isKilled) host.restart(bootId);
        else host.do({ type: "resume", bootId, fencingFloor: host.now });
      },
    ),
  },
  {
    weight: 1,
    arbitrary: op("cut", fc.constantFrom(...CUTS), ({ host }, migInstances) => host.gpu("GPU-e", { migInstances })),
  },
  {
    weight: 1,
    arbitrary: op("unseen", fc.tuple(anyGpu, fc.nat(2)), ({ host }, [n, luck]) => {
      const device = host.devices[n];
      if (device !== undefined) device.present = luck > 0;
    }),
  },
  {
    weight: 1,
    arbitrary: op("silence", fc.nat(3), ({ host }, luck) => {
      host.monitoring = luck > 0;
    }),
  },
  { weight: 1, arbitrary: op("probe fails", fc.constant(null), ({ host }) => host.failProbe("driver")) },
];
const SIZE = { maxLength: 90, size: "max" } as const;
/** A crowded host that nothing happens to, or a troubled one. */
const anyHistory = fc.oneof(fc.array(fc.oneof(...LIFE), SIZE), fc.array(fc.oneof(...LIFE, ...TROUBLE), SIZE));

/** What two states that fold from the same events have in common, as bytes. */
function durable({ allocations, gpus, nextFencingToken, bootId, cordon, bookings }: HostState): string {
  const live = [...allocations.values()].map((one) => (one.status === "queued" ? { ...one, seenAt: 0 } : one));
  const inventory = [...gpus.values()].sort((a, b) => (a.uuid < b.uuid ? -1 : 1));
  return JSON.stringify({ live, inventory, nextFencingToken, bootId, cordon, bookings });
}

/** Everything is as it should be, from the next reading on. */
function heal(host: JudgedHost): void {
  host.monitoring = true;
  for (const [n, device] of host.devices.entries()) {
    device.present = true;
    device.reading = { ...(GPUS[n] as (typeof GPUS)[number]), index: n };
  }
  host.do({ type: "undrain", ...because });
  for (const { uuid, cordon, hold } of host.state.gpus.values()) {
    if (cordon !== null) host.do({ type: "uncordon", gpu: uuid, ...because });
    if (hold.kind === "quarantined") host.do({ type: "clear-quarantine", gpu: uuid, ...because });
  }
}

/** The host gets well, nobody asks for more, and everybody gives back what he has: nobody waits for ever. */
function drain({ host }: World): void {
  for (let round = 0; round < 80; round++) {
    heal(host);
    for (const { status, request } of host.state.allocations.values()) {
      // One may end for another in between.
      refusal(() => (status === "queued" ? host.renew(request.id) : host.release(request.id)));
    }
    // Sees them empty; quotas and windows last for some minutes.
    host.advance(round < 8 ? seconds(15) : minutes(2));
    if (round > 8 && host.state.line.order.size === 0) break;
  }
  const { state } = host;
  const waiting = [...state.line.order.values()].map(({ allocation }) => allocation.request);
  const hopeful = waiting.filter(
    (request) => neverFits(request, state) === null && neverAllowed(request, state.policy) === null,
  );
  expect(hopeful.map(({ id }) => [id, host.whyQueued(id)])).toEqual([]);
}

const happened = new Map<string, number>();
const NUM_RUNS = Number(globalThis.process.env.HISTORIES ?? 150);

test("whatever is on at once, every promise holds, the queue drains and the journal folds to the state", () => {
  fc.assert(
    fc.property(fc.noBias(anyPolicy), fc.noBias(anyHistory), (policy, steps) => {
      const world = new World({ refreshIntervalMs: seconds(10), ...policy });
      for (const step of steps) {
        try {
          step(world);
        } catch (error) {
          if (!(error instanceof DomainError)) throw error;
        }
        world.host.do({ type: "tick" });
        world.host.judgeReasons();
      }
      drain(world);
      for (const [what, n] of world.host.seen) happened.set(what, (happened.get(what) ?? 0) + n);
      const { state, log } = world.host;
      const folded = log.reduce(evolve, emptyHost(state.policy));
      expect(durable(folded)).toBe(durable(state));
    }),
    { numRuns: NUM_RUNS },
  );
}, 600_000);

test.skipIf(NUM_RUNS < 150)("all of it has been on in these histories", () => {
  const wanted = [
    "granted: exclusive",
    "granted: shared",
    "granted: instance",
    "granted: from the line",
    "judged by windows",
    "reserved",
    "reservation-cancelled",
    "draining",
    "resumed",
  ];
  expect(wanted.filter((what) => (happened.get(what) ?? 0) === 0)).toEqual([]);
});
