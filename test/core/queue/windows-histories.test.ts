/**
 * Generated histories under reserved windows, judged by rules that know nothing of how the core counts: which GPUs are
 * held by whom, at every instant at which something changes.
 */

import { expect, test } from "vitest";
import { parseDuration } from "../../../src/core/base/duration.ts";
import { decide } from "../../../src/core/decisions/decide.ts";
import { explain } from "../../../src/core/explain/explain.ts";
import { nextWindowChange } from "../../../src/core/host/state.ts";
import type { HoldingAllocation } from "../../../src/core/model/allocation.ts";
import type { Gpu } from "../../../src/core/model/gpu.ts";
import { holdersOf } from "../../../src/core/model/holds.ts";
import type { ReservedWindow } from "../../../src/core/model/policy.ts";
import fc from "../../fc.ts";
import { ADMIN, ASK, h100, minutes, SimulatedHost } from "../../simulation/simulated-host.ts";

const START = 1_800_000_000_000;
/** No generated window is open any more. */
const LAST_CLOSING = START + minutes(241);
const SERVICES = ["a", "b", "c", "d"] as const;

/** One of so many possible windows: its bits, from the least on, are what it is made of. */
interface Rule {
  readonly gpus: number | readonly string[];
  readonly services: readonly string[];
  /** Minutes from the start: begin and length. */
  readonly open: readonly (readonly [number, number])[];
}

type Op =
  | {
      readonly op: "ask";
      readonly service: string;
      readonly gpus: number;
      readonly minutes: number | null;
      readonly priority: number;
      readonly preemptible: boolean;
    }
  | { readonly op: "end"; readonly which: number }
  | { readonly op: "pass"; readonly minutes: number }
  | { readonly op: "stop"; readonly minutes: number }
  | { readonly op: "cordon"; readonly which: number }
  | { readonly op: "reload"; readonly rules: readonly Rule[] };

const services = fc.uniqueArray(fc.constantFrom(...SERVICES), { minLength: 1, maxLength: 2 });
const rule: fc.Arbitrary<Rule> = fc.record({
  gpus: fc.oneof(
    { arbitrary: fc.integer({ min: 1, max: 4 }), weight: 4 },
    { arbitrary: fc.uniqueArray(fc.constantFrom("GPU-0", "GPU-1", "2"), { minLength: 1, maxLength: 2 }), weight: 1 },
  ),
  services,
  open: fc.array(fc.tuple(fc.integer({ min: 0, max: 180 }), fc.integer({ min: 1, max: 60 })), {
    minLength: 1,
    maxLength: 4,
  }),
});
const rules = fc.array(rule, { minLength: 1, maxLength: 3 });
const op: fc.Arbitrary<Op> = fc.oneof(
  {
    arbitrary: fc.record({
      op: fc.constant("ask" as const),
      service: fc.constantFrom(...SERVICES),
      gpus: fc.integer({ min: 1, max: 4 }),
      minutes: fc.option(fc.integer({ min: 1, max: 90 }), { freq: 3 }),
      priority: fc.integer({ min: 1, max: 10 }),
      preemptible: fc.boolean(),
    }),
    weight: 8,
  },
  { arbitrary: fc.record({ op: fc.constant("end" as const), which: fc.nat(20) }), weight: 3 },
  { arbitrary: fc.record({ op: fc.constant("pass" as const), minutes: fc.integer({ min: 1, max: 30 }) }), weight: 5 },
  { arbitrary: fc.record({ op: fc.constant("stop" as const), minutes: fc.integer({ min: 1, max: 60 }) }), weight: 1 },
  { arbitrary: fc.record({ op: fc.constant("cordon" as const), which: fc.nat(5) }), weight: 1 },
  { arbitrary: fc.record({ op: fc.constant("reload" as const), rules }), weight: 1 },
);

function windowsOf(all: readonly Rule[]): readonly ReservedWindow[] {
  return all.map(({ gpus, services: own, open }, index) => {
    const spans: { from: number; to: number }[] = [];
    for (const [begin, length] of [...open].sort((a, b) => a[0] - b[0])) {
      const from = START + minutes(begin);
      const last = spans.at(-1);
      if (last !== undefined && from <= last.to) last.to = Math.max(last.to, from + minutes(length));
      else spans.push({ from, to: from + minutes(length) });
    }
    const calendar = { schedule: "0 0 * * *", timeZone: "UTC", durationMs: minutes(1) };
    return {
      name: `w${index}`,
      ...calendar,
      gpus,
      members: [{ services: own, principals: [], workloadTypes: [] }],
      spans,
    };
  });
}

