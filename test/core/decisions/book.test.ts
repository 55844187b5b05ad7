/** GPUs are booked for a principal from a time for a while. */
import { expect, test } from "vitest";
import type { BookingAsk } from "../../../src/core/decisions/commands.ts";
import { explain } from "../../../src/core/explain/explain.ts";
import { emptyHost } from "../../../src/core/host/changes.ts";
import { evolve } from "../../../src/core/host/evolve.ts";
import type { Actor } from "../../../src/core/model/ids.ts";
import type { Policy } from "../../../src/core/model/policy.ts";
import fc from "../../fc.ts";
import {
  ADMIN,
  type Ask,
  h100,
  minutes,
  NO_QUOTA,
  NO_QUOTAS,
  refusal,
  SimulatedHost,
} from "../../simulation/simulated-host.ts";

const ANN = { principal: "ann", admin: false };
const BOB = { principal: "bob", admin: false };

class BookingHost extends SimulatedHost {
  #booked = 0;

  constructor(count: number, policy: Partial<Policy> = {}) {
    super(
      Array.from({ length: count }, (_, i) => h100(`GPU-${i}`)),
      { verifyRelease: "never", ...policy },
    );
  }

  /** From and to in minutes from now. */
  book(gpus: BookingAsk["gpus"], from: number, to: number, actor: Actor = ANN, more: Partial<BookingAsk> = {}): string {
    const id = `reservation-${++this.#booked}`;
    const ask = {
      principal: null,
      serviceName: null,
      gpus,
      from: this.now + minutes(from),
      to: this.now + minutes(to),
    };
    this.do({ type: "book", id, ask: { ...ask, ...more }, actor });
    return id;
  }

  /** `null`: it is made; else the refusal's words. */
  why(...given: Parameters<BookingHost["book"]>): string | null {
    try {
      this.book(...given);
      return null;
    } catch (error) {
      return (error as Error).message;
    }
  }

  cancel(id: string, actor: Actor = ANN): void {
    this.do({ type: "cancel-booking", id, actor });
  }

  ask(actor: Actor, lasts: number | null, more: Ask = {}): string {
    const maxDurationMs = lasts === null ? null : minutes(lasts);
    return this.submit({ serviceName: actor.principal, minMemoryMib: 1, maxDurationMs, actor, ...more });
  }

  status(id: string): string {
    return this.allocation(id).status;
  }
}

test("what is booked is kept from others, who go on until it begins, and is its principal's then", () => {
  const host = new BookingHost(2);
  host.book(1, 30, 90);
  const short = host.ask(BOB, 20, { requiredGpus: 2 });
  expect(host.status(short)).toBe("leased");
  host.release(short);
  const [long, second] = [host.ask(BOB, null), host.ask(BOB, null)];
  expect([host.status(long), host.status(second)]).toEqual(["leased", "queued"]);
  expect(explain(host.allocation(second).request, host.state, host.now).reason).toContain(
    "reservation-1 takes 1 GPU in 30m",
  );
  host.advance(minutes(30));
  const own = host.ask(ANN, null);
  expect([host.status(own), host.status(second)]).toEqual(["leased", "queued"]);
});

test("when it is over, or given up, what it kept goes to who waits, at once", () => {
  const host = new BookingHost(1);
  host.book(1, 0, 60);
  const waiting = host.ask(BOB, null);
  host.advance(minutes(59));
  expect(host.status(waiting)).toBe("queued");
  host.advance(minutes(1));
  expect(host.status(waiting)).toBe("offered");
  host.release(waiting, BOB);

  const id = host.book(1, 0, 60);
  const next = host.ask(BOB, null);
  expect(host.status(next)).toBe("queued");
  host.cancel(id);
  expect(host.status(next)).not.toBe("queued");
});

