/** What quotas promise, in histories drawn at random and judged by books of the test's own. */

import { expect, test } from "vitest";
import type { EpochMs } from "../../../src/core/base/time.ts";
import type { Event } from "../../../src/core/host/events.ts";
import type { Actor } from "../../../src/core/model/ids.ts";
import type { Quota, Quotas } from "../../../src/core/model/policy.ts";
import fc from "../../fc.ts";
import {
  type Ask,
  h100,
  minutes,
  NO_QUOTA,
  NO_QUOTAS,
  refusal,
  SimulatedHost,
  seconds,
  t4,
} from "../../simulation/simulated-host.ts";

const PERIOD_MS = minutes(60);
const who = (principal: string): Actor => ({ principal, admin: false });
const gpus = () => [h100("GPU-a"), h100("GPU-b"), h100("GPU-c"), h100("GPU-d"), t4("GPU-e")];

const anyQuota: fc.Arbitrary<Quota> = fc.record({
  maxGpus: fc.option(fc.integer({ min: 0, max: 4 })),
  maxQueued: fc.option(fc.integer({ min: 0, max: 5 })),
  maxPriority: fc.option(fc.integer({ min: 1, max: 10 })),
  gpuTime: fc.option(
    fc.record({
      limitMs: fc.integer({ min: 0, max: 3 * PERIOD_MS }),
      periodMs: fc.constantFrom(PERIOD_MS, 2 * PERIOD_MS),
    }),
  ),
});
const anyQuotas: fc.Arbitrary<Quotas> = fc.record({
  principals: fc.record({ ann: anyQuota }),
  services: fc.record({ ocr: anyQuota }),
  defaultPrincipal: fc.oneof(fc.constant(NO_QUOTA), anyQuota),
  defaultService: fc.oneof({ weight: 2, arbitrary: fc.constant(NO_QUOTA) }, anyQuota),
});

const anyAsk = fc.record({
  principal: fc.constantFrom("ann", "ann", "bob", "cyd"),
  serviceName: fc.constantFrom("ocr", "svc"),
  requiredGpus: fc.constantFrom(1, 1, 1, 2, 3),
  priority: fc.option(fc.integer({ min: 1, max: 10 })),
  maxDurationMs: fc.option(fc.integer({ min: seconds(10), max: minutes(90) })),
  ttlMs: fc.option(fc.integer({ min: seconds(10), max: minutes(60) })),
  gpuModel: fc.constantFrom(null, null, "H100", "T4"),
  queue: fc.boolean(),
});

type Drawn<A> = A extends fc.Arbitrary<infer T> ? T : never;
type Step =
  | { readonly op: "submit"; readonly ask: Drawn<typeof anyAsk> }
  | { readonly op: "release" | "claim"; readonly n: number }
  | { readonly op: "pass"; readonly ms: number }
  | { readonly op: "restart" }
  | { readonly op: "reload"; readonly quotas: Quotas };

const anyStep = (withReloads: boolean): fc.Arbitrary<Step> =>
  fc.oneof(
    { weight: 6, arbitrary: anyAsk.map((ask) => ({ op: "submit" as const, ask })) },
    { weight: 2, arbitrary: fc.nat(20).map((n) => ({ op: "release" as const, n })) },
    { weight: 1, arbitrary: fc.nat(20).map((n) => ({ op: "claim" as const, n })) },
    {
      weight: 4,
      arbitrary: fc
        .oneof(fc.integer({ min: 0, max: minutes(2) }), fc.integer({ min: 0, max: minutes(80) }))
        .map((ms) => ({ op: "pass" as const, ms })),
    },
    { weight: 1, arbitrary: fc.constant({ op: "restart" as const }) },
    ...(withReloads ? [{ weight: 1, arbitrary: anyQuotas.map((quotas) => ({ op: "reload" as const, quotas })) }] : []),
  );

/** A lease as its journal tells of it. */
interface Held {
  readonly accounts: readonly string[];
  readonly gpus: number;
  readonly from: EpochMs;
  readonly hardEnd: EpochMs | null;
  to: EpochMs | null;
}

