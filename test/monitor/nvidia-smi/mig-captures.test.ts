/** What may be granted on the hosts with MIG of which there are captures. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { decide } from "../../../src/core/decisions/decide.ts";
import { candidates } from "../../../src/core/host/candidates.ts";
import { emptyHost } from "../../../src/core/host/changes.ts";
import { blockOf } from "../../../src/core/host/condition.ts";
import type { HostState } from "../../../src/core/host/state.ts";
import type { HostReading } from "../../../src/core/model/reading.ts";
import { KnownInstances } from "../../../src/monitor/nvidia-smi/known-instances.ts";
import { parseListing } from "../../../src/monitor/nvidia-smi/listing.ts";
import { parseNvidiaSmi } from "../../../src/monitor/nvidia-smi/parse.ts";
import { type SmiMigDevice, type SmiProcess, smiDocument } from "../../fixtures/nvidia-smi-document.ts";
import { smiListing, smiMigUuid } from "../../fixtures/nvidia-smi-listing.ts";
import { seen } from "../../fixtures/readings.ts";
import { DEFAULT_POLICY, SimulatedHost } from "../../simulation/simulated-host.ts";
import { capturePath, hasCaptures, readCapture } from "./captures.ts";

const NOW = 1_800_000_000_000;

function readingOf(document: Uint8Array | string, listing: string): HostReading {
  const result = parseNvidiaSmi(document);
  if (!result.ok) throw new Error(result.error.message);
  const known = new KnownInstances();
  known.learn(result.document.reading, parseListing(listing), NOW);
  return known.complete(result.document.reading);
}

function hostOf({ gpus }: HostReading): HostState {
  const observation = seen(gpus, NOW);
  return decide(emptyHost(DEFAULT_POLICY), { type: "observe", observation }, NOW).state;
}

/** Every device: the memory that a lease finds there, or why there can be none. */
const grants = (state: HostState) => {
  const free = new Map(candidates(state, NOW).map(({ gpu, availableMib }) => [gpu.uuid, availableMib]));
  return state.gpus
    .values()
    .map((gpu) => [gpu.mig?.profile ?? "whole", free.get(gpu.uuid) ?? blockOf(gpu, state, NOW)?.block]);
};

describe.skipIf(!hasCaptures)("captured hosts with MIG", () => {
  const textOf = (name: string) => readFileSync(join(capturePath("farm-t4-470"), "../text", `${name}.txt`), "utf8");

  test("an A100 in four: each instance with its memory, as soon as it has a name, and never the whole", () => {
    const document = readCapture("telegraf-a100-sxm4-mig-v12");
    const profiles = { 0: "1g.20gb", 1: "1g.20gb", 2: "1g.20gb", 3: "1g.20gb" };
    expect(grants(hostOf(readingOf(document, smiListing(document.toString("utf8"), profiles))))).toEqual([
      ["whole", "mig"],
      ["1g.20gb", 19_968],
      ["1g.20gb", 19_968],
      ["1g.20gb", 19_968],
      ["1g.20gb", 19_968],
    ]);
    expect(grants(hostOf(readingOf(document, "")))).toEqual([["whole", "mig"]]);
  });

  test("an H100 in four with processes of no lease on one: the other three", () => {
    const state = hostOf(readingOf(readCapture("derived-h100-mig-processes"), textOf("h100-mig-590-capabilities-L")));
    expect(grants(state)).toEqual([
      ["whole", "mig"],
      ["3g.40gb", "occupied"],
      ["2g.20gb", 20_096],
      ["1g.10gb", 9_984],
      ["1g.10gb", 9_984],
    ]);
    const occupied = state.gpus.get("MIG-00000000-0000-0000-0000-000000000000");
    if (occupied === undefined) throw new Error("it was not seen");
    expect(blockOf(occupied, state, NOW)?.detail).toBe("process 21180 (/root/tools/memhog) and 2 more, of no lease");
  });

  test("an H200 whose GPU instance 2 is shared by two: idle, both are offered all of it, and together no more", () => {
    const document = documentOf(textOf("h200-mig-590-idle-q"));
    const reading = readingOf(document, textOf("h200-mig-590-capabilities-L"));
    expect(grants(hostOf(reading))).toEqual([
      ["whole", "mig"],
      ["1c.3g.71gb", 71_424],
      ["2c.3g.71gb", 71_424],
      ["2g.35gb", 33_280],
      ["1g.18gb", 16_384],
      ["1g.18gb", 16_384],
    ]);
    const host = new SimulatedHost(reading.gpus);
    host.submit({ gpuModel: "1c.3g.71gb", minMemoryMib: 50_000 });
    expect(host.allocation(host.submit({ gpuModel: "2c.3g.71gb", minMemoryMib: 21_425 })).status).toBe("queued");
    expect(host.allocation(host.submit({ gpuModel: "2c.3g.71gb", minMemoryMib: 21_424 })).status).toBe("leased");
  });

  test("the same under load: the other compute instance is offered what the processes leave", () => {
    const document = documentOf(textOf("h200-mig-590-load-q"));
    expect(grants(hostOf(readingOf(document, textOf("h200-mig-590-capabilities-L"))))).toEqual([
      ["whole", "mig"],
      ["1c.3g.71gb", 71_424 - 16_925],
      ["2c.3g.71gb", "occupied"],
      ["2g.35gb", 33_280],
      ["1g.18gb", 16_384],
      ["1g.18gb", 16_384],
    ]);
  });
});

