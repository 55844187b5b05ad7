import { describe, expect, test } from "vitest";
import type { AdoptionAsk } from "../../../../src/core/decisions/commands.ts";
import { emptyHost } from "../../../../src/core/host/changes.ts";
import type { Event } from "../../../../src/core/host/events.ts";
import { evolve } from "../../../../src/core/host/evolve.ts";
import { instance } from "../../../fixtures/mig.ts";
import { ADMIN, h100, process, refusal, SimulatedHost, seconds } from "../../../simulation/simulated-host.ts";

const USED = { memoryUsedMib: 9_000, processes: [process(77, { usedMemoryMib: 9_000 })] };
const IDLE = { memoryUsedMib: 4, utilizationPercent: 0, processes: [] };

const hostOf = (policy: ConstructorParameters<typeof SimulatedHost>[1]) =>
  new SimulatedHost([h100("GPU-a"), h100("GPU-b", { index: 1 })], policy);

/** Takes readings until so many have been taken, and says what they brought. */
function readings(host: SimulatedHost, n: number): Event[] {
  const events: Event[] = [];
  for (let i = 0; i < n; i++) {
    host.now += seconds(5);
    events.push(...host.observe());
  }
  return events;
}

const foreignOnly = (events: readonly Event[]) => events.filter(({ type }) => type.startsWith("gpu-foreign-use"));

const ADOPTION: AdoptionAsk = {
  serviceName: "notebook",
  principal: "ann",
  reason: "she was here first",
  pid: null,
  ttlMs: null,
  maxDurationMs: null,
};

const ID = `notebook-${"7".repeat(26)}`;
const adopt = (host: SimulatedHost, over: Partial<AdoptionAsk> = {}, gpu = "GPU-a") =>
  host.do({ type: "adopt", id: ID, gpu, adoption: { ...ADOPTION, ...over }, actor: ADMIN });

describe("foreign use is told", () => {
  test("by default nobody hears of it, and its GPU is not granted", () => {
    const host = hostOf({});
    host.gpu("GPU-a", USED);
    expect(foreignOnly(readings(host, 10))).toEqual([]);
    expect(host.whyQueued(host.submit({ requiredGpus: 2 }))["GPU-a"]).toBe("occupied");
  });

  test("once per episode, when it has been seen in as many readings as it must be", () => {
    const host = hostOf({ foreignUse: "notify", foreignUseReadings: 3 });
    host.gpu("GPU-a", USED);
    expect(foreignOnly(readings(host, 2))).toEqual([]);
    const since = host.now - seconds(5);
    expect(foreignOnly(readings(host, 1))).toEqual([
      {
        type: "gpu-foreign-use",
        uuid: "GPU-a",
        at: host.now,
        since,
        reason: expect.stringContaining("77"),
        pids: [77],
      },
    ]);
    expect(host.state.gpus.get("GPU-a")?.foreignSince).toBe(since);
    // Another process takes over: still somebody else.
    host.gpu("GPU-a", { ...USED, processes: [process(78, { usedMemoryMib: 9_000 })] });
    expect(foreignOnly(readings(host, 5))).toEqual([]);
    host.gpu("GPU-a", IDLE);
    expect(foreignOnly(readings(host, 3))).toEqual([
      { type: "gpu-foreign-use-over", uuid: "GPU-a", at: host.now - seconds(10), reason: expect.any(String) },
    ]);
    host.gpu("GPU-a", USED);
    expect(foreignOnly(readings(host, 3)).map(({ type }) => type)).toEqual(["gpu-foreign-use"]);
  });

  test("memory in use by nobody that is seen is somebody's too", () => {
    const host = hostOf({ foreignUse: "notify", foreignUseReadings: 1 });
    host.gpu("GPU-a", { memoryUsedMib: 9_000 });
    expect(foreignOnly(readings(host, 1))).toMatchObject([
      { pids: [], reason: /9000 MiB in use by no visible process/ },
    ]);
  });

  test("a use that is shorter than that is not told, nor one that begins anew each time", () => {
    const host = hostOf({ foreignUse: "notify", foreignUseReadings: 2 });
    for (let i = 0; i < 5; i++) {
      host.gpu("GPU-a", USED);
      expect(foreignOnly(readings(host, 1))).toEqual([]);
      host.gpu("GPU-a", IDLE);
      expect(foreignOnly(readings(host, 1))).toEqual([]);
    }
  });

  test("on a leased GPU everybody is the lease's own", () => {
    const host = hostOf({ foreignUse: "notify", foreignUseReadings: 1 });
    host.submit({ preferredGpus: ["GPU-a"] });
    host.gpu("GPU-a", USED);
    expect(foreignOnly(readings(host, 5))).toEqual([]);
  });

  test("whatever keeps a GPU from being read ends no episode", () => {
    const host = hostOf({ foreignUse: "notify", foreignUseReadings: 1 });
    host.gpu("GPU-a", USED);
    readings(host, 1);
    host.failProbe("driver");
    host.gpu("GPU-a", { memoryUsedMib: null, processes: [] });
    expect(foreignOnly(readings(host, 3))).toEqual([]);
    host.gpu("GPU-a", USED);
    expect(foreignOnly(readings(host, 3))).toEqual([]);
    expect(host.state.gpus.get("GPU-a")?.foreignSince).not.toBeNull();
  });

  test("settings that no longer ask for it end what was told", () => {
    const host = hostOf({ foreignUse: "notify", foreignUseReadings: 1 });
    host.gpu("GPU-a", USED);
    readings(host, 1);
    host.do({ type: "reconfigure", policy: { ...host.state.policy, foreignUse: "exclude" } });
    expect(foreignOnly(readings(host, 2)).map(({ type }) => type)).toEqual(["gpu-foreign-use-over"]);
  });
});

