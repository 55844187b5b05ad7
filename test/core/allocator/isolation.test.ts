/** GPUs that work alone, but not together with others. */

import { expect, test } from "vitest";
import { isolationOf } from "../../../src/core/host/condition.ts";
import type { Gpu } from "../../../src/core/model/gpu.ts";
import type { GpuHealth } from "../../../src/core/model/reading.ts";
import fc from "../../fc.ts";
import { h100, minutes, SimulatedHost, seconds } from "../../simulation/simulated-host.ts";

const { health } = h100("");
const CUT_OFF: Partial<GpuHealth>[] = [
  { fabricStatus: "Failure" },
  { fabricHealth: "Unhealthy" },
  { recoveryAction: "Drain P2P" },
];

function hostWith(over: Partial<GpuHealth>): SimulatedHost {
  return new SimulatedHost([h100("GPU-a", { health: { ...health, ...over } }), h100("GPU-b"), h100("GPU-c")]);
}

const isolation = (host: SimulatedHost) => isolationOf(host.state.gpus.get("GPU-a") as Gpu, host.state);

test.each(CUT_OFF)("one with %o serves requests of one GPU, and no others", (over) => {
  const host = hostWith(over);
  expect(host.gpusOf(host.submit({ requiredGpus: 2, preferredGpus: ["GPU-a"] }))).toEqual(["GPU-b", "GPU-c"]);
  const two = host.submit({ requiredGpus: 2 });
  expect(host.whyQueued(two)).toMatchObject({ "GPU-a": "isolated", "GPU-b": "held" });
  expect(host.gpusOf(host.submit())).toEqual(["GPU-a"]);
});

test("a fabric that is whole, or that the driver does not tell of, cuts nothing off", () => {
  for (const over of [{}, { fabricState: null, fabricStatus: null, fabricHealth: null }, { fabricHealth: "Healthy" }]) {
    const host = hostWith(over);
    expect(host.gpusOf(host.submit({ requiredGpus: 3 }))).toEqual(["GPU-a", "GPU-b", "GPU-c"]);
  }
});

test("nothing is held for a request of several that only an isolated GPU could complete", () => {
  const host = hostWith({ fabricStatus: "Failure" });
  host.do({ type: "reconfigure", policy: { ...host.state.policy, reserveAfterMs: 0 } });
  const three = host.submit({ requiredGpus: 3 });
  expect(host.gpusOf(host.submit({ requiredGpus: 2 }))).toEqual(["GPU-b", "GPU-c"]);
  expect(host.allocation(three).status).toBe("queued");
});

test("nor for one that an isolated GPU could complete once its lease has ended", () => {
  const host = hostWith({ fabricStatus: "Failure" });
  host.submit({ preferredGpus: ["GPU-a"], maxDurationMs: minutes(60) });
  host.do({ type: "reconfigure", policy: { ...host.state.policy, reserveAfterMs: 0 } });
  host.submit({ requiredGpus: 3 });
  expect(host.gpusOf(host.submit({ requiredGpus: 2 }))).toEqual(["GPU-b", "GPU-c"]);
});

test("for a request of several that waits, an isolated GPU is not kept idle", () => {
  const host = hostWith({ fabricStatus: "Failure" });
  const holder = host.submit({ preferredGpus: ["GPU-b"], maxDurationMs: minutes(60) });
  host.do({ type: "reconfigure", policy: { ...host.state.policy, reserveAfterMs: 0 } });
  const two = host.submit({ requiredGpus: 2 });
  const one = host.submit();
  expect(host.gpusOf(one)).toEqual(["GPU-a"]);
  expect(host.whyQueued(two)).toMatchObject({ "GPU-c": null });
  host.release(holder);
  expect(host.gpusOf(two)).toEqual(["GPU-b", "GPU-c"]);
});

test("it works together with others again after three good readings, and meanwhile alone", () => {
  const host = hostWith({ fabricStatus: "Failure" });
  const three = host.submit({ requiredGpus: 3 });
  host.gpu("GPU-a", { health });
  for (let reading = 0; reading < 2; reading++) {
    host.advance(seconds(5));
    expect(isolation(host)?.detail).toBe("the NVLink fabric says: Failure");
    expect(host.allocation(three).status).toBe("queued");
  }
  host.advance(seconds(5));
  expect(isolation(host)).toBeNull();
  expect(host.gpusOf(three)).toEqual(["GPU-a", "GPU-b", "GPU-c"]);
});

test("whatever is cut off, degraded or slowed, and whoever waits: no request of several gets an isolated GPU", () => {
  const NAMES = ["GPU-a", "GPU-b", "GPU-c", "GPU-d"];
  const mood = fc.constantFrom({}, {}, ...CUT_OFF, { slowdown: true }, { remappedRowsPending: true });
  const step = fc.oneof(
    fc.record({ kind: fc.constant("mood" as const), gpu: fc.nat(3), over: mood }),
    fc.record({ kind: fc.constant("submit" as const), gpus: fc.integer({ min: 1, max: 4 }) }),
    fc.record({ kind: fc.constant("release" as const), which: fc.nat(20) }),
    fc.record({ kind: fc.constant("advance" as const), ms: fc.integer({ min: 1, max: 90_000 }) }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60, size: "max" }), fc.boolean(), (steps, avoid) => {
      const host = new SimulatedHost(
        NAMES.map((name) => h100(name)),
        { degradedGpus: avoid ? "avoid" : "exclude" },
      );
      const ids: string[] = [];
      for (const one of steps) {
        const from = host.log.length;
        if (one.kind === "mood") host.gpu(NAMES[one.gpu] ?? "", { health: { ...health, ...one.over } });
        else if (one.kind === "submit") ids.push(host.submit({ requiredGpus: one.gpus }));
        else if (one.kind === "advance") host.advance(one.ms);
        else {
          const id = ids.splice(one.which % Math.max(1, ids.length), 1)[0];
          if (id !== undefined && host.state.allocations.get(id) !== undefined) host.release(id);
        }
        // Within one step of time a GPU's mood does not change: what is seen now was seen at the grant.
        for (const event of host.log.slice(from)) {
          if (event.type !== "granted" || event.lease.gpus.length === 1 || one.kind === "mood") continue;
          for (const { uuid } of event.lease.gpus) {
            if (event.lease.grantedAt !== host.now) continue;
            expect(isolationOf(host.state.gpus.get(uuid) as Gpu, host.state), uuid).toBeNull();
          }
        }
      }
    }),
    { numRuns: 200 },
  );
});
