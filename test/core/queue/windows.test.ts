import { expect, test } from "vitest";
import { explain } from "../../../src/core/explain/explain.ts";
import { nextWindowChange } from "../../../src/core/host/state.ts";
import type { Members, ReservedWindow } from "../../../src/core/model/policy.ts";
import { covered } from "../../../src/core/queue/window-allowances.ts";
import { h100, minutes, SimulatedHost, t4 } from "../../simulation/simulated-host.ts";

/** What a host's clock shows at first. */
const START = 1_800_000_000_000;
const hours = (n: number) => minutes(60 * n);
const gpus = (count: number) => Array.from({ length: count }, (_, i) => h100(`GPU-${i}`));
const of = (...services: string[]): Members => ({ services, principals: [], workloadTypes: [] });

/** Open from and to so many minutes after the start, for the service `own`. */
function window(over: Partial<ReservedWindow> = {}, ...open: readonly (readonly [number, number])[]): ReservedWindow {
  const spans = open.map(([from, to]) => ({ from: START + minutes(from), to: START + minutes(to) }));
  const calendar = { schedule: "0 0 * * *", timeZone: "UTC", durationMs: minutes(1) };
  return { name: "office", ...calendar, gpus: 2, members: [of("own")], spans, ...over };
}

/** GPUs are not looked at after a lease: what windows are granted is to the millisecond. */
const EXACT = { verifyRelease: "never" } as const;

function hostWith(count: number, ...windows: readonly ReservedWindow[]): SimulatedHost {
  return new SimulatedHost(gpus(count), { ...EXACT, windows });
}

const why = (host: SimulatedHost, id: string) => explain(host.allocation(id).request, host.state, host.now).reason;

test("outsiders that could last into a window leave it its GPUs, and its members take them", () => {
  const host = hostWith(4, window({}, [60, 120]));
  const outsiders = [host.submit(), host.submit(), host.submit()];
  expect(outsiders.map((id) => host.allocation(id).status)).toEqual(["leased", "leased", "queued"]);
  expect(host.gpusOf(host.submit({ serviceName: "own", requiredGpus: 2 }))).toHaveLength(2);
});

test("a lease that is over when the window opens is granted, and one that lasts a millisecond longer is not", () => {
  const host = hostWith(2, window({}, [60, 120]));
  expect(host.gpusOf(host.submit({ requiredGpus: 2, maxDurationMs: hours(1) + 1 }))).toBeNull();
  const id = host.submit({ requiredGpus: 2, maxDurationMs: hours(1) });
  expect(host.gpusOf(id)).toHaveLength(2);
  host.advance(hours(1));
  expect(host.endReason(id)).toBe("max_duration");
  expect(host.gpusOf(host.submit({ serviceName: "own", requiredGpus: 2 }))).toHaveLength(2);
});

test("where GPUs are looked at after a lease, time is left to find them empty", () => {
  const host = new SimulatedHost(gpus(2), { windows: [window({}, [60, 120])] });
  const longest = hours(1) - host.state.policy.reclaimTimeoutMs;
  expect(host.gpusOf(host.submit({ requiredGpus: 2, maxDurationMs: longest + 1 }))).toBeNull();
  expect(host.gpusOf(host.submit({ requiredGpus: 2, maxDurationMs: longest }))).toHaveLength(2);
});

test("a renewable end is no end: only max_duration makes a request fit", () => {
  const host = hostWith(2, window({}, [60, 120]));
  expect(host.gpusOf(host.submit({ ttlMs: minutes(5) }))).toBeNull();
});

test("when the window closes, those who waited for that are served", () => {
  const host = hostWith(2, window({}, [0, 30]));
  const id = host.submit({ maxDurationMs: hours(1) });
  expect(host.allocation(id).status).toBe("queued");
  expect(nextWindowChange(host.state, host.now)).toBe(START + minutes(30));
  host.advance(minutes(30) - 1);
  expect(host.allocation(id).status).toBe("queued");
  host.advance(1);
  expect(host.gpusOf(id)).toHaveLength(1);
});

test("a window ends nothing that runs, and counts it", () => {
  const host = hostWith(4);
  const before = [host.submit({ requiredGpus: 3 })];
  host.do({ type: "reconfigure", policy: { ...host.state.policy, windows: [window({}, [0, 60])] } });
  expect(host.allocation(host.submit()).status).toBe("queued");
  expect(host.gpusOf(host.submit({ serviceName: "own" }))).toHaveLength(1);
  host.advance(minutes(10));
  expect(before.map((id) => host.allocation(id).status)).toEqual(["leased"]);
});

