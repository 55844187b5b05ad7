/** Which GPUs a request is given where it is known how they are connected. */

import { describe, expect, test } from "vitest";
import { place, placeByBucket } from "../../../src/core/allocator/place.ts";
import { shapeOf } from "../../../src/core/host/demand.ts";
import { type Candidate, FreeGpus } from "../../../src/core/host/free-gpus.ts";
import type { Request } from "../../../src/core/model/allocation.ts";
import type { GpuLink, Topology } from "../../../src/core/model/device.ts";
import type { GpuReading } from "../../../src/core/model/reading.ts";
import { type Closeness, closenessOf, MAX_CLOSE_GPUS } from "../../../src/core/readings/closeness.ts";
import fc from "../../fc.ts";
import { hasTopologies, topologyOf } from "../../monitor/nvidia-smi/topologies.ts";
import { h100, SimulatedHost, seconds, t4 } from "../../simulation/simulated-host.ts";
import { request } from "../../store/turns.ts";

const uuidOf = (index: number) => `GPU-${String(index).padStart(2, "0")}`;
const indexOf = (uuid: string) => Number(uuid.slice("GPU-".length));

/** GPUs by index; `link` is asked once per pair, the lower index first. */
function topology(
  count: number,
  link: (a: number, b: number) => GpuLink,
  numaOf: (gpu: number) => readonly number[] = () => [0],
  cpusOf: (gpu: number) => string | null = () => null,
): Topology {
  const all = Array.from({ length: count }, (_, gpu) => gpu);
  return {
    gpus: all.map((gpu) => ({ uuid: uuidOf(gpu), numaNodes: numaOf(gpu), cpuAffinity: cpusOf(gpu) })),
    links: all.map((a) => all.map((b) => (a === b ? null : link(Math.min(a, b), Math.max(a, b))))),
  };
}

/** A host of H100s, or of other GPUs, so connected; those `taken` are leased. */
function hostOf(wiring: Topology, taken: readonly number[] = [], gpus?: readonly GpuReading[]): SimulatedHost {
  const host = new SimulatedHost(gpus ?? wiring.gpus.map(({ uuid }) => h100(uuid)));
  host.topology = wiring;
  host.observe();
  for (const gpu of taken) host.submit({ serviceName: "before", preferredGpus: [uuidOf(gpu)] });
  return host;
}

function picked(host: SimulatedHost, ask: Parameters<SimulatedHost["submit"]>[0]): readonly number[] | null {
  return host.gpusOf(host.submit(ask))?.map(indexOf) ?? null;
}

/** Which GPUs a request for so many gets when those in `taken` are leased. */
const pick = (wiring: Topology, count: number, taken: readonly number[] = []) =>
  picked(hostOf(wiring, taken), { requiredGpus: count });

const ALL = [0, 1, 2, 3, 4, 5, 6, 7];

interface Case {
  readonly fixture: string;
  readonly taken?: readonly number[];
  readonly ask: number;
  readonly gets: readonly number[];
  /** What speaks for it. GPUs of which nothing else tells one from the other go by UUID, here the index. */
  readonly because: string;
}