class Books {
  readonly leases = new Map<string, Held>();
  readonly #host: SimulatedHost;
  #read = 0;

  constructor(host: SimulatedHost) {
    this.#host = host;
  }

  /** Judges what has happened since the last call. */
  follow(): void {
    for (const event of this.#host.log.slice(this.#read)) this.#take(event);
    this.#read = this.#host.log.length;
  }

  #take(event: Event): void {
    if (event.type === "ended") {
      const held = this.leases.get(event.id);
      if (held !== undefined) held.to = event.outcome.at;
    }
    if (event.type !== "granted") return;
    const { request } = this.#host.allocation(event.id);
    const held: Held = {
      accounts: [`p ${request.principal}`, `s ${request.serviceName}`],
      gpus: event.lease.gpus.length,
      from: event.lease.grantedAt,
      hardEnd: request.maxDurationMs === null ? null : event.lease.grantedAt + request.maxDurationMs,
      to: null,
    };
    this.leases.set(event.id, held);
    for (const account of held.accounts) this.#judge(account, held);
  }

  #judge(account: string, granted: Held): void {
    const { maxGpus, gpuTime } = this.quotaOf(account);
    const own = [...this.leases.values()].filter(({ accounts }) => accounts.includes(account));
    const running = own.filter(({ to }) => to === null).reduce((sum, { gpus: count }) => sum + count, 0);
    if (maxGpus !== null) expect(running, `${account} runs`).toBeLessThanOrEqual(maxGpus);
    if (gpuTime === null) return;
    const now = granted.from;
    const charged = own.reduce((sum, lease) => sum + charge(lease, now, gpuTime.periodMs), 0);
    expect(charged, `${account} is charged`).toBeLessThanOrEqual(gpuTime.limitMs);
    const before = charged - charge(granted, now, gpuTime.periodMs);
    expect(before, `${account} had something left`).toBeLessThan(gpuTime.limitMs);
  }

  quotaOf(account: string): Quota {
    const { principals, services, defaultPrincipal, defaultService } = this.#host.state.policy.quotas;
    const name = account.slice(2);
    return account.startsWith("p ") ? (principals[name] ?? defaultPrincipal) : (services[name] ?? defaultService);
  }
}

/** The period that `now` lies in began so long ago; periods follow Monday, 5 January 1970. */
function sinceOf(now: EpochMs, periodMs: number): EpochMs {
  return now - ((now - Date.UTC(1970, 0, 5)) % periodMs);
}

function charge({ gpus: count, from, hardEnd, to }: Held, now: EpochMs, periodMs: number): number {
  const since = sinceOf(now, periodMs);
  const until = to ?? (hardEnd === null ? now : Math.max(now, hardEnd));
  return count * Math.max(0, Math.min(periodMs, until - Math.max(since, from)));
}

function play(host: SimulatedHost, step: Step): void {
  switch (step.op) {
    case "submit": {
      const { principal, ...ask } = step.ask;
      refusal(() => host.submit({ ...ask, actor: who(principal) }));
      return;
    }
    case "release":
    case "claim": {
      const live = [...host.state.allocations.values()];
      const one = live[step.n % Math.max(1, live.length)];
      if (one === undefined) return;
      if (step.op === "claim") host.claim(one.request.id);
      else host.release(one.request.id, who(one.request.principal));
      return;
    }
    case "pass":
      host.advance(step.ms);
      host.observe();
      return;
    case "restart":
      host.restart();
      return;
    case "reload":
      host.reconfigure({ quotas: step.quotas });
      return;
    default:
      step satisfies never;
  }
}

function quietHost(quotas: Quotas): SimulatedHost {
  const host = new SimulatedHost(gpus(), { quotas, staleAfterMs: minutes(600), claimTimeoutMs: minutes(3) });
  host.monitoring = false;
  return host;
}