describe("an admin makes a lease of it", () => {
  function used(over: Parameters<SimulatedHost["gpu"]>[1] = USED): SimulatedHost {
    const host = hostOf({ foreignUse: "adopt", foreignUseReadings: 1 });
    host.gpu("GPU-a", over);
    readings(host, 1);
    return host;
  }

  test("the lease is the named principal's, has the process and what it takes, and says who made it", () => {
    const host = used();
    const events = adopt(host, { ttlMs: seconds(90) });
    expect(events.map(({ type }) => type)).toEqual(["submitted", "granted", "use-seen", "gpu-foreign-use-over"]);
    const allocation = host.allocation(ID);
    expect(allocation).toMatchObject({
      status: "leased",
      request: {
        serviceName: "notebook",
        principal: "ann",
        workloadData: { pid: 77 },
        requirement: { gpus: 1, memoryMib: 9_000 },
        adoption: { by: ADMIN.principal, reason: "she was here first" },
      },
      lease: { gpus: [{ uuid: "GPU-a", baselineMib: 0 }], expiresAt: host.now + seconds(90) },
    });
    expect(host.state.gpus.get("GPU-a")?.foreignSince).toBeNull();
    expect(host.log.reduce(evolve, emptyHost(host.state.policy)).allocations.get(ID)).toEqual(allocation);
  });

  test("its GPU is held until it ends, and is seen empty before anybody else gets it, however soon that is", () => {
    const host = used();
    const waiting = host.submit({ requiredGpus: 2 });
    adopt(host);
    expect(host.whyQueued(waiting)["GPU-a"]).toBe("held");
    host.release(ID, { principal: "ann", admin: false });
    expect(host.whyQueued(waiting)["GPU-a"]).toBe("reclaiming");
    readings(host, 1);
    expect(host.whyQueued(waiting)["GPU-a"]).toBe("reclaiming");
    host.gpu("GPU-a", IDLE);
    readings(host, 1);
    expect(host.gpusOf(waiting)).toEqual(["GPU-a", "GPU-b"]);
  });

  test("its token follows the last one and precedes the next", () => {
    const host = used();
    const before = host.lease(host.submit({ preferredGpus: ["GPU-b"] }))?.fencingToken ?? 0;
    adopt(host);
    expect(host.lease(ID)?.fencingToken).toBe(before + 1);
  });

  test("of several processes one can be named; otherwise the lease is of all of them, and known by none", () => {
    const several = { memoryUsedMib: 9_000, processes: [process(77), process(78)] };
    const named = used(several);
    adopt(named, { pid: 78 });
    expect(named.allocation(ID).request.workloadData).toEqual({ pid: 78 });
    const all = used(several);
    adopt(all);
    expect(all.allocation(ID).request.workloadData).toEqual({});
  });

  test("memory in use by nobody that is seen can be adopted", () => {
    const host = used({ memoryUsedMib: 9_000 });
    adopt(host);
    expect(host.allocation(ID)).toMatchObject({ status: "leased", request: { workloadData: {} } });
  });

  test("it is the admin's own where no principal is named", () => {
    const host = used();
    adopt(host, { principal: null });
    expect(host.allocation(ID).request.principal).toBe(ADMIN.principal);
  });

  test.each([
    ["a GPU that nobody uses", "nothing-to-adopt", (host: SimulatedHost) => adopt(host, {}, "GPU-b")],
    ["a process that is not there", "nothing-to-adopt", (host: SimulatedHost) => adopt(host, { pid: 4 })],
    ["a GPU that is not there", "gpu-not-found", (host: SimulatedHost) => adopt(host, {}, "GPU-x")],
    [
      "a GPU that is leased",
      "gpu-in-use",
      (host: SimulatedHost) => {
        host.submit({ preferredGpus: ["GPU-b"] });
        adopt(host, {}, "GPU-b");
      },
    ],
    [
      "a GPU of which an instance is leased, as nothing more is read of it",
      "gpu-in-use",
      (host: SimulatedHost) => {
        host.gpu("GPU-b", { migMode: "Enabled", migInstances: [instance(0, 2)] });
        host.observe();
        host.submit({ migProfile: "1g.10gb" });
        host.gpu("GPU-b", { ...IDLE, memoryUsedMib: 5_000, errorValues: { x: "GPU is lost" } });
        readings(host, 1);
        adopt(host, {}, "GPU-b");
      },
    ],
    [
      "a GPU whose reading is old",
      "gpus-unavailable",
      (host: SimulatedHost) => {
        host.now += host.state.policy.staleAfterMs + 1;
        adopt(host);
      },
    ],
    [
      "a GPU that is busy for nobody",
      "nothing-to-adopt",
      (host: SimulatedHost) => {
        host.gpu("GPU-a", { ...IDLE, utilizationPercent: 100 });
        readings(host, 1);
        adopt(host);
      },
    ],
    [
      "anything, where the settings do not allow it",
      "adoption-disabled",
      (host: SimulatedHost) => {
        host.do({ type: "reconfigure", policy: { ...host.state.policy, foreignUse: "notify" } });
        adopt(host);
      },
    ],
  ])("%s is refused", (_what, code, act) => {
    const host = used();
    expect(refusal(() => act(host))).toBe(code);
    expect(host.state.allocations.get(ID)).toBeUndefined();
  });

  test("a process of another lease is that lease's, and cannot be adopted", () => {
    const host = hostOf({ foreignUse: "adopt" });
    host.submit({ preferredGpus: ["GPU-b"], workloadData: { pid: 77 } });
    const origin = { user: null, startedAt: 0, ancestors: [], cgroup: null };
    host.gpu("GPU-a", { ...USED, processes: [process(77, { usedMemoryMib: 9_000, origin })] });
    readings(host, 1);
    expect(refusal(() => adopt(host))).toBe("nothing-to-adopt");
  });
});

