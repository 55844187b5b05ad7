import { expect, test } from "vitest";
import { preferredWaitMs } from "../../../src/http/exchange/prefer.ts";
import { MAX_WAIT_MS } from "../../../src/wire/asking.ts";

test("wait is found among other preferences, in any case, quoted or not, and capped at a minute", () => {
  const fields: [string, number][] = [
    ["wait=10", 10_000],
    ["Wait = 10", 10_000],
    ['wait="10"', 10_000],
    ["respond-async, wait=5", 5_000],
    ['foo="a, wait=9; b\\" wait=8", wait=7', 7_000],
    ['handling=lenient; x="y,z"; q , , wait=3 ; strict', 3_000],
    ["wait=1, wait=2", 1_000],
    ["wait=0060", 60_000],
    ["wait=61", 60_000],
    ["wait=3s", 3_000],
    ['wait="3s"', 3_000],
    [`wait=${"9".repeat(400)}`, 60_000],
  ];
  for (const [field, ms] of fields) expect([field, preferredWaitMs(field, MAX_WAIT_MS)]).toEqual([field, ms]);
});

test("without a wait there is nothing to wait for", () => {
  const fields = [undefined, "", ",", "return=minimal", "foo; wait=5", "waiting=5", "wait=0", "x=ä"];
  for (const field of fields) expect([field, preferredWaitMs(field, MAX_WAIT_MS)]).toEqual([field, 0]);
});

test("a wait that cannot be read is refused, and never ignored", () => {
  const fields = [
    "wait",
    "wait=",
    "wait=-1",
    "wait=1.5",
    "wait=1e3",
    "wait=5m",
    'wait="5',
    'wait=""',
    "wait=abc, wait=5",
    "wait=5 5",
    "wait=5, (nonsense)",
    "wait=5, x=ä",
    `wait=5, x="${"y".repeat(600)}"`,
  ];
  for (const field of fields)
    expect(() => preferredWaitMs(field, MAX_WAIT_MS), field).toThrow("expected a number of seconds");
});

test("no field takes long to look at", () => {
  const hostile = [" ".repeat(500), `a=${'"\\'.repeat(250)}`, `${",".repeat(255)} (`, `${"; ".repeat(250)}(`];
  const startedAt = performance.now();
  for (const field of hostile) for (let time = 0; time < 100; time++) preferredWaitMs(field, MAX_WAIT_MS);
  expect(performance.now() - startedAt).toBeLessThan(1_000);
});
