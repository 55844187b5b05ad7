/** Indices are the driver's, now: whatever comes, goes and moves under leases, no two GPUs have one. */

import { expect, test } from "vitest";
import { gpuNamed } from "../../../src/core/decisions/admin.ts";
import { indexNow } from "../../../src/core/host/indices.ts";
import { allocationBody } from "../../../src/wire/allocations/bodies.ts";
import fc from "../../fc.ts";
import { seen } from "../../fixtures/readings.ts";
import { h100, SimulatedHost } from "../../simulation/simulated-host.ts";

const NAMES = ["GPU-a", "GPU-b", "GPU-c", "GPU-d"];

/** The driver shows these GPUs, in this order. */
function show(host: SimulatedHost, order: readonly string[]): void {
  const devices = order.map((uuid, index) => ({ reading: h100(uuid, { index, pciBusId: null }), present: true }));
  host.devices.splice(0, host.devices.length, ...devices);
  host.advance(1_000);
  host.observe();
}

const gpuIds = (host: SimulatedHost, id: string) => allocationBody(host.allocation(id), indexNow(host.state)).gpu_ids;

test("a GPU that is drained leaves its index to the next; the lease on it has none then, and gets it back", () => {
  const host = new SimulatedHost([h100("GPU-a"), h100("GPU-b"), h100("GPU-c")]);
  const [first, second] = [host.submit({ preferredGpus: ["GPU-a"] }), host.submit({ preferredGpus: ["GPU-b"] })];
  show(host, ["GPU-b", "GPU-c"]);
  expect([gpuIds(host, first), gpuIds(host, second)]).toEqual([[], [0]]);
  expect(allocationBody(host.allocation(first), indexNow(host.state))).toMatchObject({
    gpu_uuids: ["GPU-a"],
    lost_gpus: ["GPU-a"],
    env: { CUDA_VISIBLE_DEVICES: "GPU-a", GPU_ORCHESTRATOR_GPU_INDICES: "" },
  });
  expect(allocationBody(host.allocation(second), indexNow(host.state))).not.toHaveProperty("lost_gpus");
  expect(gpuNamed(host.state, "0").uuid).toBe("GPU-b");
  show(host, ["GPU-a", "GPU-b", "GPU-c"]);
  expect([gpuIds(host, first), gpuIds(host, second)]).toEqual([[0], [1]]);
});

test("an index names the GPU that the driver counts so, not one that could not be read and had it before", () => {
  const host = new SimulatedHost([h100("GPU-a"), h100("GPU-b")]);
  const [, moved] = host.devices;
  const reading = h100("GPU-b", { ...moved?.reading, index: 0 });
  host.do({ type: "observe", observation: seen([reading], host.now, { unread: ["GPU-a"] }) });
  expect(indexNow(host.state)("GPU-b")).toBe(0);
  expect(gpuNamed(host.state, "0").uuid).toBe("GPU-b");
  expect(() => gpuNamed(host.state, "null")).toThrow();
});

test("before the first reading an index is shown only where the books know it of one GPU alone", () => {
  const host = new SimulatedHost([h100("GPU-a"), h100("GPU-b")]);
  show(host, ["GPU-b"]);
  const sight = { ...host.state.sight, lastGoodProbeAt: null };
  expect(NAMES.slice(0, 2).map(indexNow({ ...host.state, sight }))).toEqual([null, null]);
});

test("whatever the driver shows, no two GPUs and no two live leases have one index, and each is what it counts", () => {
  const orders = fc.array(fc.shuffledSubarray(NAMES, { minLength: 1 }), { minLength: 1, maxLength: 6 });
  fc.assert(
    fc.property(orders, (shown) => {
      const host = new SimulatedHost(NAMES.map((name) => h100(name)));
      const leases = NAMES.map((name) => host.submit({ preferredGpus: [name] }));
      for (const order of shown) {
        show(host, order);
        const indexOf = indexNow(host.state);
        expect(NAMES.map(indexOf)).toEqual(NAMES.map((name) => (order.includes(name) ? order.indexOf(name) : null)));
        const ids = leases.flatMap((id) => gpuIds(host, id));
        expect(new Set(ids).size).toBe(ids.length);
        expect(ids.length).toBe(order.length);
      }
    }),
    { numRuns: 200 },
  );
});