const isNamed = ({ gpus }: ReservedWindow, gpu: Gpu) =>
  typeof gpus !== "number" && (gpus.includes(gpu.uuid) || gpus.includes(String(gpu.index)));
const isMember = ({ members }: ReservedWindow, service: string) =>
  members.some((one) => one.services.includes(service));

/** A host, and which leases were granted since the windows or the GPUs last changed: only those can break a promise. */
class Watched {
  readonly host: SimulatedHost;
  #bound = new Set<string>();

  constructor(count: number, all: readonly Rule[], policy: ConstructorParameters<typeof SimulatedHost>[1]) {
    const gpus = Array.from({ length: count }, (_, i) => h100(`GPU-${i}`));
    this.host = new SimulatedHost(gpus, {
      ...policy,
      refreshIntervalMs: minutes(10),
      staleAfterMs: minutes(10_000),
      windows: windowsOf(all),
    });
  }

  #leases(): HoldingAllocation[] {
    return [...this.host.state.allocations.values()].filter((one) => one.status !== "queued");
  }

  /** What is held now was promised to nobody. */
  forgive(): void {
    this.#bound = new Set();
    this.#known = new Set(this.#leases().map(({ request }) => request.id));
  }
  #known = new Set<string>();

  apply(one: Op): void {
    const { host } = this;
    switch (one.op) {
      case "ask": {
        const { service, gpus, priority, preemptible } = one;
        const maxDurationMs = one.minutes === null ? null : minutes(one.minutes);
        if (gpus > host.devices.length) return;
        host.submit({
          serviceName: service,
          requiredGpus: gpus,
          minMemoryMib: 1,
          maxDurationMs,
          priority,
          preemptible,
        });
        return;
      }
      case "end": {
        const live = [...host.state.allocations.values()];
        const chosen = live[one.which % Math.max(1, live.length)];
        if (chosen !== undefined) host.release(chosen.request.id);
        return;
      }
      case "pass":
        this.pass(minutes(one.minutes));
        return;
      case "stop":
        // Nothing is decided meanwhile, and what fell due gets its grace.
        host.now += minutes(one.minutes);
        host.do({ type: "resume", bootId: "boot-1", fencingFloor: host.now });
        return;
      case "cordon": {
        const gpu = `GPU-${one.which % host.devices.length}`;
        const type = host.state.gpus.get(gpu)?.cordon === null ? "cordon" : "uncordon";
        this.forgive();
        host.do({ type, gpu, reason: "x", actor: ADMIN, drainBy: null } as never);
        this.check(true);
        return;
      }
      case "reload":
        this.forgive();
        host.do({ type: "reconfigure", policy: { ...host.state.policy, windows: windowsOf(one.rules) } });
        return;
      default:
        one satisfies never;
    }
  }

  pass(ms: number): void {
    const { host } = this;
    const end = host.now + ms;
    while (host.now < end) {
      const change = nextWindowChange(host.state, host.now) ?? Infinity;
      const step = Math.min(change, end, host.now + minutes(1)) - host.now;
      host.advance(step);
      for (const { request, status } of this.#leases()) if (status === "offered") host.claim(request.id);
      this.check();
    }
  }

  check(_changed = false): void {
    const { host } = this;
    const { now, state } = host;
    for (const { request } of this.#leases()) if (!this.#known.has(request.id)) this.#bound.add(request.id);
    const open = state.policy.windows.filter(({ spans }) => spans.some(({ from, to }) => from <= now && now < to));
    const windows = state.policy.windows;
    const usable = [...state.gpus.values()].filter(({ cordon }) => cordon === null);
    const pool = usable.filter((gpu) => !windows.some((window) => isNamed(window, gpu)));
    const holderOf = (gpu: Gpu) => {
      const [holder] = holdersOf(gpu.hold);
      const allocation = holder === undefined ? undefined : state.allocations.get(holder.allocationId);
      if (allocation === undefined || allocation.status === "queued") return null;
      // A lease beyond its max_duration is in its grace after a stop of the daemon: nothing can be done about that.
      const { request, lease } = allocation;
      return lease.grantedAt + (request.maxDurationMs ?? Infinity) <= now ? null : allocation;
    };
    for (let set = 1; set < 1 << open.length; set++) {
      const some = open.filter((window, index) => set & (1 << index) && typeof window.gpus === "number");
      const kept = some.reduce((sum, { gpus }) => sum + (gpus as number), 0);
      const outsiders = pool.filter((gpu) => {
        const holder = holderOf(gpu);
        return holder !== null && !some.some((window) => isMember(window, holder.request.serviceName));
      });
      const bound = outsiders.filter((gpu) => this.#bound.has(holderOf(gpu)?.request.id ?? ""));
      if (bound.length > 0 && kept > 0) expect(pool.length - outsiders.length).toBeGreaterThanOrEqual(kept);
    }
    for (const gpu of usable) {
      const holder = holderOf(gpu);
      const naming = open.filter((window) => isNamed(window, gpu));
      if (holder === null || naming.length === 0 || !this.#bound.has(holder.request.id)) continue;
      expect(naming.some((window) => isMember(window, holder.request.serviceName))).toBe(true);
    }
    this.#checkMembersAreServed(open, pool);
    this.#checkHint();
  }

  /** Once no window is to come and everybody gives back what he has, all who wait have their turn. */
  drain(): void {
    const { host } = this;
    for (const { uuid, cordon } of host.state.gpus.values()) {
      if (cordon !== null) host.do({ type: "uncordon", gpu: uuid, reason: "x", actor: ADMIN });
    }
    this.forgive();
    this.pass(Math.max(0, LAST_CLOSING - host.now));
    const rounds = host.state.line.order.size;
    for (let round = 0; round < rounds; round++) {
      for (const { request } of this.#leases()) host.release(request.id);
      // Sees them empty.
      host.observe();
      this.pass(minutes(1));
    }
    expect(host.queue()).toEqual([]);
  }

  /** With one window alone, which gives a number: no GPU that it keeps stands idle while a member waits for one. */
  #checkMembersAreServed(open: readonly ReservedWindow[], pool: readonly Gpu[]): void {
    const { state } = this.host;
    const [window] = open;
    if (window === undefined || state.policy.windows.length !== 1 || typeof window.gpus !== "number") return;
    const queued = [...state.line.order.values()].map(({ allocation }) => allocation.request);
    const isOwn = (request: { readonly serviceName: string }) => isMember(window, request.serviceName);
    const waits = queued.some((request) => isOwn(request) && request.requirement.gpus === 1);
    // A member may wait for several, and have them held.
    if (!waits || queued.some((request) => isOwn(request) && request.requirement.gpus > 1)) return;
    const held = pool.filter(({ hold }) =>
      holdersOf(hold).some(({ allocationId }) =>
        isOwn(state.allocations.get(allocationId)?.request ?? { serviceName: "" }),
      ),
    ).length;
    const free = pool.filter(({ hold }) => hold.kind === "free").length;
    if (held < window.gpus) expect(free).toBe(0);
  }

  /** What a hint says would fit now, would. */
  #checkHint(): void {
    const { now, state } = this.host;
    const [first, ...rest] = state.line.order.values();
    if (first === undefined || rest.length > 0) return;
    const { request } = first.allocation;
    const text = /max_duration of at most (\S+) it would fit now/.exec(explain(request, state, now).reason)?.[1];
    if (text === undefined) return;
    const ask = {
      ...ASK,
      serviceName: request.serviceName,
      requiredGpus: request.requirement.gpus,
      minMemoryMib: 1,
      // Not behind it.
      priority: 10,
      maxDurationMs: parseDuration(text),
    };
    const without = decide(state, { type: "revoke", id: request.id, reason: "x", actor: ADMIN }, now).state;
    const after = decide(without, { type: "allocate", id: `x-${"9".repeat(26)}`, ask, actor: ADMIN }, now).state;
    expect(after.allocations.get(`x-${"9".repeat(26)}`)?.status).toBe("leased");
  }
}

const policies = fc.record({
  reserveAfterMs: fc.constantFrom(0, minutes(1), minutes(1_000)),
  verifyRelease: fc.constantFrom("never" as const, "always" as const),
  preemption: fc.constantFrom(null, { minPriorityGap: 1, minRuntimeMs: 0, graceMs: minutes(1) }),
});

test("no window is ever violated: neither by whom it is not for, nor by reloads, stops and cordons in between", {
  timeout: 120_000,
}, () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 6 }),
      rules,
      policies,
      fc.array(op, { maxLength: 60 }),
      (count, all, policy, ops) => {
        const watched = new Watched(count, all, policy);
        for (const one of ops) {
          watched.apply(one);
          watched.check();
        }
        watched.pass(minutes(30));
        watched.drain();
      },
    ),
    { numRuns: 1_000 },
  );
});