const CASES: readonly Case[] = [
  // Eight H100s behind NVSwitches: any two have 18 NVLinks; GPUs 0 to 3 are beside one socket, 4 to 7 beside the other.
  { fixture: "8xh100-nv18-no-nic", ask: 1, gets: [0], because: "all are alike" },
  { fixture: "8xh100-nv18-no-nic", ask: 2, gets: [0, 1], because: "of equal links those of one socket come first" },
  { fixture: "8xh100-nv18-no-nic", ask: 4, gets: [0, 1, 2, 3], because: "four fill a socket" },
  { fixture: "8xh100-nv18-no-nic", ask: 8, gets: ALL, because: "eight are all there are" },
  { fixture: "8xh100-nv18-no-nic", taken: [0], ask: 1, gets: [1], because: "that socket is broken already" },
  { fixture: "8xh100-nv18-no-nic", taken: [5], ask: 1, gets: [4], because: "that socket is broken already" },
  { fixture: "8xh100-nv18-no-nic", taken: [0], ask: 2, gets: [1, 2], because: "the other four can still be had whole" },
  {
    fixture: "8xh100-nv18-no-nic",
    taken: [0],
    ask: 4,
    gets: [4, 5, 6, 7],
    because: "only there four are of one socket",
  },
  {
    fixture: "8xh100-nv18-no-nic",
    taken: [0, 1],
    ask: 3,
    gets: [4, 5, 6],
    because: "only there three are of one socket",
  },
  {
    fixture: "8xh100-nv18-no-nic",
    taken: [0, 1],
    ask: 6,
    gets: [2, 3, 4, 5, 6, 7],
    because: "those are all that are left",
  },
  {
    fixture: "8xh100-nv18-no-nic",
    taken: [0, 4],
    ask: 4,
    gets: [1, 2, 3, 5],
    because: "3 and 1 cross sockets in three pairs, 2 and 2 in four",
  },
  {
    fixture: "8xh100-nv18-reformatted",
    ask: 4,
    gets: [0, 1, 2, 3],
    because: "a copy with other blanks is the same host",
  },
  {
    fixture: "8xh100-nv18-reformatted",
    taken: [3],
    ask: 4,
    gets: [4, 5, 6, 7],
    because: "a copy with other blanks is the same host",
  },

  // Eight A100s behind NVSwitches; one virtual socket, then two.
  { fixture: "8xa100-nv12-17nic", ask: 1, gets: [0], because: "all are alike, and beside the same CPUs" },
  { fixture: "8xa100-nv12-17nic", ask: 2, gets: [0, 1], because: "all are alike, and beside the same CPUs" },
  {
    fixture: "8xa100-nv12-17nic",
    taken: [0],
    ask: 4,
    gets: [1, 2, 3, 4],
    because: "all are alike, and beside the same CPUs",
  },
  { fixture: "8xa100-nv12-17nic", ask: 8, gets: ALL, because: "eight are all there are" },
  { fixture: "8xa100-nv12-reformatted", taken: [2], ask: 1, gets: [0], because: "that socket is broken already" },
  {
    fixture: "8xa100-nv12-reformatted",
    taken: [2],
    ask: 4,
    gets: [4, 5, 6, 7],
    because: "only there four are of one socket",
  },

  // Eight PCIe A100s, bridged two and two; two NUMA nodes.
  { fixture: "8xa100-pcie-nv12-pairs-cut-affinity", ask: 1, gets: [0], because: "all are alike" },
  { fixture: "8xa100-pcie-nv12-pairs-cut-affinity", ask: 2, gets: [0, 1], because: "they have a bridge" },
  {
    fixture: "8xa100-pcie-nv12-pairs-cut-affinity",
    ask: 4,
    gets: [0, 1, 2, 3],
    because: "they are two bridged pairs of one node",
  },
  { fixture: "8xa100-pcie-nv12-pairs-cut-affinity", ask: 8, gets: ALL, because: "eight are all there are" },
  {
    fixture: "8xa100-pcie-nv12-pairs-cut-affinity",
    taken: [6],
    ask: 1,
    gets: [7],
    because: "its bridge leads to nobody now",
  },
  {
    fixture: "8xa100-pcie-nv12-pairs-cut-affinity",
    taken: [6],
    ask: 2,
    gets: [4, 5],
    because: "a bridged pair, of the node that is broken already",
  },
  {
    fixture: "8xa100-pcie-nv12-pairs-cut-affinity",
    taken: [6],
    ask: 4,
    gets: [0, 1, 2, 3],
    because: "only there two bridged pairs are of one node",
  },
  {
    fixture: "8xa100-pcie-nv12-pairs-cut-affinity",
    taken: [0, 3],
    ask: 2,
    gets: [4, 5],
    because: "1 and 2 have no bridge, though their node is broken",
  },
  {
    fixture: "8xa100-pcie-nv12-pairs-cut-affinity",
    taken: [0, 2, 4, 6],
    ask: 2,
    gets: [1, 3],
    because: "no bridge is left, so one node",
  },

  // The DGX-1: each V100 has two NVLinks with two others, one with two more, and none with three of the other socket.
  { fixture: "dgx1-v100-nv1nv2-mlx", ask: 1, gets: [0], because: "all are alike" },
  {
    fixture: "dgx1-v100-nv1nv2-mlx",
    ask: 2,
    gets: [0, 3],
    because: "two NVLinks, of one socket; of those the pair that is least entangled",
  },
  { fixture: "dgx1-v100-nv1nv2-mlx", ask: 4, gets: [0, 1, 2, 3], because: "all four have NVLinks with each other" },
  { fixture: "dgx1-v100-nv1nv2-mlx", ask: 8, gets: ALL, because: "eight are all there are" },
  {
    fixture: "dgx1-v100-nv1nv2-mlx",
    taken: [0],
    ask: 1,
    gets: [3],
    because: "it has lost two NVLinks, and nobody has fewer left",
  },
  {
    fixture: "dgx1-v100-nv1nv2-mlx",
    taken: [0],
    ask: 2,
    gets: [2, 3],
    because: "two NVLinks, in the half that is broken already",
  },
  { fixture: "dgx1-v100-nv1nv2-mlx", taken: [0], ask: 4, gets: [4, 5, 6, 7], because: "the other half is whole" },
  {
    fixture: "dgx1-v100-nv1nv2-mlx",
    taken: [0, 3],
    ask: 2,
    gets: [1, 2],
    because: "two NVLinks, in the half that is broken already",
  },

  // Eight 4090s, far from each other as PCIe goes; two sockets.
  { fixture: "8x4090-pcie-sys-nic-tabs", ask: 1, gets: [0], because: "all are alike" },
  {
    fixture: "8x4090-pcie-sys-nic-tabs",
    ask: 2,
    gets: [0, 1],
    because: "where links are equal, those of one socket come first",
  },
  { fixture: "8x4090-pcie-sys-nic-tabs", ask: 4, gets: [0, 1, 2, 3], because: "four fill a socket" },
  { fixture: "8x4090-pcie-sys-nic-tabs", ask: 8, gets: ALL, because: "eight are all there are" },
  { fixture: "8x4090-pcie-sys-nic-tabs", taken: [7], ask: 1, gets: [4], because: "that socket is broken already" },
  {
    fixture: "8x4090-pcie-sys-nic-tabs",
    taken: [1],
    ask: 4,
    gets: [4, 5, 6, 7],
    because: "only there four are of one socket",
  },

  // Five on one node; 3 and 4 share a host bridge.
  { fixture: "5gpu-pcie-node-phb-tabs", ask: 1, gets: [0], because: "3 and 4 stay together" },
  { fixture: "5gpu-pcie-node-phb-tabs", ask: 2, gets: [3, 4], because: "they share a host bridge" },
  {
    fixture: "5gpu-pcie-node-phb-tabs",
    ask: 4,
    gets: [0, 1, 3, 4],
    because: "3 and 4 share a host bridge, the others are alike",
  },
  { fixture: "5gpu-pcie-node-phb-tabs", taken: [4], ask: 1, gets: [0], because: "3 is alone now, and like the others" },

  // Hosts where nothing tells one set from another.
  { fixture: "4gpu-2nic", ask: 1, gets: [0], because: "all are alike" },
  { fixture: "4gpu-2nic", ask: 2, gets: [0, 1], because: "all are alike" },
  { fixture: "4gpu-2nic", ask: 4, gets: [0, 1, 2, 3], because: "four are all there are" },
  { fixture: "4xh100-nv6-nic", ask: 1, gets: [0], because: "each is on a node of its own" },
  { fixture: "4xh100-nv6-nic", ask: 2, gets: [0, 1], because: "each is on a node of its own" },
  { fixture: "4xh100-nv6-nic", ask: 4, gets: [0, 1, 2, 3], because: "four are all there are" },
  ...["2gpu-nv2", "2x1080ti-phb", "2x3090-nv4"].flatMap((fixture) => [
    { fixture, ask: 1, gets: [0], because: "both are alike" },
    { fixture, ask: 2, gets: [0, 1], because: "two are all there are" },
  ]),
  { fixture: "single-h200-590-ansi", ask: 1, gets: [0], because: "it is the only one" },
  { fixture: "single-rtx2080s-610-ansi", ask: 1, gets: [0], because: "it is the only one" },
];