/** The document of which this is the text form, as far as it is about MIG. */
function documentOf(text: string): string {
  const blocks = text.split(/^ {4}MIG Device$/m).slice(1);
  const numberIn = (block: string, label: string) =>
    Number(new RegExp(`${label}\\s+: (\\d+)`).exec(block)?.[1] ?? Number.NaN);
  const migDevices = blocks.map((block): SmiMigDevice => {
    const memory = /FB Memory Usage([\s\S]*?)Free/.exec(block)?.[1] ?? "";
    return {
      index: numberIn(block, "Index"),
      gpuInstanceId: numberIn(block, "GPU Instance ID"),
      computeInstanceId: numberIn(block, "Compute Instance ID"),
      memoryTotalMib: numberIn(memory, "Total"),
      memoryUsedMib: numberIn(memory, "Used"),
      multiprocessorCount: numberIn(block, "Multiprocessor count"),
    };
  });
  const processes = text
    .split(/^ {8}GPU instance ID/m)
    .slice(1)
    .map((process): SmiProcess => {
      const [, gpuInstanceId, computeInstanceId, pid, name, usedMemoryMib] =
        /^\s+: (\d+)\n.*: (\d+)\n.*: (\d+)\n.*\n\s+Name\s+: (.*)\n.*: (\d+) MiB/.exec(process) ?? [];
      return {
        gpuInstanceId: Number(gpuInstanceId),
        computeInstanceId: Number(computeInstanceId),
        pid: Number(pid),
        name: name ?? null,
        usedMemoryMib: Number(usedMemoryMib),
      };
    });
  const uuid = /GPU UUID\s+: (\S+)/.exec(text)?.[1] ?? "";
  const name = /Product Name\s+: (.*)/.exec(text)?.[1] ?? "";
  return smiDocument({ gpus: [{ uuid, name, migMode: "Enabled", utilizationPercent: "N/A", migDevices, processes }] });
}

test("a container that may not see the whole GPU's memory sees that of its instances, and is granted those", () => {
  const device = { index: 0, gpuInstanceId: 9, computeInstanceId: 0 };
  const words = "Insufficient Permissions";
  const document = smiDocument({
    gpus: [
      { uuid: "GPU-a-0000", migMode: "Enabled", memoryTotalMib: words, memoryUsedMib: words, migDevices: [device] },
    ],
  });
  const state = hostOf(readingOf(document, smiListing(document)));
  expect(grants(state)).toEqual([
    ["whole", "mig"],
    ["1g.10gb", 9_984],
  ]);
  expect(candidates(state, NOW)[0]?.gpu.uuid).toBe(smiMigUuid("GPU-a-0000", 9, 0));
});
