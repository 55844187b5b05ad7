/** MIG instances as the source gives them: the document joined with `nvidia-smi -L`. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { HostReading, MigInstance } from "../../../src/core/model/reading.ts";
import { KnownInstances } from "../../../src/monitor/nvidia-smi/known-instances.ts";
import { NvidiaSmiSource } from "../../../src/monitor/nvidia-smi/source.ts";
import { ManualClock, steadyClock } from "../../../src/platform/clock.ts";
import { orderOf, wellHost } from "../../fake-host/host.ts";
import { cut as cutHost } from "../../fake-host/verbs.ts";
import { FakeNvidiaSmi, type FakeOrder, oneLost } from "../../fixtures/fake-nvidia-smi.ts";
import { cutGpu, instance } from "../../fixtures/mig.ts";
import { type SmiGpu, type SmiMigDevice, smiDocument, smiUuid } from "../../fixtures/nvidia-smi-document.ts";
import { smiListing, smiMigUuid } from "../../fixtures/nvidia-smi-listing.ts";
import { hostReading } from "../../fixtures/readings.ts";
import { capturePath, hasCaptures } from "./captures.ts";

let fake: FakeNvidiaSmi;
beforeEach(() => {
  fake = new FakeNvidiaSmi();
});
afterEach(() => fake[Symbol.dispose]());

const device = (index: number, gpuInstanceId: number, computeInstanceId = 0): SmiMigDevice => ({
  index,
  gpuInstanceId,
  computeInstanceId,
});
const cut = (...migDevices: SmiMigDevice[]): SmiGpu => ({ migMode: "Enabled", utilizationPercent: "N/A", migDevices });
const shown = (...gpus: SmiGpu[]): FakeOrder & { readonly mode: "text" } => ({
  mode: "text",
  text: smiDocument({ gpus }),
});

async function readingOf(source: NvidiaSmiSource): Promise<HostReading> {
  const observation = await source.probe();
  if (!observation.ok) throw new Error(observation.failure.message);
  return observation.reading;
}

const namesIn = ({ gpus }: HostReading) =>
  gpus.flatMap(({ migInstances }) => migInstances.map(({ index, uuid, profile }) => [index, uuid, profile]));

const sourceOf = (clock = new ManualClock(1_000)) => new NvidiaSmiSource({ path: fake.path, clock });

test("each instance gets the UUID and the profile that stand at its number, not at its id", async () => {
  // Made in the order of the numbers: the ids go another way.
  fake.tell(shown({}, cut(device(0, 9), device(1, 2), device(2, 7))));
  const reading = await readingOf(sourceOf());
  expect(namesIn(reading)).toEqual([
    [0, smiMigUuid(smiUuid(1), 9, 0), "1g.10gb"],
    [1, smiMigUuid(smiUuid(1), 2, 0), "1g.10gb"],
    [2, smiMigUuid(smiUuid(1), 7, 0), "1g.10gb"],
  ]);
  expect(reading.warnings).toEqual([]);
});

test("two GPUs that are cut alike have instances of different names", async () => {
  fake.tell(shown(cut(device(0, 9)), cut(device(0, 9))));
  const names = namesIn(await readingOf(sourceOf())).map(([, uuid]) => uuid);
  expect(names).toEqual([smiMigUuid(smiUuid(0), 9, 0), smiMigUuid(smiUuid(1), 9, 0)]);
  expect(new Set(names).size).toBe(2);
});

test("a host without MIG is never asked for a list", async () => {
  const source = sourceOf();
  await readingOf(source);
  fake.tell(shown({ migMode: "Enabled" }, {}));
  await readingOf(source);
  expect(fake.listingRuns()).toEqual([]);
});

test("it is asked when the instances change, in the same probe, and else every ten minutes", async () => {
  const clock = new ManualClock(1_000);
  const source = sourceOf(clock);
  fake.tell(shown(cut(device(0, 9))));
  await readingOf(source);
  await readingOf(source);
  expect(fake.listingRuns()).toHaveLength(1);
  fake.tell(shown(cut(device(0, 9), device(1, 10))));
  expect(namesIn(await readingOf(source))).toHaveLength(2);
  expect(fake.listingRuns()).toHaveLength(2);
  clock.advance(599_999);
  await readingOf(source);
  expect(fake.listingRuns()).toHaveLength(2);
  clock.advance(1);
  await readingOf(source);
  expect(fake.listingRuns()).toHaveLength(3);
});

test("numbers that move to other instances move the UUIDs with them", async () => {
  const source = sourceOf();
  fake.tell(shown(cut(device(0, 9), device(1, 10), device(2, 11))));
  await readingOf(source);
  fake.tell(shown(cut(device(0, 10), device(1, 11))));
  expect(namesIn(await readingOf(source)).map(([, uuid]) => uuid)).toEqual([
    smiMigUuid(smiUuid(0), 10, 0),
    smiMigUuid(smiUuid(0), 11, 0),
  ]);
});

describe("a listing that does not fit the document", () => {
  const two = shown(cut(device(0, 9), device(1, 10)));
  const one = smiListing(smiDocument({ gpus: [cut(device(0, 9))] }));
  const fitting = smiListing(two.text);
  const old = (ids: string) => `GPU 0: A100 (UUID: ${smiUuid(0)})
  MIG 1g.5gb Device 0: (UUID: MIG-${smiUuid(0)}/${ids})
  MIG 1g.5gb Device 1: (UUID: MIG-${smiUuid(0)}/10/0)\n`;

  test.each<[string, string, string]>([
    ["fewer instances", one, "nvidia-smi -L lists 1 instances of GPU 0, nvidia-smi -q 2"],
    ["another number", fitting.replace("Device  1", "Device  2"), "does not list instance 1 of GPU 0"],
    ["another GPU", fitting.replace(smiUuid(0), "GPU-x"), "does not list GPU 0"],
    ["one UUID twice", fitting.replaceAll(/MIG-[^)]*/g, "MIG-x"), "nvidia-smi -L lists MIG-x twice"],
    ["other ids in an old UUID", old("7/0"), "under other ids than nvidia-smi -q"],
    ["words", "Failed to initialize NVML: Unknown Error\n", "Failed to initialize NVML: Unknown Error"],
    ["nothing", "", "nvidia-smi exited with 0"],
  ])("with %s names nothing, says why, and is asked for again until it fits", async (_, text, why) => {
    const source = sourceOf();
    fake.tell({ ...two, listing: { mode: "text", text } });
    const reading = await readingOf(source);
    expect(namesIn(reading)).toEqual([
      [0, null, null],
      [1, null, null],
    ]);
    expect(reading.warnings).toEqual([
      expect.stringMatching(/^2 MIG instances have no UUID and cannot be granted: .*/),
    ]);
    expect(reading.warnings[0]).toContain(why);
    fake.tell(two);
    expect(namesIn(await readingOf(source)).every(([, uuid]) => uuid !== null)).toBe(true);
  });

  test("the UUIDs of old drivers are taken when their ids are those of the document", async () => {
    fake.tell({ ...two, listing: { mode: "text", text: old("9/0") } });
    expect(namesIn(await readingOf(sourceOf()))).toEqual([
      [0, `MIG-${smiUuid(0)}/9/0`, "1g.5gb"],
      [1, `MIG-${smiUuid(0)}/10/0`, "1g.5gb"],
    ]);
  });

  test("of one GPU takes nothing from the others", async () => {
    const both = shown(cut(device(0, 9)), cut(device(0, 5)));
    fake.tell({ ...both, listing: { mode: "text", text: smiListing(both.text).replace(smiUuid(0), "GPU-x") } });
    expect(namesIn(await readingOf(sourceOf()))).toEqual([
      [0, null, null],
      [0, smiMigUuid(smiUuid(1), 5, 0), "1g.10gb"],
    ]);
  });

  test("that never comes is asked for with three readings in a row, and then once a minute", () => {
    const known = new KnownInstances();
    const reading = hostReading([cutGpu("GPU-a", [instance(0, 9, { uuid: null, profile: null })])]);
    const asked: number[] = [];
    for (let now = 0; now <= 180_000; now += 5_000) {
      if (!known.isDue(reading, now)) continue;
      asked.push(now);
      known.learn(reading, "it hangs", now);
    }
    expect(asked).toEqual([0, 5_000, 10_000, 70_000, 130_000]);
  });
});