test("windows that are open together add up, and apart they do not", () => {
  const night = (...open: readonly (readonly [number, number])[]) =>
    window({ name: "night", gpus: 1, members: [of("batch")] }, ...open);
  const apart = hostWith(4, window({}, [0, 60]), night([60, 120]));
  expect(apart.gpusOf(apart.submit({ requiredGpus: 2 }))).toHaveLength(2);
  const together = hostWith(4, window({}, [0, 60]), night([30, 120]));
  expect(together.gpusOf(together.submit({ requiredGpus: 2 }))).toBeNull();
  expect(together.gpusOf(together.submit({ requiredGpus: 2, maxDurationMs: minutes(30) }))).toHaveLength(2);
});

test("a member of one window is an outsider to another that is open with it", () => {
  const host = hostWith(4, window({}, [0, 60]), window({ name: "b", gpus: 1, members: [of("batch")] }, [0, 60]));
  expect(host.gpusOf(host.submit({ serviceName: "batch", requiredGpus: 3 }))).toBeNull();
  expect(host.gpusOf(host.submit({ serviceName: "batch", requiredGpus: 2 }))).toHaveLength(2);
  expect(host.gpusOf(host.submit({ serviceName: "own", requiredGpus: 2 }))).toHaveLength(2);
});

test("a GPU that a member holds counts for one window only", () => {
  const both = [of("both")];
  const host = hostWith(4, window({ gpus: 1, members: both }, [0, 60]), window({ name: "b", members: both }, [0, 60]));
  host.submit({ serviceName: "both", requiredGpus: 2 });
  // Two of three are held by a member: one of the two that are left is kept.
  expect(host.gpusOf(host.submit())).toHaveLength(1);
  expect(host.gpusOf(host.submit())).toBeNull();
});

test("of all ways to count what members hold for windows, the best is found", () => {
  const holder = (count: number, memberOf: number) => ({ count, memberOf, emptyFrom: Infinity });
  expect(covered([1, 1], [holder(1, 0b11), holder(1, 0b01)])).toBe(2);
  expect(covered([2, 1, 1], [holder(2, 0b111), holder(2, 0b001)])).toBe(4);
  expect(covered([3], [holder(2, 0b1), holder(5, 0b10)])).toBe(2);
});

test("named GPUs are kept from outsiders, others are not, and a number does not mean them", () => {
  const host = hostWith(
    4,
    window({ gpus: ["GPU-1", "3"] }, [0, 60]),
    window({ name: "b", gpus: 1, members: [of("batch")] }, [0, 60]),
  );
  expect(host.gpusOf(host.submit())).toEqual(["GPU-0"]);
  const waiting = host.submit();
  expect(host.whyQueued(waiting)).toEqual({ "GPU-0": "held", "GPU-1": "window", "GPU-2": "window", "GPU-3": "window" });
  expect(host.gpusOf(host.submit({ serviceName: "own", requiredGpus: 2 }))).toEqual(["GPU-1", "GPU-3"]);
  expect(host.gpusOf(host.submit({ serviceName: "batch" }))).toEqual(["GPU-2"]);
});

test("a GPU that two windows name is for the members of either", () => {
  const named = { gpus: ["GPU-0"] };
  const host = hostWith(1, window(named, [0, 60]), window({ ...named, name: "b", members: [of("batch")] }, [0, 60]));
  expect(host.gpusOf(host.submit())).toBeNull();
  expect(host.gpusOf(host.submit({ serviceName: "batch" }))).toEqual(["GPU-0"]);
});

test("members are told by service, by principal and by type, and must be in each list that is not empty", () => {
  const members = [{ services: ["own"], principals: ["ann"], workloadTypes: [] } as const, of("other")];
  const host = hostWith(2, window({ members }, [0, 60]));
  const ann = { principal: "ann", admin: false };
  expect(host.gpusOf(host.submit({ serviceName: "own" }))).toBeNull();
  expect(host.gpusOf(host.submit({ serviceName: "svc", actor: ann }))).toBeNull();
  expect(host.gpusOf(host.submit({ serviceName: "own", actor: ann }))).toHaveLength(1);
  expect(host.gpusOf(host.submit({ serviceName: "other" }))).toHaveLength(1);
});

test("GPUs that nobody could be granted are not there for a window either", () => {
  const host = hostWith(3, window({ gpus: 1 }, [60, 120]));
  host.do({ type: "cordon", gpu: "GPU-0", reason: "fan", actor: { principal: "root", admin: true } });
  expect(host.gpusOf(host.submit())).toHaveLength(1);
  expect(host.gpusOf(host.submit())).toBeNull();
});

