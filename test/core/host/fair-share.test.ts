import { expect, test } from "vitest";
import { shareOf } from "../../../src/core/host/fair-share.ts";
import type { Actor } from "../../../src/core/model/ids.ts";
import type { FairShare } from "../../../src/core/model/policy.ts";
import fc from "../../fc.ts";
import { type Ask, h100, minutes, SimulatedHost } from "../../simulation/simulated-host.ts";

const hours = (n: number) => minutes(60 * n);
const FAIR: { fairShare: FairShare } = { fairShare: { halfLifeMs: hours(1), maxDelayMs: minutes(10) } };
const who = (principal: string): Actor => ({ principal, admin: false });
const as = (principal: string, ask: Ask = {}): Ask => ({ actor: who(principal), ...ask });
const shareIn = (host: SimulatedHost, principal: string) =>
  shareOf(host.state.fairShares, principal, FAIR.fairShare, host.now);

/** One GPU that `principal` holds for so long; then nobody does. */
function use(host: SimulatedHost, principal: string, ms: number): void {
  const id = host.submit(as(principal));
  host.advance(ms);
  host.release(id, who(principal));
}

test("of two who ask at once, the one who used less lately is served first", () => {
  const host = new SimulatedHost([h100("GPU-a")], FAIR);
  use(host, "ann", minutes(30));
  const blocker = host.submit(as("cyd"));
  const [late, early] = [host.submit(as("ann")), host.submit(as("bob"))];
  expect(host.queue()).toEqual([early, late]);
  host.release(blocker, who("cyd"));
  expect(host.allocation(early).status).toBe("offered");
});

test("without the setting submission decides", () => {
  const host = new SimulatedHost([h100("GPU-a")]);
  use(host, "ann", minutes(30));
  host.submit(as("cyd"));
  const ids = [host.submit(as("ann")), host.submit(as("bob"))];
  expect(host.queue()).toEqual(ids);
  expect(host.state.fairShares.leases.size).toBe(0);
});

test("a turn is put off by max_delay at most, and only against others", () => {
  const host = new SimulatedHost([h100("GPU-a")], FAIR);
  host.submit(as("ann"));
  host.advance(minutes(30));
  const first = host.submit(as("ann"));
  const second = host.submit(as("ann"));
  host.advance(minutes(10) - 1);
  const just = host.submit(as("bob"));
  expect(host.queue()).toEqual([just, first, second]);
  host.advance(2);
  const tooLate = host.submit(as("cyd"));
  expect(host.queue()).toEqual([just, first, second, tooLate]);
});

test("what was used counts half after each half-life, while it runs too", () => {
  const host = new SimulatedHost([h100("GPU-a"), h100("GPU-b")], FAIR);
  host.monitoring = false;
  use(host, "ann", hours(1));
  expect(shareIn(host, "ann")).toBe(1);
  host.observe();
  host.advance(hours(1));
  host.observe();
  const id = host.submit(as("bob"));
  host.advance(hours(1));
  // Ann's hour has had two half-lives since, and Bob's goes on.
  expect(shareIn(host, "ann")).toBeCloseTo(1 / 5, 9);
  expect(shareIn(host, "bob")).toBeCloseTo(4 / 5, 9);
  host.release(id, who("bob"));
  expect(shareIn(host, "bob")).toBeCloseTo(4 / 5, 9);
  expect(shareIn(host, "nobody")).toBe(0);
});

test("requests of one principal never pass each other, though its share has sunk", () => {
  const eight = Array.from({ length: 8 }, (_, i) => h100(`GPU-${i}`));
  const host = new SimulatedHost(eight, FAIR);
  use(host, "ann", minutes(30));
  host.submit(as("bob", { requiredGpus: 8 }));
  const first = host.submit(as("ann"));
  host.advance(minutes(5));
  const second = host.submit(as("ann"));
  expect(host.queue()).toEqual([first, second]);
});

test("shares are the same after a restart", () => {
  const host = new SimulatedHost([h100("GPU-a"), h100("GPU-b")], FAIR);
  use(host, "ann", minutes(30));
  use(host, "bob", minutes(10));
  host.submit(as("cyd"));
  host.advance(minutes(7));
  const before = ["ann", "bob", "cyd"].map((name) => shareIn(host, name));
  host.restart();
  for (const [i, name] of ["ann", "bob", "cyd"].entries()) expect(shareIn(host, name)).toBeCloseTo(before[i] ?? 0, 9);
});

test("whatever was used, turns are put off within the bound, in submission's order per principal, and stay as they are", () => {
  const anyStep = fc.record({
    principal: fc.constantFrom("ann", "bob", "cyd"),
    what: fc.constantFrom("submit", "submit", "release", "restart"),
    passMs: fc.integer({ min: 0, max: minutes(20) }),
  });
  fc.assert(
    fc.property(fc.array(anyStep, { minLength: 5, maxLength: 60 }), (steps) => {
      const host = new SimulatedHost([h100("GPU-a"), h100("GPU-b")], FAIR);
      host.monitoring = false;
      const due = new Map<string, number>();
      let order: string[] = [];
      for (const { principal, what, passMs } of steps) {
        host.advance(passMs);
        host.observe();
        if (what === "restart") host.restart();
        else if (what === "submit") {
          const { request } = host.allocation(host.submit(as(principal)));
          expect(request.fairShareDelayMs).toBeGreaterThanOrEqual(0);
          expect(request.fairShareDelayMs).toBeLessThanOrEqual(minutes(10));
          const turn = request.submittedAt + request.fairShareDelayMs;
          const waiting = [...host.state.allocations.values()].filter(
            (other) => other.status === "queued" && other.request.principal === principal,
          );
          if (waiting.length > 1) expect(turn).toBeGreaterThanOrEqual(due.get(principal) ?? 0);
          due.set(principal, turn);
        } else {
          const held = [...host.state.allocations.values()].find(({ status }) => status !== "queued");
          if (held !== undefined) host.release(held.request.id, who(held.request.principal));
        }
        const queue = host.queue();
        expect(queue.filter((id) => order.includes(id))).toEqual(order.filter((id) => queue.includes(id)));
        order = queue;
      }
    }),
    { numRuns: 200 },
  );
});