describe("a GPU that is cut into instances", () => {
  test("what runs in its instances is no use of the whole: nobody is told, and it cannot be adopted", () => {
    const host = hostOf({ foreignUse: "adopt", foreignUseReadings: 1 });
    host.gpu("GPU-a", { ...USED, migMode: "Enabled" });
    expect(foreignOnly(readings(host, 3))).toEqual([]);
    expect(refusal(() => adopt(host))).toBe("nothing-to-adopt");
  });
});

describe("where processes of others cannot be seen", () => {
  /** Why a request for both GPUs waits for the first; `null`: it does not wait. */
  function hidden(over: Parameters<SimulatedHost["gpu"]>[1], processesHidden = true): string | null {
    const host = hostOf({});
    host.gpu("GPU-a", over);
    host.processesHidden = processesHidden;
    readings(host, 1);
    const id = host.submit({ requiredGpus: 2, maxUtilizationPercent: 100 });
    return host.gpusOf(id) === null ? (host.whyQueued(id)["GPU-a"] ?? null) : null;
  }

  test("a GPU that works is somebody's", () => {
    expect(hidden({ utilizationPercent: 30 })).toBe("occupied");
    expect(hidden({ utilizationPercent: 5 })).toBeNull();
    // Excluded by the request's own limit, not as occupied.
    expect(hidden({ utilizationPercent: null })).toBe("utilization");
  });

  test("where they can be seen, work without a process is what the last second was", () => {
    expect(hidden({ utilizationPercent: 30 }, false)).toBeNull();
  });
});