test("no history grants more than a quota has, over restarts and reloads, whose books agree with the journal's", () => {
  fc.assert(
    fc.property(anyQuotas, fc.array(anyStep(true), { minLength: 10, maxLength: 80 }), (quotas, steps) => {
      const host = quietHost(quotas);
      const books = new Books(host);
      for (const step of steps) {
        const before = host.log.length;
        play(host, step);
        if (step.op === "reload") expect(host.log.slice(before).some(({ type }) => type === "ended")).toBe(false);
        books.follow();
      }
      const { accounts } = host.state;
      expect(accounts.counted).toBe(true);
      for (const account of accounts.byKey.values()) {
        const key = `${account.kind === "principal" ? "p" : "s"} ${account.name}`;
        const live = [...host.state.allocations.values()].filter(
          ({ request }) => (account.kind === "principal" ? request.principal : request.serviceName) === account.name,
        );
        expect(account.waiting, key).toBe(live.filter(({ status }) => status === "queued").length);
        expect(account.leases.size, key).toBe(live.filter(({ status }) => status !== "queued").length);
        expect(account.quota).toEqual(books.quotaOf(key));
        const { gpuTime } = account.quota;
        if (gpuTime === null) continue;
        const since = sinceOf(host.now, gpuTime.periodMs);
        const ended = [...books.leases.values()].filter(({ accounts: own, to }) => to !== null && own.includes(key));
        const spent = ended.reduce((sum, lease) => sum + charge(lease, host.now, gpuTime.periodMs), 0);
        expect(account.spent.since === since ? account.spent.ms : 0, key).toBe(spent);
      }
    }),
    { numRuns: 1_000 },
  );
});

test("leases that all have a max_duration never take more of a period than the quota has", () => {
  const limitMs = 2 * PERIOD_MS;
  const quotas: Quotas = {
    ...NO_QUOTAS,
    defaultPrincipal: { ...NO_QUOTA, gpuTime: { limitMs, periodMs: PERIOD_MS } },
  };
  const timed = anyStep(false).map((step) =>
    step.op === "submit"
      ? { ...step, ask: { ...step.ask, maxDurationMs: step.ask.maxDurationMs ?? minutes(30) } }
      : step,
  );
  // A grace after an absence may reach beyond a hard end.
  const steadily = timed.filter(({ op }) => op !== "restart");
  fc.assert(
    fc.property(fc.array(steadily, { minLength: 10, maxLength: 80 }), (steps) => {
      const host = quietHost(quotas);
      const books = new Books(host);
      const begin = host.now;
      for (const step of steps) {
        play(host, step);
        books.follow();
      }
      for (const principal of ["ann", "bob", "cyd"]) {
        const own = [...books.leases.values()].filter(({ accounts }) => accounts.includes(`p ${principal}`));
        for (let since = sinceOf(begin, PERIOD_MS); since <= host.now; since += PERIOD_MS) {
          const taken = own.reduce((sum, { gpus: count, from, to }) => {
            const part = Math.min(to ?? host.now, since + PERIOD_MS) - Math.max(from, since);
            return sum + count * Math.max(0, part);
          }, 0);
          expect(taken).toBeLessThanOrEqual(limitMs);
        }
      }
    }),
    { numRuns: 500 },
  );
});

