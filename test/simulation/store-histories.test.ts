/**
 * Generated histories against the real scheduler and the real store, on a simulated host that crashes, sleeps, fills
 * its disk and loses its driver. All that violation.ts lists must hold after every step.
 */

import { expect, test } from "vitest";
import type { Event } from "../../src/core/host/events.ts";
import { END_REASONS } from "../../src/core/model/allocation.ts";
import { ERROR_CODES, type ErrorCode } from "../../src/core/model/errors.ts";
import { seededRandom } from "../../src/monitor/simulated/random.ts";
import fc from "../fc.ts";
import { CRASH_POINTS, TROUBLES } from "./faulty-writer.ts";
import { drawOp, OP_NAMES } from "./ops.ts";
import { WHOLE_MOODS } from "./simulated-driver.ts";
import { Simulation } from "./simulation.ts";
import { Tally } from "./tally.ts";

/** Some hundred thousand operations. */
const FULL_RUNS = 1_100;
const FULL_OPS = 100_000;
const NUM_RUNS = Number(process.env.HISTORIES ?? FULL_RUNS);
/** Some three minutes of one core, on a machine that may have many others to serve. */
const TIMEOUT_MS = 1_800_000;

/** A history is made shorter, not its parts simpler: each is drawn from a number that says nothing. */
const anyOp = fc.noShrink(fc.integer({ min: 0, max: 2 ** 31 })).map((seed) => drawOp(seededRandom(seed), "history"));

const EVENTS: Readonly<Record<Event["type"], true>> = {
  submitted: true,
  granted: true,
  reoffered: true,
  claimed: true,
  renewed: true,
  "end-moved": true,
  extended: true,
  nudged: true,
  ended: true,
  preempting: true,
  draining: true,
  "notice-withdrawn": true,
  "became-head": true,
  "preemption-begun": true,
  "preemption-called-off": true,
  "gpu-seen": true,
  "use-seen": true,
  "use-gone": true,
  "went-idle": true,
  "went-busy": true,
  "memory-settled": true,
  "memory-returned": true,
  "went-over-memory": true,
  "went-within-memory": true,
  "gpu-quarantined": true,
  "gpu-freed": true,
  "gpu-cordoned": true,
  "gpu-uncordoned": true,
  "host-cordoned": true,
  "host-uncordoned": true,
  "quarantine-cleared": true,
  "gpu-gone": true,
  "gpu-removed": true,
  "gpu-lost": true,
  "gpu-back": true,
  "gpu-faulted": true,
  "gpu-fault-answered": true,
  "gpu-foreign-use": true,
  "gpu-foreign-use-over": true,
  reserved: true,
  "reservation-cancelled": true,
  resumed: true,
};

/**
 * Sixteen thousand commands at once are in test/scheduler/overload.test.ts, usage reports in test/scheduler/usage, keys
 * and processes that cannot be seen in test/http/.
 */
const ELSEWHERE: readonly ErrorCode[] = [
  "overloaded",
  "usage-busy",
  "period-too-large",
  "key-not-found",
  "keys-in-file",
  "too-many-keys",
  "revocation-not-durable",
  "pid-not-visible",
];
const isMetHere = (code: ErrorCode) => !ELSEWHERE.includes(code);

/** What must have happened in the histories as a whole, or some check has never been put to the test. */
const HAPPENS: Readonly<Record<string, readonly string[]>> = {
  op: OP_NAMES,
  // The kernel's log is in test/core/decisions/observe/kernel-log.test.ts.
  event: Object.keys(EVENTS).filter((type) => !/^gpu-fault/.test(type)),
  grant: ["leased", "offered"],
  end: END_REASONS,
  crash: [...CRASH_POINTS, "after the answer", "between turns", "during the start"],
  trouble: TROUBLES,
  refusal: [...ERROR_CODES.filter(isMetHere), "idempotency-key-in-use", "idempotency-key-reused"],
  asked: ["hang up"],
  keyed: ["allocate", "release", "renew", "replayed"],
  again: ["same body", "other body"],
  "admin word": ["cordon", "uncordon", "clear-quarantine", "remove-gpu"],
  settlement: ["delivered", "retry", "gave-up"].flatMap((outcome) => [outcome, `${outcome}, too late`]),
  wait: ["leased", "ended", "in vain", "left", "refused"],
  mood: WHOLE_MOODS,
  mig: ["an instance", "several instances", "memory that others have a part of", "forgotten"],
  window: ["none", "a member", "an outsider while none is open", "an outsider while it is open"],
  host: ["rebooted", "slept", "stopped", "probed slowly", "transactions refused"],
  clock: ["a year ahead", "a year behind", "right", "moved on", "moved back"],
  pruned: ["allocations", "deliveries", "turns", "keys", "snapshots taken"],
};

const tally = new Tally();

test("no history breaks an invariant, on disk or in memory", { timeout: TIMEOUT_MS }, async () => {
  await fc.assert(
    fc.asyncProperty(fc.nat(), fc.array(anyOp, { maxLength: 200, size: "max" }), async (seed, ops) => {
      const simulation = await Simulation.begin({
        seed,
        pruneLimits: { rows: 20, snapshotAfterEvents: 25, journalKeptEvents: 40 },
        keptMs: 300_000,
        checkWholeEvery: 1,
        tally,
      });
      try {
        for (const op of ops) await simulation.step(op);
      } finally {
        await simulation.breathe();
        simulation.discard();
      }
    }),
    { numRuns: NUM_RUNS },
  );
});

test.skipIf(NUM_RUNS < FULL_RUNS)("everything that can happen has happened in these histories", () => {
  const missing = Object.entries(HAPPENS).flatMap(([group, names]) => tally.missing(group, names));
  expect(missing).toEqual([]);
  expect(OP_NAMES.reduce((sum, name) => sum + tally.of("op", name), 0)).toBeGreaterThanOrEqual(FULL_OPS);
});