test("leases that may last into it, other bookings and windows make it refused, with how many are too many", () => {
  const host = new BookingHost(4);
  host.ask(BOB, null);
  host.ask(BOB, 30);
  expect(host.why(4, 60, 120)).toBe(
    "1 of 4 GPUs are too many then: 4 can be granted, of which 1 are leased beyond its start",
  );
  expect(host.why(3, 20, 120)).toContain("1 of 3 GPUs are too many then");
  host.book(2, 60, 120, { principal: "cyd", admin: false });
  expect(host.why(2, 90, 150)).toContain("and reservation-3 keep theirs");
  expect(host.why(3, 120, 180)).toBe(null);
});

test("what one that began holds counts for it: it is not asked for twice", () => {
  const host = new BookingHost(4);
  host.book(2, 0, 60);
  host.ask(ANN, null, { requiredGpus: 2 });
  expect(host.why(2, 10, 50, BOB)).toBe(null);
});

test("a GPU that was named by a reservation which is over counts for windows that give a number again", () => {
  const always = { schedule: "0 0 * * *", timeZone: "UTC", durationMs: minutes(1_440) };
  const members = [{ services: [], principals: ["ann"], workloadTypes: [] }];
  const spans = [{ from: 0, to: Number.MAX_SAFE_INTEGER }];
  const host = new BookingHost(2, { windows: [{ name: "anns", ...always, members, gpus: 1, spans }] });
  host.book(["0"], 1, 3, ANN);
  host.advance(minutes(4));
  host.do({ type: "cordon", gpu: "GPU-1", reason: "fan", actor: ADMIN });

  const outsider = host.ask(BOB, null);
  expect(host.status(outsider)).toBe("queued");
  expect(host.status(host.ask(ANN, null))).toBe("leased");
});

test("named GPUs are kept by name: refused where somebody holds one, it is kept by another, or cannot be granted", () => {
  const host = new BookingHost(3);
  host.ask(BOB, null, { exactGpus: ["0"] });
  expect(host.why(["0"], 60, 120)).toBe("GPU 0 is leased beyond its start");
  expect(host.why(["GPU-1", "1"], 60, 120)).toBe(null);
  expect(host.why(["1"], 100, 130, BOB)).toBe("GPU 1 is kept by reservation-2 then");
  expect(host.why(["1"], 120, 180, BOB)).toBe(null);
  expect(host.why(["7"], 60, 120)).toContain('no GPU "7"');
  host.do({ type: "cordon", gpu: "2", reason: "x", actor: ADMIN });
  expect(host.why(["2"], 60, 120)).toBe("GPU 2 cannot be granted now");
});

test("naming GPUs takes none from what an earlier one keeps by number, whenever that is", () => {
  const host = new BookingHost(3);
  host.book(2, 60, 120);
  expect(host.why(["0"], 200, 260, BOB)).toBe(null);
  expect(host.why(["1"], 200, 260, BOB)).toContain("too many then");
});

test("a head that was told when it starts is not put off", () => {
  const host = new BookingHost(2, { reserveAfterMs: 0 });
  host.ask(BOB, 30);
  host.ask(BOB, 30);
  const wide = host.ask(BOB, 60, { requiredGpus: 2 });
  host.advance(minutes(1));
  expect(host.why(1, 40, 100)).toBe(`${wide} waits for these GPUs, and was told when it starts`);
  expect(host.why(1, 95, 155)).toBe(null);
});

test("it is within its principal's quota, two weeks ahead, and so many", () => {
  const quotas = { ...NO_QUOTAS, principals: { ann: { ...NO_QUOTA, maxGpus: 2 } } };
  const host = new BookingHost(8, { quotas });
  expect(host.why(3, 0, 60)).toBe("principal ann may have 2 GPUs at once");
  expect(host.why(1, 0, 0.5)).toBe("it is shorter than a minute");
  expect(host.why(1, -60, -1)).toBe("its end has passed");
  expect(host.why(1, 60 * 24 * 13, 60 * 24 * 15)).toBe("it ends more than 14 days from now");
  for (let day = 0; day < 5; day++) expect(host.why(1, day * 1_440, day * 1_440 + 60)).toBe(null);
  expect(host.why(1, 9_000, 9_060)).toBe("ann has 5 reservations, and may have 5");
  for (let n = 5; n < 15; n++) expect(host.why(1, n * 1_000, n * 1_000 + 60, ADMIN)).toBe(null);
  expect(host.why(1, 19_000, 19_060, ADMIN)).toBe("the host has 15 reservations, its limit");
  // Those that are over do not count.
  host.advance(minutes(61));
  expect(host.why(1, 19_000, 19_060, ADMIN)).toBe(null);
});