describe.skipIf(!hasTopologies)("on a real host", () => {
  test.each(CASES.map((one) => ({ ...one, of: (one.taken ?? []).length === 0 ? "idle" : `without ${one.taken}` })))(
    "$fixture, $of, a request for $ask gets $gets: $because",
    ({ fixture, taken = [], ask, gets }) => {
      const wiring = topologyOf(fixture, uuidOf);
      expect(pick(wiring, ask, taken)).toEqual(gets);
    },
  );

  test.each([...new Set(CASES.map(({ fixture }) => fixture))])("%s: every request that fits is served", (fixture) => {
    const wiring = topologyOf(fixture, uuidOf);
    for (let count = 1; count <= wiring.gpus.length; count++) expect(pick(wiring, count)).toHaveLength(count);
  });
});

/** Two and two bridged, four and four behind a switch, eight and eight on a NUMA node. */
const nested = (count: number) =>
  topology(
    count,
    (a, b) => {
      if (a >> 1 === b >> 1) return "NV4";
      if (a >> 2 === b >> 2) return "PIX";
      return a >> 3 === b >> 3 ? "NODE" : "SYS";
    },
    (gpu) => [gpu >> 3],
  );

describe("what counts before and after the connections", () => {
  test("preferred GPUs are taken however far apart they are, and the rest goes with them", () => {
    const host = () => hostOf(nested(8));
    expect(picked(host(), { requiredGpus: 2, preferredGpus: [uuidOf(3), uuidOf(4)] })).toEqual([3, 4]);
    expect(picked(host(), { requiredGpus: 2, preferredGpus: [uuidOf(6)] })).toEqual([6, 7]);
    expect(picked(host(), { requiredGpus: 4, preferredGpus: ["5"] })).toEqual([4, 5, 6, 7]);
    expect(picked(host(), { requiredGpus: 2, preferredGpus: ["1", "4", "0"] })).toEqual([1, 4]);
  });

  test("a strained GPU is left out even where it would be the better connected", () => {
    const wiring = nested(8);
    const gpus = wiring.gpus.map(({ uuid }, index) =>
      index === 1 ? h100(uuid, { health: { ...h100("").health, slowdown: true } }) : h100(uuid),
    );
    expect(picked(hostOf(wiring, [], gpus), { requiredGpus: 2 })).toEqual([2, 3]);
    expect(picked(hostOf(wiring, [], gpus), { requiredGpus: 4 })).toEqual([4, 5, 6, 7]);
    // All eight are needed, or it is wished for.
    expect(picked(hostOf(wiring, [], gpus), { requiredGpus: 8 })).toEqual(ALL);
    expect(picked(hostOf(wiring, [], gpus), { requiredGpus: 2, preferredGpus: ["1"] })).toEqual([0, 1]);
  });

  test("memory decides what one GPU is taken for, and for several only between sets that are connected alike", () => {
    // 0 and 1 are large and bridged, 2 and 3 small and not.
    const wiring = topology(4, (a, b) => (a === 0 && b === 1 ? "NV4" : "PHB"));
    const gpus = [h100(uuidOf(0)), h100(uuidOf(1)), t4(uuidOf(2)), t4(uuidOf(3))];
    const ask = { minMemoryMib: 8_000 };
    expect(picked(hostOf(wiring, [], gpus), ask)).toEqual([2]);
    expect(picked(hostOf(wiring, [], gpus), { ...ask, requiredGpus: 2 })).toEqual([0, 1]);
    expect(
      picked(
        hostOf(
          topology(4, () => "PHB"),
          [],
          gpus,
        ),
        { ...ask, requiredGpus: 2 },
      ),
    ).toEqual([2, 3]);
    expect(picked(hostOf(wiring, [], gpus), { minMemoryMib: 40_000 })).toEqual([0]);
  });

  test("only GPUs that fit are chosen, and only they are counted on", () => {
    const wiring = nested(8);
    const gpus = wiring.gpus.map(({ uuid }, index) => (index === 0 ? t4(uuid) : h100(uuid)));
    expect(picked(hostOf(wiring, [], gpus), { requiredGpus: 2, minMemoryMib: 40_000 })).toEqual([2, 3]);
    expect(picked(hostOf(wiring, [], gpus), { requiredGpus: 4, gpuModel: "h100" })).toEqual([4, 5, 6, 7]);
    const host = hostOf(wiring, []);
    host.gpu(uuidOf(0), { memoryUsedMib: 30_000 });
    host.observe();
    expect(picked(host, { requiredGpus: 2 })).toEqual([2, 3]);
  });

  test("NUMA nodes that the driver does not tell are told by the CPUs, and two that are unknown are not the same", () => {
    const cpus = (gpu: number) => (gpu % 2 === 0 ? "0-7" : "8-15");
    expect(
      pick(
        topology(
          4,
          () => "SYS",
          () => [],
          cpus,
        ),
        2,
      ),
    ).toEqual([0, 2]);
    const oneKnown = (gpu: number) => (gpu >= 2 ? "0-7" : null);
    expect(
      pick(
        topology(
          4,
          () => "SYS",
          () => [],
          oneKnown,
        ),
        2,
      ),
    ).toEqual([2, 3]);
    const ranges = (gpu: number) => (gpu === 1 ? [0, 1] : [gpu]);
    expect(
      pick(
        topology(3, () => "SYS", ranges),
        2,
      ),
    ).toEqual([0, 1]);
  });

  test("more NVLinks come before fewer, and few before any switch", () => {
    const links = ["SYS", "NODE", "PHB", "PXB", "PIX", "NV1", "NV2", "NV18"] as const;
    for (const [rank, better] of links.entries()) {
      for (const worse of links.slice(0, rank)) {
        // A pair of the better kind, in the midst of the worse.
        expect(
          pick(
            topology(5, (a, b) => (a === 2 && b === 4 ? better : worse)),
            2,
          ),
        ).toEqual([2, 4]);
      }
    }
  });
});