describe("a GPU that is busy for nobody", () => {
  const GHOST = { utilizationPercent: 100, memoryUsedMib: 4, processes: [] };
  const ask = { requiredGpus: 2, maxUtilizationPercent: 100 };
  const stateOf = (host: SimulatedHost) => host.state.gpus.get("GPU-a")?.hold.kind;

  test("is granted to nobody from the first reading on, and quarantined after three", () => {
    const host = hostOf({});
    host.gpu("GPU-a", GHOST);
    readings(host, 1);
    expect(host.whyQueued(host.submit(ask))["GPU-a"]).toBe("occupied");
    readings(host, 1);
    expect(stateOf(host)).toBe("free");
    expect(readings(host, 1).map(({ type }) => type)).toContain("gpu-quarantined");
    expect(stateOf(host)).toBe("quarantined");
  });

  test("stays so as long as it is, and is free with the first reading that shows it is not", () => {
    const host = hostOf({});
    host.gpu("GPU-a", GHOST);
    readings(host, 20);
    expect(stateOf(host)).toBe("quarantined");
    host.gpu("GPU-a", IDLE);
    readings(host, 1);
    expect(stateOf(host)).toBe("free");
  });

  test.each([
    ["99 % are not", { ...GHOST, utilizationPercent: 99 }],
    ["with a process it is not", { ...GHOST, processes: [process(7, { type: "G" })] }],
    [
      "with persistence mode off it is not: the driver's own work shows there",
      { ...GHOST, persistenceMode: "Disabled" },
    ],
  ])("%s", (_what, over) => {
    const host = hostOf({});
    host.gpu("GPU-a", over);
    readings(host, 5);
    expect(host.lease(host.submit(ask))?.gpus).toHaveLength(2);
  });

  test("after a lease it is given back once it rests, or quarantined in time", () => {
    const host = hostOf({ reclaimTimeoutMs: seconds(20) });
    const lease = host.submit({ preferredGpus: ["GPU-a"] });
    host.gpu("GPU-a", USED);
    readings(host, 1);
    host.gpu("GPU-a", GHOST);
    host.release(lease);
    readings(host, 2);
    expect(stateOf(host)).toBe("reclaiming");
    host.advance(seconds(20));
    expect(stateOf(host)).toBe("quarantined");
  });
});