test("what a principal has reserved for one time adds up for its quota, and other times do not count", () => {
  const quotas = { ...NO_QUOTAS, principals: { ann: { ...NO_QUOTA, maxGpus: 3 } } };
  const host = new BookingHost(8, { quotas });
  host.book(2, 10, 20);
  host.book(2, 30, 40);
  host.book(["0"], 15, 35);
  const beyond = (reserved: number) => `principal ann may have 3 GPUs at once, and has reserved ${reserved} then`;
  expect(host.why(1, 0, 60)).toBe(beyond(3));
  expect(host.why(1, 18, 19)).toBe(beyond(3));
  expect(host.why(3, 20, 30)).toBe(beyond(1));
  expect(host.why(2, 20, 30)).toBe(null);
  expect(host.why(3, 40, 60)).toBe(null);
  expect(host.why(3, 0, 60, BOB)).toBe(null);
});

test("the quota of a service is about what is reserved for it, by whomever, and not for any of a principal's", () => {
  const host = new BookingHost(8, { quotas: { ...NO_QUOTAS, defaultService: { ...NO_QUOTA, maxGpus: 2 } } });
  expect(host.why(4, 0, 60)).toBe(null);
  expect(host.why(3, 0, 60, ANN, { serviceName: "demo" })).toBe("service demo may have 2 GPUs at once");
  expect(host.why(1, 0, 60, ANN, { serviceName: "demo" })).toBe(null);
  expect(host.why(2, 0, 60, BOB, { serviceName: "demo" })).toBe(
    "service demo may have 2 GPUs at once, and has reserved 1 then",
  );
  expect(host.why(2, 0, 60, BOB, { serviceName: "other" })).toBe(null);
});

test("one from now on begins when it is decided on, and lasts as long as it was to, down to a minute", () => {
  const host = new BookingHost(1);
  host.book(1, 0, 0, ANN, { from: null, to: { afterMs: minutes(1) } });
  expect(host.state.bookings).toMatchObject([{ from: host.now, to: host.now + minutes(1) }]);
  expect(host.why(1, 10, 0, ANN, { to: { afterMs: minutes(5) } })).toBe(null);
  expect(host.state.bookings).toMatchObject([{}, { from: host.now + minutes(10), to: host.now + minutes(15) }]);
  expect(host.why(1, 30, 20)).toBe("it ends before it begins");
});

test("only admins book for others, and only they and its principal give it up", () => {
  const host = new BookingHost(2);
  expect(refusal(() => host.book(1, 10, 70, BOB, { principal: "ann" }))).toBe("not-owner");
  const id = host.book(1, 10, 70, ADMIN, { principal: "ann" });
  expect(host.state.bookings).toMatchObject([{ id, principal: "ann", madeBy: ADMIN.principal }]);
  expect(refusal(() => host.cancel(id, BOB))).toBe("not-owner");
  host.cancel(id, ANN);
  expect(refusal(() => host.cancel(id, ANN))).toBe("reservation-not-found");
});

test("one for a service is that service's alone, of its principal", () => {
  const host = new BookingHost(1);
  host.book(1, 0, 60, ANN, { serviceName: "demo" });
  expect(host.status(host.ask(ANN, null, { serviceName: "other" }))).toBe("queued");
  expect(host.status(host.ask(BOB, null, { serviceName: "demo" }))).toBe("queued");
  expect(host.status(host.ask(ANN, null, { serviceName: "demo" }))).toBe("leased");
});

test("it outlasts a restart of the daemon, and the journal folds to it", () => {
  const host = new BookingHost(1);
  host.book(1, 10, 70);
  host.restart();
  host.reconfigure({ maxQueueSize: 50 });
  expect(host.status(host.ask(BOB, null))).toBe("queued");
  const folded = host.log.reduce(evolve, emptyHost(host.state.policy));
  expect(folded.bookings).toEqual(host.state.bookings);
});