test("of two GPUs that are connected alike each tears one pair, as of two that are not", () => {
  // 0 and 1 are alike. 2 and 3 are as close, but only 3 is near 4, which is taken.
  const near: Record<string, GpuLink> = { "0 1": "NV4", "2 3": "NV4", "3 4": "PIX" };
  const wiring = topology(5, (a, b) => near[`${a} ${b}`] ?? "SYS");
  expect(pick(wiring, 1, [4])).toEqual([0]);
});

describe("where the topology is not known, or not of all", () => {
  test("placement goes by memory and UUID as if all were alike", () => {
    const wiring = nested(8);
    const host = hostOf(wiring, [1]);
    host.topology = null;
    host.observe();
    expect(picked(host, { requiredGpus: 2 })).toEqual([0, 2]);
  });

  test("a GPU that has just come is as far as can be from all others, and is taken first where it tears nothing apart", () => {
    const wiring = nested(4);
    const gpus = Array.from({ length: 6 }, (_, gpu) => h100(uuidOf(gpu)));
    expect(picked(hostOf(wiring, [], gpus), { requiredGpus: 4 })).toEqual([0, 1, 2, 3]);
    expect(picked(hostOf(wiring, [], gpus), {})).toEqual([4]);
    expect(picked(hostOf(wiring, [4], gpus), {})).toEqual([5]);
    expect(picked(hostOf(wiring, [], gpus), { requiredGpus: 5 })).toEqual([0, 1, 2, 3, 4]);
  });

  test("a failed probe takes nothing away of what is known", () => {
    const host = hostOf(nested(8), [0]);
    host.failProbe("timeout");
    expect(picked(host, { requiredGpus: 2 })).toEqual([2, 3]);
  });

  test("a request that waited is given the best set of those that are free by then", () => {
    const host = hostOf(nested(8));
    const leases = ALL.map((gpu) => host.submit({ preferredGpus: [uuidOf(gpu)] }));
    const waiter = host.submit({ requiredGpus: 2 });
    for (const gpu of [5, 6]) host.release(leases[gpu] as string);
    expect(host.gpusOf(waiter)?.map(indexOf)).toEqual([5, 6]);
    const next = host.submit({ requiredGpus: 2, priority: 9 });
    host.monitoring = false;
    host.advance(seconds(1));
    host.release(leases[1] as string);
    host.release(leases[0] as string);
    expect(host.gpusOf(next)?.map(indexOf)).toEqual([0, 1]);
  });

  test("of a topology larger than any host nothing is used", () => {
    expect(
      closenessOf(
        topology(MAX_CLOSE_GPUS, () => "SYS"),
        null,
      ),
    ).not.toBeNull();
    expect(
      closenessOf(
        topology(MAX_CLOSE_GPUS + 1, () => "SYS"),
        null,
      ),
    ).toBeNull();
  });

  test("what was made of a topology is kept for as long as the source says the same", () => {
    const host = hostOf(nested(8));
    const { closeness } = host.state.sight;
    host.observe();
    expect(host.state.sight.closeness).toBe(closeness);
    host.topology = nested(8);
    host.observe();
    expect(host.state.sight.closeness).not.toBe(closeness);
  });
});