test("where few GPUs are left, a request that only the largest can serve gets those", () => {
  const host = new SimulatedHost([t4("GPU-small"), h100("GPU-large")], {
    ...EXACT,
    windows: [window({ gpus: 1 }, [0, 60])],
  });
  expect(host.gpusOf(host.submit({ minMemoryMib: 40_000 }))).toEqual(["GPU-large"]);
});

test("the reason says which window, from when, and what would fit now", () => {
  const host = hostWith(2, window({}, [47.5, 120]));
  const id = host.submit({ requiredGpus: 2, minMemoryMib: 1 });
  expect(why(host, id)).toBe(
    "waiting for 2 GPUs with 1 MiB: 0 of 2 can be had now (2 reserved window); window office takes 2 GPUs in 47m; " +
      "with a max_duration of at most 47m it would fit now",
  );
  host.advance(minutes(60));
  expect(why(host, id)).toBe(
    "waiting for 2 GPUs with 1 MiB: 0 of 2 can be had now (2 reserved window); window office keeps 2 GPUs for 1h more",
  );
});

test("what a hint says fits is granted, and it is said where nothing but a max_duration helps", () => {
  const host = hostWith(2, window({}, [60, 120]));
  host.submit({ maxDurationMs: minutes(10), requiredGpus: 2 });
  const id = host.submit({ requiredGpus: 1 });
  expect(why(host, id)).toMatch(/window office takes 2 GPUs in 1h, and without a max_duration it cannot start$/);
});

test("a window is named too where fewer GPUs are free than are asked for", () => {
  const host = hostWith(3, window({}, [0, 60]));
  host.submit({ serviceName: "svc" });
  expect(why(host, host.submit({ requiredGpus: 3, minMemoryMib: 1 }))).toBe(
    "waiting for 3 GPUs with 1 MiB: 0 of 3 can be had now (1 leased, 2 reserved window); window office keeps 2 GPUs for 1h more",
  );
});

test("one whom only a window keeps waiting holds nothing, and others pass by", () => {
  const host = hostWith(4, window({}, [0, hours(9) / minutes(1)]));
  host.submit({ maxDurationMs: minutes(30) });
  const wide = host.submit({ requiredGpus: 4, maxDurationMs: hours(1) });
  host.advance(minutes(5));
  expect(host.allocation(wide).status).toBe("queued");
  expect(host.gpusOf(host.submit())).toHaveLength(1);
});

test("a head that waits for leases leaves a window's GPUs to its members, and its own are not taken by others", () => {
  const host = hostWith(6, window({}, [0, 600]));
  const running = [host.submit({ requiredGpus: 3, maxDurationMs: hours(9) })];
  const head = host.submit({ requiredGpus: 4 });
  host.advance(minutes(5));
  // Three are free: one that the head may have, and two for the window.
  expect(host.allocation(host.submit()).status).toBe("queued");
  expect(host.gpusOf(host.submit({ serviceName: "own", requiredGpus: 2 }))).toHaveLength(2);
  expect(host.allocation(host.submit({ serviceName: "own" })).status).toBe("queued");
  for (const id of running) host.release(id);
  expect(host.gpusOf(head)).toHaveLength(4);
});

test("a shared GPU that is held for a head counts once, and what is held for it is a reason for those behind", () => {
  const shown = [t4("GPU-0"), ...gpus(3).map((gpu, i) => ({ ...gpu, uuid: `GPU-${i + 1}` }))];
  const host = new SimulatedHost(shown, { ...EXACT, reserveAfterMs: 0 });
  host.submit({ sharing: "shared", gpuModel: "T4", minMemoryMib: 1_000, maxDurationMs: minutes(60) });
  host.reconfigure({ windows: [window({}, [0, 30])] });
  // The head: its only GPU has a lease that shares it.
  expect(host.gpusOf(host.submit({ gpuModel: "T4" }))).toBeNull();
  // Two of four are the window's, and one is leased.
  expect(host.gpusOf(host.submit())).toHaveLength(1);
  const last = host.submit();
  expect(host.whyQueued(last)).toEqual({ "GPU-0": "held", "GPU-1": "held", "GPU-2": "window", "GPU-3": "window" });
});

test("who finds fewer GPUs outside of a window since some are held for a head is told so", () => {
  const host = new SimulatedHost(gpus(5), { ...EXACT, reserveAfterMs: 0, windows: [window({}, [0, 30])] });
  host.submit({ preferredGpus: ["GPU-0"], maxDurationMs: minutes(5) });
  host.submit({ preferredGpus: ["GPU-1"], maxDurationMs: minutes(5) });
  host.submit({ requiredGpus: 3 });
  const behind = host.submit();
  expect(Object.values(host.whyQueued(behind))).not.toContain(null);
});
