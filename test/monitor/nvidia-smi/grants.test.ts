/** What may be granted on the hosts of the captures, by the first reading of a fresh daemon. MIG has tests of its own. */
import { describe, expect, test } from "vitest";
import { decide } from "../../../src/core/decisions/decide.ts";
import { candidates } from "../../../src/core/host/candidates.ts";
import { emptyHost } from "../../../src/core/host/changes.ts";
import { blockOf } from "../../../src/core/host/condition.ts";
import type { HostReading } from "../../../src/core/model/reading.ts";
import { parseNvidiaSmi } from "../../../src/monitor/nvidia-smi/parse.ts";
import { smiDocument } from "../../fixtures/nvidia-smi-document.ts";
import { DEFAULT_POLICY } from "../../simulation/simulated-host.ts";
import { captures, hasCaptures, readCapture } from "./captures.ts";

const AT = 1_000;

function readingOf(output: string | Uint8Array): HostReading {
  const result = parseNvidiaSmi(output);
  if (!result.ok) throw new Error(result.error.message);
  return result.document.reading;
}

/** Of each GPU, by index: how many MiB a lease would find there, or why there is none to be had. */
function grants(reading: HostReading): (number | string)[] {
  const observation = { ok: true, startedAt: AT, finishedAt: AT, reading } as const;
  const { state } = decide(emptyHost(DEFAULT_POLICY), { type: "observe", observation }, AT);
  const free = new Map(candidates(state, AT).map((one) => [one.gpu.uuid, one]));
  return state.gpus.values().map((gpu) => {
    const one = free.get(gpu.uuid);
    if (one === undefined) return blockOf(gpu, state, AT)?.block ?? "neither";
    return one.isolated ? `${one.availableMib}, alone` : one.strained ? `${one.availableMib}, last` : one.availableMib;
  });
}

const grantsOf = (name: string) => grants(readingOf(readCapture(name)));

/** Why it is so stands beside each. */
const SICK: readonly [name: string, why: string, granted: readonly (number | string)[]][] = [
  ["k8sinfra-mock-gb200-ecc", "the first has a row that could not be remapped", ["unhealthy", 196_608]],
  ["k8sinfra-mock-gb200-lost", "the first has failed to remap, the second is lost", ["unhealthy", "lost"]],
  ["k8sinfra-mock-gb200-fabric-degraded", "the second has lost its route", [196_608, "196608, alone"]],
  ["derived-a100-remap-pending", "the driver asks for a reset", ["unhealthy"]],
  [
    "pai-4xk80-out-of-order",
    "old double-bit errors were answered by retiring pages; two are in use",
    ["occupied", "occupied", 11_441, 11_441],
  ],
  ["derived-t4-unknown-error", "fields that cannot be read keep nobody away; a process does", ["occupied"]],
  ["pai-gt730-excerpt", "without memory figures nothing is known to fit", ["unknown"]],
  ["derived-trailing-inforom-warning", "a corrupted infoROM is a warning; the processes count", ["occupied"]],
];

const SHARED_WITH_OTHERS: readonly [name: string, why: string, granted: readonly (number | string)[]][] = [
  ["derived-t4-host-vgpu", "virtual machines use the GPU of a vGPU host", ["occupied"]],
  ["derived-rtx3080-wddm-scrubbed", "WSL2: the desktop has its part, the rest is to be had", [9_112]],
  ["telegraf-rtx3080-v13", "9 GiB in use by nobody that is seen", ["occupied"]],
  ["lampaa-gtx1050-windows", "a Windows driver that tells no power and no minor number", [2_048]],
  ["datakit-gtx1050-515", "a desktop of a few MiB", [4_096]],
  ["e7d-gtx980-440", "a desktop of a gigabyte", [2_904]],
  ["telegraf-a10g", "Xorg on a server", [23_028]],
  ["lampaa-gt730", "it tells no utilisation", [2_001]],
];

const IN_USE: readonly [name: string, granted: readonly (number | string)[]][] = [
  ["a0s-dual-gtx1080-460", ["occupied", "occupied"]],
  ["a0s-quadro-p2000-418", ["occupied"]],
  ["ccmpbll-rtx5060ti-595", ["occupied"]],
  ["datakit-v100-460", ["occupied"]],
  ["farm-4xrtx3090-550", ["occupied", "occupied", "occupied", "occupied"]],
  ["farm-4xrtx4090-550", ["occupied", "occupied", "occupied", 24_564]],
  ["geblanco-dual-rtx2080ti-450", ["occupied", 11_019]],
  ["kjunge-6xgtx1070-384", Array(6).fill("occupied")],
  ["lampaa-gtx1050ti", ["occupied"]],
  ["lampaa-quadro-p2200", ["occupied"]],
  ["pai-dual-gtx1070-384", ["occupied", "occupied"]],
  ["telegraf-pro6000-maxq-v13", ["occupied"]],
  ["telegraf-rtx4000-sff-ada-v13", ["occupied"]],
  ["telegraf-tesla-t4-515", ["occupied"]],
  ["derived-k520-compute-processes", ["occupied"]],
  // A name that is no text is still a process.
  ["derived-nonutf8-ff", ["occupied", 11_019]],
];

const MIG = new Set(["telegraf-a100-sxm4-mig-v12", "derived-h100-mig-processes"]);
/** Its GPUs are in use, besides what their compute modes say. */
const MIXED = "derived-compute-mode-mixed6";
const NO_GPU = "derived-zero-gpus";

describe.skipIf(!hasCaptures)("on the hosts of the captures", () => {
  test.each([...SICK, ...SHARED_WITH_OTHERS])("%s: %s", (name, _why, granted) => {
    expect(grantsOf(name)).toEqual(granted);
  });

  test.each(IN_USE)("%s: whoever is there keeps it", (name, granted) => {
    expect(grantsOf(name)).toEqual(granted);
  });

  test(`${MIXED}: once the miner has gone, all but the one where CUDA is prohibited`, () => {
    expect(grantsOf(MIXED)).toEqual(["occupied", "occupied", "unhealthy", "occupied", "occupied", "occupied"]);
    const reading = readingOf(readCapture(MIXED));
    const gpus = reading.gpus.map((gpu) => ({ ...gpu, processes: [], memoryUsedMib: 2 }));
    const totals = reading.gpus.map(({ memoryTotalMib }) => memoryTotalMib);
    expect(grants({ ...reading, gpus })).toEqual(totals.with(2, "unhealthy" as never));
  });

  const named = new Set([...SICK, ...SHARED_WITH_OTHERS, ...IN_USE].map(([name]) => name));
  const others = captures.filter(({ name }) => !named.has(name) && !MIG.has(name) && name !== MIXED && name !== NO_GPU);

  test.each(others)("$name: nobody is there and nothing is wrong: every GPU is free, whole", ({ name }) => {
    const reading = readingOf(readCapture(name));
    expect(grantsOf(name)).toEqual(reading.gpus.map(({ memoryTotalMib }) => memoryTotalMib));
  });

  test("the others are as many as there are", () => {
    expect(others.length).toBeGreaterThan(20);
  });
});

test("where CUDA is prohibited nothing is granted; one process at a time is enough for a lease", () => {
  const modes = ["Default", "Exclusive_Process", "Prohibited"];
  const reading = readingOf(smiDocument({ gpus: modes.map((computeMode) => ({ computeMode })) }));
  expect(grants(reading)).toEqual([81_559, 81_559, "unhealthy"]);
});
