import { expect, test, vi } from "vitest";
import type { Allocation } from "../../../src/core/model/allocation.ts";
import type { Actor } from "../../../src/core/model/ids.ts";
import { recordsView, recordView } from "../../../src/http/allocations/views.ts";
import { ADMIN, type Ask, h100, minutes, SimulatedHost, t4 } from "../../simulation/simulated-host.ts";

const OTHER: Actor = { principal: "someone-else", admin: false };

/** A host whose GPUs are leased for an hour, and the requests that wait there. */
function crowded(asks: readonly Ask[]) {
  const host = new SimulatedHost([h100("GPU-a"), h100("GPU-b"), t4("GPU-c")], { maxQueueSize: asks.length });
  for (let i = 0; i < 3; i++) host.submit({ maxDurationMs: minutes(60) });
  for (const ask of asks) {
    host.submit(ask);
    host.advance(1);
  }
  const waiting = [...host.state.allocations.values()].filter(({ status }) => status === "queued");
  expect(waiting).toHaveLength(asks.length);
  return { host, waiting };
}

test("records of a page are told what each would be told alone", () => {
  const asks = Array.from({ length: 130 }, (_, i): Ask => {
    const maxDurationMs = i % 3 === 0 ? null : minutes(1 + (i % 7));
    const minMemoryMib = 1_000 * (1 + (i % 4) * 5);
    if (i % 5 === 0) return { maxDurationMs, minMemoryMib, requiredGpus: 2, gpuModel: "H100" };
    return { maxDurationMs, minMemoryMib, priority: 1 + (i % 10) };
  });
  const { host, waiting } = crowded(asks);
  const leased = [...host.state.allocations.values()].filter(({ status }) => status === "leased");
  const page: readonly Allocation[] = [...leased, ...waiting];
  for (const actor of [ADMIN, OTHER]) {
    const alone = page.map((allocation) => recordView(allocation, host.state, host.now, actor));
    expect(recordsView(page, host.state, host.now, actor)).toEqual(alone);
  }
});

test("however many of a page wait for the same, the GPUs are looked at once for all", () => {
  const { host, waiting } = crowded(Array.from({ length: 1_000 }, () => ({ maxDurationMs: minutes(30) })));
  const looks = vi.spyOn(host.state.gpus, "values");
  const looksFor = (page: readonly Allocation[]) => {
    looks.mockClear();
    recordsView(page, host.state, host.now, ADMIN);
    return looks.mock.calls.length;
  };
  const few = looksFor(waiting.slice(0, 5));
  expect(few).toBeGreaterThan(0);
  expect(looksFor(waiting)).toBe(few);
});
