import { describe, expect, test } from "vitest";
import { MeasuredWrites } from "../../src/controller/reconcile/measured-writes.ts";
import { NOW, workload } from "./objects.ts";

const MINUTE_MS = 60_000;
const figures = (requestsPerSecond: number) => ({ currentMetrics: { requestsPerSecond }, phase: "Running" as const });

function told(uid: string) {
  const one = workload({}, { status: figures(1) });
  return { ...one, metadata: { ...one.metadata, uid } };
}

describe("a status with new figures", () => {
  test("is written once a minute", () => {
    const writes = new MeasuredWrites();
    writes.written("uid-1", NOW);
    expect(writes.isWritten(told("uid-1"), figures(2), NOW + MINUTE_MS - 1)).toBe(true);
    expect(writes.isWritten(told("uid-1"), figures(2), NOW + MINUTE_MS)).toBe(false);
    expect(writes.isWritten(told("uid-1"), figures(1), NOW + MINUTE_MS)).toBe(true);
  });

  test("is written at once when something else is new, or when it is the first with figures", () => {
    const writes = new MeasuredWrites();
    writes.written("uid-1", NOW);
    expect(writes.isWritten(told("uid-1"), { ...figures(1), phase: "Failed" }, NOW)).toBe(false);
    const untold = workload({}, { status: { phase: "Running" } });
    expect(new MeasuredWrites().isWritten(untold, figures(1), NOW)).toBe(false);
  });

  test("is not written with all others at once when a controller begins, but all within a minute", () => {
    const writes = new MeasuredWrites();
    const left = new Set(Array.from({ length: 500 }, (_, index) => `uid-${index}`));
    const perSecond = Array.from({ length: 61 }, (_, second) => {
      const now = NOW + second * 1_000;
      const due = [...left].filter((uid) => !writes.isWritten(told(uid), figures(2), now));
      for (const uid of due) left.delete(uid);
      return due.length;
    });
    expect(left.size).toBe(0);
    // Of 500 in 60 s there are 8.3 each second.
    expect(Math.max(...perSecond)).toBeLessThan(25);
  });
});