const history = fc.array(
  fc.oneof(
    {
      weight: 4,
      arbitrary: fc.record({
        act: fc.constant("ask" as const),
        gpus: fc.integer({ min: 1, max: 4 }),
        lasts: fc.option(fc.integer({ min: 1, max: 90 }), { freq: 5 }),
        priority: fc.integer({ min: 1, max: 10 }),
      }),
    },
    {
      weight: 3,
      arbitrary: fc.record({
        act: fc.constant("book" as const),
        gpus: fc.oneof(
          fc.integer({ min: 1, max: 4 }),
          fc.uniqueArray(fc.constantFrom("0", "1", "GPU-2"), { minLength: 1 }),
        ),
        from: fc.integer({ min: 0, max: 120 }),
        lasts: fc.integer({ min: 5, max: 90 }),
      }),
    },
    { weight: 1, arbitrary: fc.record({ act: fc.constant("end" as const), n: fc.nat(20) }) },
    { weight: 2, arbitrary: fc.record({ act: fc.constant("pass" as const), span: fc.integer({ min: 1, max: 40 }) }) },
  ),
  { maxLength: 40 },
);

const FULL_RUNS = 300;
const NUM_RUNS = Number(process.env.HISTORIES ?? FULL_RUNS);

test("whoever was given a booking has its GPUs the moment it begins, whatever others ask for in between", {
  timeout: 300_000,
}, () => {
  let begun = 0;
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 5 }),
      fc.constantFrom(0, minutes(5)),
      history,
      (count, reserveAfterMs, acts) => {
        const host = new BookingHost(count, { reserveAfterMs, staleAfterMs: minutes(1_000_000) });
        const coming: { readonly at: number; readonly owner: string; readonly gpus: BookingAsk["gpus"] }[] = [];
        const takeUp = () => {
          for (const one of coming.splice(0).sort((a, b) => a.at - b.at)) {
            if (one.at > host.now) coming.push(one);
            else {
              const names =
                typeof one.gpus === "number"
                  ? { requiredGpus: one.gpus }
                  : { exactGpus: one.gpus, requiredGpus: one.gpus.length };
              const own = host.ask({ principal: one.owner, admin: false }, 4, names);
              expect(host.status(own), `${one.owner} at ${one.at}`).toBe("leased");
              begun += 1;
            }
          }
        };
        const pass = (until: number) => {
          while (host.now < until) {
            const next = Math.min(until, ...coming.map(({ at }) => at), host.now + minutes(1));
            host.advance(Math.max(1, next - host.now));
            for (const { status, request } of host.state.allocations.values()) {
              if (status === "offered") host.claim(request.id);
            }
            takeUp();
          }
        };
        for (const [n, one] of acts.entries()) {
          if (one.act === "ask") {
            const { gpus, lasts, priority } = one;
            if (gpus <= count) host.ask(BOB, lasts, { requiredGpus: gpus, priority });
          } else if (one.act === "book") {
            const owner = `owner-${n}`;
            const actor = { principal: owner, admin: true };
            const at = host.now + minutes(one.from);
            if (host.why(one.gpus, one.from, one.from + one.lasts, actor) === null) {
              const gpus = typeof one.gpus === "number" ? one.gpus : (host.state.bookings.at(-1)?.gpus ?? []);
              coming.push({ at, owner, gpus });
            }
            takeUp();
          } else if (one.act === "end") {
            const live = [...host.state.allocations.values()].filter(({ request }) => request.principal === "bob");
            const chosen = live[one.n % Math.max(1, live.length)];
            if (chosen !== undefined) host.release(chosen.request.id, BOB);
          } else pass(host.now + minutes(one.span));
        }
        pass(host.now + minutes(130));
        expect(coming).toEqual([]);
      },
    ),
    { numRuns: NUM_RUNS },
  );
  if (NUM_RUNS >= FULL_RUNS) expect(begun).toBeGreaterThan(100);
});