const LINKS = ["SYS", "PIX", "NV4"] as const;

/** A host of at most 7 GPUs with the rest of what placement looks at. */
const anyTask = fc.integer({ min: 1, max: 7 }).chain((count) =>
  fc.record({
    count: fc.constant(count),
    // Few kinds, so that ties are common.
    links: fc.array(fc.constantFrom(...LINKS), { minLength: 21, maxLength: 21 }),
    numa: fc.array(fc.nat(1), { minLength: 7, maxLength: 7 }),
    known: fc.integer({ min: Math.max(1, count - 1), max: count }),
    free: fc.subarray(
      Array.from({ length: count }, (_, gpu) => gpu),
      { minLength: 1 },
    ),
    memory: fc.array(fc.constantFrom(1_000, 1_000, 1_000, 2_000, 500), { minLength: 7, maxLength: 7 }),
    strained: fc.array(fc.boolean(), { minLength: 7, maxLength: 7 }),
    calm: fc.boolean(),
    wishes: fc.oneof(fc.constant([]), fc.subarray(["0", "1", uuidOf(2), "3"])),
    ask: fc.integer({ min: 1, max: 5 }),
    shuffle: fc.infiniteStream(fc.nat()),
  }),
);
type Task = typeof anyTask extends fc.Arbitrary<infer T> ? T : never;