test("a listing that hangs ends with the probe's deadline, and costs only the names", async () => {
  const source = new NvidiaSmiSource({ path: fake.path, clock: steadyClock(), timeoutMs: 1_500 });
  fake.tell({ ...shown(cut(device(0, 9))), listing: { mode: "hang" } });
  const began = performance.now();
  const reading = await readingOf(source);
  expect(performance.now() - began).toBeLessThan(3_000);
  expect(reading.gpus).toHaveLength(1);
  expect(reading.warnings[0]).toMatch(/1 MIG instance has no UUID .*nvidia-smi did not answer within \d+ ms/);
  expect(source.stuck).toBe(false);
});

test("names that are known outlive a lost GPU that spoils every listing", async () => {
  const gpus = [cut(device(0, 9)), {}];
  const source = sourceOf();
  fake.tell(shown(...gpus));
  await readingOf(source);
  fake.tell(oneLost(gpus, 1));
  expect(namesIn(await readingOf(source))).toEqual([[0, smiMigUuid(smiUuid(0), 9, 0), "1g.10gb"]]);
  expect(fake.listingRuns()).toHaveLength(1);
});

test("a fake host that is cut shows the instances, and lists them by the same profiles", async () => {
  fake.tell(orderOf(cutHost(1, ["3g.40gb", "1g.10gb"])(wellHost(2))));
  const { gpus } = await readingOf(sourceOf());
  const shown = ({ uuid, profile, memoryTotalMib }: MigInstance) => [uuid, profile, memoryTotalMib];
  expect(gpus.map(({ migInstances }) => migInstances.map(shown))).toEqual([
    [],
    [
      [smiMigUuid(smiUuid(1), 7, 0), "3g.40gb", 40_704],
      [smiMigUuid(smiUuid(1), 8, 0), "1g.10gb", 9_984],
    ],
  ]);
  expect(() => cutHost(0, ["half"])).toThrow("half is no profile such as 1g.10gb");
});