test("requests that wait for their quota delay nobody else: the others fare as if they had never been made", () => {
  const anyOther = fc.oneof(
    { weight: 5, arbitrary: anyAsk.map((ask) => ({ op: "submit" as const, ask: { ...ask, principal: "bob" } })) },
    {
      weight: 3,
      arbitrary: fc.integer({ min: 0, max: minutes(3) }).map((ms) => ({ op: "pass" as const, ms })),
    },
    { weight: 3, arbitrary: fc.nat(9).map((n) => ({ op: "release" as const, n })) },
    { weight: 4, arbitrary: anyAsk.map((ask) => ({ op: "quota" as const, ask: { ...ask, principal: "ann" } })) },
  );
  const fares = (steps: readonly Drawn<typeof anyOther>[], withAnn: boolean) => {
    const quotas = { ...NO_QUOTAS, principals: { ann: { ...NO_QUOTA, maxGpus: 3 } } };
    const host = quietHost(quotas);
    // Ann has all she may have, for good.
    host.submit({ actor: who("ann"), requiredGpus: 3 });
    const fared: string[] = [];
    let serial = 0;
    let read = 0;
    const names = new Map<string, number>();
    const bobs = () => [...host.state.allocations.values()].filter(({ request }) => request.principal === "bob");
    for (const step of steps) {
      if (step.op === "pass") {
        host.advance(step.ms);
        host.observe();
      } else if (step.op === "release") {
        const own = bobs();
        const one = own.sort((a, b) => (names.get(a.request.id) ?? 0) - (names.get(b.request.id) ?? 0))[
          step.n % Math.max(1, own.length)
        ];
        if (one !== undefined) host.release(one.request.id, who("bob"));
      } else {
        if (step.op === "quota" && !withAnn) continue;
        const { principal, ...ask } = step.ask;
        const id = submitted(host, { ...ask, actor: who(principal) });
        if (step.op === "submit") {
          serial += 1;
          if (id !== null) names.set(id, serial);
          else fared.push(`${serial} refused`);
        }
      }
      for (const event of host.log.slice(read)) {
        if (event.type !== "granted" || !names.has(event.id)) continue;
        const uuids = event.lease.gpus.map(({ uuid }) => uuid).join(" ");
        fared.push(`${names.get(event.id)} ${uuids} at ${event.lease.grantedAt}`);
      }
      read = host.log.length;
    }
    return fared;
  };
  fc.assert(
    fc.property(fc.array(anyOther, { minLength: 10, maxLength: 60 }), (steps) => {
      expect(fares(steps, true)).toEqual(fares(steps, false));
    }),
    { numRuns: 500 },
  );
});

function submitted(host: SimulatedHost, ask: Ask): string | null {
  let id: string | null = null;
  refusal(() => {
    id = host.submit(ask);
  });
  return id;
}

test("of one account, requests for the same are served in the order in which they were made", () => {
  fc.assert(
    fc.property(anyQuotas, fc.array(anyStep(true), { minLength: 10, maxLength: 60 }), (quotas, steps) => {
      const host = quietHost(quotas);
      let read = 0;
      for (const step of steps) {
        const waiting = [...host.state.allocations.values()].filter(({ status }) => status === "queued");
        play(host, step);
        for (const event of host.log.slice(read)) {
          if (event.type !== "granted") continue;
          const { request } = host.allocation(event.id);
          for (const { request: other } of waiting) {
            const isAlike =
              other.id !== request.id &&
              other.principal === request.principal &&
              other.serviceName === request.serviceName &&
              other.gpuModel === request.gpuModel &&
              other.maxDurationMs === request.maxDurationMs &&
              other.requirement.gpus === request.requirement.gpus &&
              other.requirement.priority === request.requirement.priority;
            if (!isAlike || other.submittedAt >= request.submittedAt) continue;
            const earlier = host.allocation(other.id);
            const isServed = earlier.status !== "queued";
            expect(isServed, `${request.id} was served before ${other.id}`).toBe(true);
          }
        }
        read = host.log.length;
      }
    }),
    { numRuns: 500 },
  );
});

test("whoever a quota can ever allow is served: every request of every account, once leases end", () => {
  fc.assert(
    fc.property(anyQuotas, fc.array(anyAsk, { minLength: 5, maxLength: 30 }), (quotas, asks) => {
      const host = quietHost(quotas);
      const ids = asks.map(({ principal, ...ask }) =>
        submitted(host, {
          ...ask,
          actor: who(principal),
          queue: true,
          maxDurationMs: ask.maxDurationMs ?? minutes(20),
        }),
      );
      // Each hour or two a period begins, in which at least one request of an account finds room.
      for (let i = 0; i < 40 * 3 && host.state.line.order.size > 0; i++) {
        host.advance(minutes(60));
        host.observe();
      }
      for (const id of ids) if (id !== null) expect(host.allocation(id).status).not.toBe("queued");
    }),
    { numRuns: 200 },
  );
});