function taskOf(task: Task) {
  const pairs = new Map<string, GpuLink>();
  const wiring = topology(
    task.known,
    (a, b) => {
      const key = `${a} ${b}`;
      if (!pairs.has(key)) pairs.set(key, task.links[pairs.size] as GpuLink);
      return pairs.get(key) as GpuLink;
    },
    (gpu) => [task.numa[gpu] as number],
  );
  const free: Candidate[] = task.free.map((gpu) => ({
    gpu: {
      uuid: uuidOf(gpu),
      index: gpu,
      name: "NVIDIA H100 80GB HBM3",
      pciBusId: null,
      memoryTotalMib: 2_000,
      mig: null,
      hold: { kind: "free" },
      cordon: null,
      fault: null,
      answeredUpTo: 0,
      lostSince: null,
      foreignSince: null,
    },
    shareableMib: 0,
    shared: false,
    closed: null,
    availableMib: task.memory[gpu] as number,
    utilizationPercent: 0,
    strained: !task.calm && (task.strained[gpu] as boolean),
    isolated: false,
    baselineMib: 0,
    longestMs: Infinity,
    kind: -1,
    freshUntil: Infinity,
  }));
  const asked = request("r", {
    requirement: { ...request("r").requirement, gpus: task.ask, memoryMib: 1_000 },
    preferredGpus: task.wishes,
  });
  return { wiring, free, asked };
}