describe.skipIf(!hasCaptures)("captures", () => {
  const listed = (file: string) => join(capturePath("farm-t4-470"), "../text", file);

  test("the H100 with MIG and what its -L lists are joined", async () => {
    const listing: FakeOrder = { mode: "file", file: listed("h100-mig-590-capabilities-L.txt") };
    fake.tell({ mode: "file", file: capturePath("derived-h100-mig-processes"), listing });
    const { gpus, warnings } = await readingOf(sourceOf());
    expect(warnings.join()).not.toContain("UUID");
    expect(gpus[0]?.migInstances.map(({ gpuInstanceId, profile, uuid }) => [gpuInstanceId, profile, uuid])).toEqual([
      [2, "3g.40gb", "MIG-00000000-0000-0000-0000-000000000000"],
      [3, "2g.20gb", "MIG-00000001-0000-0000-0000-000000000001"],
      [9, "1g.10gb", "MIG-00000002-0000-0000-0000-000000000002"],
      [10, "1g.10gb", "MIG-00000003-0000-0000-0000-000000000003"],
    ]);
  });

  test("the listing of another host does not fit the A100 of a capture", async () => {
    const listing: FakeOrder = { mode: "file", file: listed("h100-mig-590-capabilities-L.txt") };
    fake.tell({ mode: "file", file: capturePath("telegraf-a100-sxm4-mig-v12"), listing });
    const { gpus, warnings } = await readingOf(sourceOf());
    expect(gpus[0]?.migInstances.map(({ uuid }) => uuid)).toEqual([null, null, null, null]);
    expect(warnings).toContain("4 MIG instances have no UUID and cannot be granted: nvidia-smi -L does not list GPU 0");
  });

  test("the A100 of a capture with the list that fits it", async () => {
    const document = readFileSync(capturePath("telegraf-a100-sxm4-mig-v12"), "utf8");
    fake.tell({ mode: "text", text: document });
    expect(namesIn(await readingOf(sourceOf()))).toHaveLength(4);
  });
});
