import { expect, test } from "vitest";
import type { HostReading } from "../../../src/core/model/reading.ts";
import { KnownTopology } from "../../../src/monitor/nvidia-smi/known-topology.ts";
import { parseTopology, type SmiTopology } from "../../../src/monitor/nvidia-smi/topology.ts";
import { smiTopology } from "../../fixtures/nvidia-smi-topology.ts";
import { gpuReading, hostReading } from "../../fixtures/readings.ts";

const seconds = (n: number) => n * 1_000;
const minutes = (n: number) => seconds(60 * n);

/** Three GPUs, of which `a` and `b` are bridged; in the order in which they are named. */
function host(...names: string[]): HostReading {
  return hostReading(
    names.map((name, index) => gpuReading(index, { uuid: `GPU-${name}`, pciBusId: `00000000:0${name}:00.0` })),
  );
}

function answer(gpus: number): SmiTopology {
  const result = parseTopology(smiTopology({ gpus, link: (a, b) => (a === 0 && b === 1 ? "NV4" : "SYS") }));
  if (!result.ok) throw new Error(result.error.message);
  return result.topology;
}

function linkOf(reading: HostReading, a: string, b: string): string | null | undefined {
  const place = (name: string) => reading.topology?.gpus.findIndex(({ uuid }) => uuid === `GPU-${name}`) ?? -1;
  return reading.topology?.links[place(a)]?.[place(b)];
}

/** One that was asked at 0 about three GPUs. */
function known(): KnownTopology {
  const topology = new KnownTopology();
  expect(topology.isDue(host("a", "b", "c"), 0)).toBe(true);
  topology.learn(host("a", "b", "c"), answer(3), 0);
  expect(linkOf(topology.complete(host("a", "b", "c")), "a", "b")).toBe("NV4");
  return topology;
}

test("it is asked again after an hour, and a minute after other GPUs or another driver have come", () => {
  const topology = known();
  const same = host("a", "b", "c");
  expect(topology.isDue(same, minutes(60) - 1)).toBe(false);
  expect(topology.isDue(same, minutes(60))).toBe(true);
  for (const other of [host("a", "b"), host("a", "b", "d"), host("b", "a", "c"), { ...same, driverVersion: "1" }]) {
    expect(topology.isDue(other, minutes(1) - 1)).toBe(false);
    expect(topology.isDue(other, minutes(1))).toBe(true);
  }
});

test("GPUs that come and go at every reading do not have it asked at every reading", () => {
  const topology = new KnownTopology();
  let asked = 0;
  for (let at = 0; at < minutes(60); at += seconds(5)) {
    const reading = at % seconds(10) === 0 ? host("a", "b", "c") : host("a", "b");
    if (!topology.isDue(reading, at)) continue;
    asked++;
    topology.learn(reading, answer(reading.gpus.length), at);
  }
  expect(asked).toBeLessThanOrEqual(60);
});

test("a host that never answers is asked every ten minutes", () => {
  const topology = new KnownTopology();
  topology.learn(host("a"), "not supported", 0);
  expect(topology.wasAsked).toBe(true);
  expect(topology.isDue(host("a"), minutes(10) - 1)).toBe(false);
  expect(topology.isDue(host("a"), minutes(10))).toBe(true);
  expect(topology.complete(host("a"))).toMatchObject({
    topology: null,
    warnings: ["the GPUs' topology: not supported"],
  });
});

test("what is known outlives a failed answer, and holds for the GPUs that are still there, whatever their indices", () => {
  const topology = known();
  topology.learn(host("b", "a"), "GPU c is lost", minutes(1));
  const reading = topology.complete(host("b", "a"));
  expect(linkOf(reading, "a", "b")).toBe("NV4");
  expect(reading.warnings).toEqual(["the GPUs' topology: GPU c is lost"]);
  topology.learn(host("b", "a"), answer(2), minutes(11));
  expect(topology.complete(host("b", "a")).warnings).toEqual([]);
});

test("an answer between two readings with the GPUs in different order is taken for neither", () => {
  const topology = new KnownTopology();
  const before = host("a", "b", "c");
  topology.learn(before, answer(3), 0);
  // The reading that asked is not one that came after.
  expect(topology.complete(before).topology).not.toBeNull();
  const after = host("c", "a", "b");
  expect(topology.complete(after).topology).toBeNull();
  expect(topology.complete(before).topology).toBeNull();
  expect(topology.isDue(before, minutes(1))).toBe(true);
});

test("a change of order later on changes nothing: it goes by UUID", () => {
  expect(linkOf(known().complete(host("c", "b", "a")), "b", "a")).toBe("NV4");
});

test("once a GPU sits elsewhere nothing is known until the next answer", () => {
  const topology = known();
  const moved = host("a", "b", "c");
  const gpus = moved.gpus.map((gpu) => (gpu.uuid === "GPU-c" ? { ...gpu, pciBusId: "00000000:0F:00.0" } : gpu));
  expect(topology.complete({ ...moved, gpus }).topology).toBeNull();
  expect(topology.isDue({ ...moved, gpus }, minutes(1))).toBe(true);
});

test("an answer for another number of GPUs is not taken for any of them", () => {
  const topology = new KnownTopology();
  topology.learn(host("a", "b"), answer(3), 0);
  const reading = topology.complete(host("a", "b"));
  expect(reading.topology).toBeNull();
  expect(reading.warnings).toEqual([expect.stringMatching(/3 GPUs.* 2$/)]);
});