/** The GPUs that are taken when only buckets of them are looked at. */
function placedByBucket(asked: Request, free: readonly Candidate[], closeness: Closeness | null) {
  const buckets = FreeGpus.of(
    free.map((one) => ({
      ...one,
      kind: closeness?.kinds[closeness.places.get(one.gpu.uuid) ?? closeness.stranger] ?? -1,
    })),
  );
  const placed = placeByBucket(asked, shapeOf(asked, []), buckets, closeness);
  return placed?.map((one) => ({ ...one, kind: -1 })) ?? null;
}

/** Every set there is, by the order that `place` promises, in other words. */
function bruteForce(asked: Request, free: readonly Candidate[], wiring: Topology): readonly string[] | null {
  const fitting = free.filter(({ availableMib }) => availableMib >= asked.requirement.memoryMib);
  const sets = subsets(fitting, asked.requirement.gpus);
  const judged = sets.map((set) => ({ set, verdict: judge(set) }));
  judged.sort((a, b) => compare(a.verdict, b.verdict));
  return judged[0]?.set.map(({ gpu }) => gpu.uuid).sort() ?? null;

  function judge(set: readonly Candidate[]): readonly (number | string)[] {
    const rest = free.filter((one) => !set.includes(one));
    const kinds = ["unknown", ...LINKS.flatMap((link) => [`${link} afar`, `${link} beside`])];
    const among = set.flatMap((a, at) => set.slice(at + 1).map((b) => kindOf(a, b)));
    const torn = set.flatMap((a) => rest.map((b) => kindOf(a, b)));
    const wish = ({ gpu }: Candidate) => {
      const at = [gpu.uuid, String(gpu.index)].map((name) => asked.preferredGpus.indexOf(name)).find((n) => n >= 0);
      return at ?? 99;
    };
    return [
      ...set.map((one) => wish(one) * 2 + Number(one.strained)).sort((a, b) => a - b),
      ...kinds.map((kind) => among.filter((one) => one === kind).length),
      set.reduce((sum, { availableMib }) => sum + availableMib, 0),
      ...kinds.toReversed().map((kind) => torn.filter((one) => one === kind).length),
      ...set.map(({ gpu }) => gpu.uuid).sort(),
    ];
  }

  function kindOf(a: Candidate, b: Candidate): string {
    const [first, second] = [a, b].map(({ gpu }) => wiring.gpus.findIndex(({ uuid }) => uuid === gpu.uuid));
    const link = wiring.links[first as number]?.[second as number];
    if (!link) return "unknown";
    const [one, other] = [wiring.gpus[first as number], wiring.gpus[second as number]];
    return `${link} ${one?.numaNodes[0] === other?.numaNodes[0] ? "beside" : "afar"}`;
  }
}

function subsets<T>(items: readonly T[], count: number): T[][] {
  if (count === 0) return [[]];
  return items.flatMap((item, at) => subsets(items.slice(at + 1), count - 1).map((rest) => [item, ...rest]));
}

function compare(a: readonly (number | string)[], b: readonly (number | string)[]): number {
  for (const [at, one] of a.entries()) {
    const other = b[at] as number | string;
    if (one !== other) return one < other ? -1 : 1;
  }
  return 0;
}

describe("whatever the host", () => {
  test("the set is the best of all there are, and the same for GPUs in any order", () => {
    fc.assert(
      fc.property(anyTask, (task) => {
        const { wiring, free, asked } = taskOf(task);
        const closeness = closenessOf(wiring, null);
        const placed = place(asked, free, [], closeness);
        expect(placed?.map(({ gpu }) => gpu.uuid) ?? null).toEqual(bruteForce(asked, free, wiring));
        if (asked.preferredGpus.length === 0) expect(placedByBucket(asked, free, closeness)).toEqual(placed);

        const order = [...task.shuffle.take(free.length + wiring.gpus.length)];
        const shuffled = free.map((one, at) => ({ one, key: order[at] as number })).sort((a, b) => a.key - b.key);
        const seats = wiring.gpus.map((_, at) => at).sort((a, b) => (order.at(-1 - a) ?? 0) - (order.at(-1 - b) ?? 0));
        const rewired: Topology = {
          gpus: seats.map((seat) => wiring.gpus[seat] as Topology["gpus"][number]),
          links: seats.map((a) => seats.map((b) => wiring.links[a]?.[b] ?? null)),
        };
        const again = place(
          asked,
          shuffled.map(({ one }) => one),
          [],
          closenessOf(rewired, null),
        );
        expect(again).toEqual(placed);
        const blind = (order: readonly Candidate[]) => place(asked, order, [], null);
        expect(blind(shuffled.map(({ one }) => one))).toEqual(blind(free));
      }),
      { numRuns: 3_000 },
    );
  });

  test("of more GPUs than can be looked at in every combination whole sets are given whole", () => {
    // Four islands of eight: 10,518,300 ways to take eight of 32 are too many to look at.
    const islands = topology(
      32,
      (a, b) => (a >> 3 === b >> 3 ? "NV18" : "SYS"),
      (gpu) => [gpu >> 3],
    );
    expect(pick(islands, 8)).toEqual(ALL);
    expect(pick(islands, 8, [2])).toEqual(ALL.map((gpu) => gpu + 8));
    expect(pick(islands, 7, [2])).toEqual([0, 1, 3, 4, 5, 6, 7]);
  });
});

test("eight of sixteen are chosen in well under a millisecond, one of eight in a few microseconds", () => {
  const medianUs = (wiring: Topology, count: number) => {
    const { state } = hostOf(wiring);
    const free = wiring.gpus.map(({ uuid }) => freeOf(state.gpus.get(uuid)));
    const asked = request("r", { requirement: { ...request("r").requirement, gpus: count, memoryMib: 1_000 } });
    const rounds = Array.from({ length: 200 }, () => {
      const start = performance.now();
      place(asked, free, [], state.sight.closeness);
      return (performance.now() - start) * 1_000;
    });
    return rounds.sort((a, b) => a - b)[100] as number;
  };
  // Usual hosts take tens of microseconds; a ring, where no two GPUs can stand for each other, is the worst there is.
  expect(
    medianUs(
      topology(
        16,
        () => "NV6",
        (gpu) => [gpu >> 3],
      ),
      8,
    ),
  ).toBeLessThan(1_000);
  expect(medianUs(nested(16), 8)).toBeLessThan(1_000);
  expect(
    medianUs(
      topology(16, (a, b) => ((b - a) % 15 < 2 ? "NV2" : "SYS")),
      8,
    ),
  ).toBeLessThan(10_000);
  expect(
    medianUs(
      topology(
        8,
        () => "NV18",
        (gpu) => [gpu >> 2],
      ),
      1,
    ),
  ).toBeLessThan(200);
});

function freeOf(gpu: Candidate["gpu"] | undefined): Candidate {
  if (gpu === undefined) throw new Error("no such GPU");
  return {
    gpu,
    shareableMib: 0,
    shared: false,
    closed: null,
    availableMib: 81_559,
    utilizationPercent: 0,
    strained: false,
    isolated: false,
    baselineMib: 4,
    longestMs: Infinity,
    kind: -1,
    freshUntil: Infinity,
  };
}
