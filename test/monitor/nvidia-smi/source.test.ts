import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import type { Observation, ProbeFailure } from "../../../src/core/model/reading.ts";
import { type NvidiaSmiOptions, NvidiaSmiSource } from "../../../src/monitor/nvidia-smi/source.ts";
import { ManualClock, steadyClock } from "../../../src/platform/clock.ts";
import { FakeNvidiaSmi, type FakeOrder, oneLost } from "../../fixtures/fake-nvidia-smi.ts";
import { smiDocument, smiPciBusId, smiUuid } from "../../fixtures/nvidia-smi-document.ts";
import { smiTopology } from "../../fixtures/nvidia-smi-topology.ts";
import { capturePath, hasCaptures, readFailure } from "./captures.ts";

let fake: FakeNvidiaSmi;
beforeEach(() => {
  fake = new FakeNvidiaSmi();
});
afterEach(() => fake[Symbol.dispose]());

const sourceOf = (options: Partial<NvidiaSmiOptions> = {}) =>
  new NvidiaSmiSource({ path: fake.path, clock: steadyClock(), ...options });

async function probe(order: FakeOrder, options: Partial<NvidiaSmiOptions> = {}): Promise<Observation> {
  fake.tell(order);
  return await sourceOf(options).probe();
}

async function failureOf(order: FakeOrder, options: Partial<NvidiaSmiOptions> = {}): Promise<ProbeFailure> {
  const observation = await probe(order, options);
  if (observation.ok) throw new Error("it gave a reading");
  return observation.failure;
}

const minutes = (n: number) => n * 60_000;

const text = (...words: Parameters<typeof smiDocument>) => smiDocument(...words);

describe("a reading", () => {
  test("it holds the GPUs, and when it began and ended by the given clock", async () => {
    const clock = new ManualClock(1_000);
    const pending = sourceOf({ clock }).probe();
    clock.advance(250);
    expect(await pending).toMatchObject({
      ok: true,
      startedAt: 1_000,
      finishedAt: 1_250,
      reading: { simulated: false, warnings: [], gpus: Array.from({ length: 8 }, (_, index) => ({ index })) },
    });
  });

  test("GPUs that the driver counts and does not show are told of, and those that it shows are read", async () => {
    const observation = await probe({ mode: "text", text: text({ gpus: [{}, {}], attachedGpus: 3 }) });
    expect(observation).toMatchObject({
      ok: true,
      reading: { gpus: [{ index: 0 }, { index: 1 }], warnings: ["the driver counts 3 GPUs and shows 2"] },
    });
  });

  test("the program is asked for everything as XML, and is shown nothing of our environment but the paths", async () => {
    const seen = { arguments: join(fake.folder, "arguments"), environment: join(fake.folder, "environment") };
    process.env.ORCHESTRATOR_TEST_SECRET = "hush";
    try {
      await probe({ mode: "gpus", ...seen });
    } finally {
      delete process.env.ORCHESTRATOR_TEST_SECRET;
    }
    expect(JSON.parse(readFileSync(seen.arguments, "utf8"))).toEqual(["-q", "-x"]);
    const environment = JSON.parse(readFileSync(seen.environment, "utf8"));
    expect(environment).toMatchObject({ LC_ALL: "C", PATH: process.env.PATH });
    expect(Object.keys(environment)).not.toContain("ORCHESTRATOR_TEST_SECRET");
    expect(Object.keys(environment)).not.toContain("HOME");
  });

  test("callers at the same time share one run, and later ones get another", async () => {
    const source = sourceOf();
    const [first, second] = await Promise.all([source.probe(), source.probe()]);
    expect(second).toBe(first);
    expect(fake.runs()).toHaveLength(1);
    expect(await source.probe()).not.toBe(first);
    expect(fake.runs()).toHaveLength(2);
  });

  test("the program is found in PATH", async () => {
    const path = process.env.PATH;
    process.env.PATH = `${fake.folder}:${path}`;
    try {
      expect((await new NvidiaSmiSource({ clock: steadyClock() }).probe()).ok).toBe(true);
    } finally {
      process.env.PATH = path;
    }
  });

  test("a GPU that loses its UUID keeps the name it had, and never passes for a new one", async () => {
    const source = sourceOf();
    const uuids = async (...gpus: Parameters<typeof smiDocument>[0]["gpus"]) => {
      fake.tell({ mode: "text", text: text({ gpus }) });
      const observation = await source.probe();
      return observation.ok ? observation.reading.gpus.map((gpu) => gpu.uuid) : observation.failure;
    };
    expect(await uuids({}, {})).toEqual([smiUuid(0), smiUuid(1)]);
    expect(await uuids({}, { uuid: "GPU is lost" })).toEqual([smiUuid(0), smiUuid(1)]);
    expect(await uuids({ uuid: "GPU-x" }, { uuid: "GPU-x" })).toEqual([smiUuid(0), smiUuid(1)]);
    // Another GPU in that place has a name of its own, and one that never had any goes by its address.
    expect(await uuids({ uuid: "GPU-new" }, {}, { uuid: "N/A" })).toEqual(["GPU-new", smiUuid(1), smiPciBusId(2)]);
    expect(await uuids({ uuid: null }, {})).toEqual(["GPU-new", smiUuid(1)]);
  });
});

describe("a program that does not give a reading", () => {
  test("one that is missing is told apart, and found when it comes", async () => {
    const source = sourceOf();
    fake.uninstall();
    expect(await source.probe()).toMatchObject({
      ok: false,
      failure: {
        kind: "missing",
        message: expect.stringContaining("(ENOENT): install the NVIDIA driver"),
        exitCode: null,
      },
    });
    writeFileSync(fake.path, "not executable");
    expect(await source.probe()).toMatchObject({ ok: false, failure: { kind: "missing" } });
    fake.uninstall();
    fake.install();
    expect((await source.probe()).ok).toBe(true);
  });

  test("one that hangs has failed at its deadline", async () => {
    const clock = new ManualClock(0);
    const pending = failureOf({ mode: "hang" }, { clock, timeoutMs: 3_000 });
    clock.advance(3_000);
    expect(await pending).toEqual({
      kind: "timeout",
      message: "nvidia-smi did not answer within 3000 ms and was ended",
      exitCode: null,
    });
  });

  test("while one lives that cannot be killed no other is started, and it is counted", async () => {
    fake.tell({ mode: "hang" });
    const clock = new ManualClock();
    const source = sourceOf({ clock, signal() {} });
    const pending = source.probe();
    clock.advance(11_000);
    expect(await pending).toMatchObject({
      failure: { kind: "timeout", message: expect.stringMatching(/cannot be killed/) },
    });
    const pid = source.abandonedPid;
    expect(source.abandonedTotal).toBe(1);
    expect(source.stuck).toBe(true);

    fake.tell({ mode: "gpus" });
    expect(await source.probe()).toMatchObject({
      failure: { kind: "timeout", message: `an earlier nvidia-smi, pid ${pid}, cannot be killed; no other is started` },
    });

    process.kill(pid as number, "SIGKILL");
    await vi.waitFor(() => expect(source.abandonedPid).toBeNull(), { timeout: 5_000, interval: 5 });
    expect(source.stuck).toBe(false);
    expect((await source.probe()).ok).toBe(true);
    expect(source.abandonedTotal).toBe(1);
  });

  test.each<[string, FakeOrder, ProbeFailure["kind"]]>([
    ["prints garbage", { mode: "garbage" }, "garbled"],
    ["prints nothing", { mode: "text", text: "" }, "garbled"],
    ["prints half a document", { mode: "text", text: text({ gpus: [{}, {}] }).slice(0, -30) }, "garbled"],
    ["prints without end", { mode: "flood" }, "garbled"],
    ["prints a document without GPUs", { mode: "text", text: text({ gpus: [] }) }, "no-devices"],
    ["crashes", { mode: "crash" }, "exit"],
    ["fails", { mode: "text", text: "", stderr: "no idea", exit: 255 }, "exit"],
    ["has no driver", { mode: "text", text: "", exit: 9 }, "driver"],
    ["finds no NVML", { mode: "text", text: "", exit: 12 }, "driver"],
    ["has another version than the driver", { mode: "text", text: "", exit: 18 }, "driver"],
    ["has no driver and still prints a document", { mode: "gpus", count: 1, exit: 9 }, "driver"],
    ["lost a GPU and prints nothing", { mode: "text", text: "", exit: 15 }, "gpu-lost"],
    ["lost a GPU and does not show which", { mode: "gpus", count: 2, exit: 15 }, "gpu-lost"],
    ["finds no devices", { mode: "text", text: "", exit: 6 }, "no-devices"],
  ])("one that %s", async (_, order, kind) => {
    expect(await failureOf(order)).toMatchObject({ kind, exitCode: order.exit ?? expect.toSatisfy(noCode) });
  });
  const noCode = (code: unknown) => code === null || code === 0;

  test("words in a broken document are not taken for the program's own", async () => {
    const broken = text({ gpus: [{ processes: [{ pid: 1, name: "No devices were found" }] }] }).slice(0, -30);
    expect(await failureOf({ mode: "text", text: broken })).toMatchObject({ kind: "garbled" });
  });

  test("what it says is passed on as one line", async () => {
    const said =
      "Failed to initialize NVML: Driver/library version mismatch\nNVML library version: 535.161\n\u001b[31m";
    expect(await failureOf({ mode: "text", text: said, exit: 18 })).toEqual({
      kind: "driver",
      message:
        "nvidia-smi exited with 18: Failed to initialize NVML: Driver/library version mismatch NVML library version: 535.161 [31m",
      exitCode: 18,
    });
    expect((await failureOf({ mode: "text", text: "x".repeat(10_000), exit: 2 })).message).toHaveLength(300);
  });

  test.skipIf(!hasCaptures).each<[string, number, ProbeFailure["kind"]]>([
    ["no-devices", 6, "no-devices"],
    ["version-mismatch", 18, "driver"],
    ["driver-not-loaded", 9, "driver"],
    ["no-supported-gpus", 255, "driver"],
    ["nvml-unknown-error", 255, "driver"],
    ["device-handle-unknown-error", 255, "gpu-lost"],
    ["device-handle-unknown-error-525", 255, "gpu-lost"],
    ["device-handle-gpu-lost", 15, "gpu-lost"],
    ["libnvidia-ml-missing", 12, "driver"],
  ])("the real words of %s, with %i and without a code", async (name, exit, kind) => {
    const said = readFailure(name);
    expect(await failureOf({ mode: "text", text: said, exit })).toMatchObject({ kind, exitCode: exit });
    expect(await failureOf({ mode: "text", text: said })).toMatchObject({ kind, exitCode: 0 });
  });
});

describe("a reading with a code that is not 0", () => {
  const tail = "WARNING: infoROM is corrupted at gpu 0008:00:00.0\n";

  test("a corrupted infoROM is a warning", async () => {
    expect(await probe({ mode: "gpus", count: 2, exit: 14, tail })).toMatchObject({
      ok: true,
      reading: {
        gpus: [{ index: 0 }, { index: 1 }],
        warnings: ["nvidia-smi exited with 14: WARNING: infoROM is corrupted at gpu 0008:00:00.0"],
      },
    });
    expect(await probe({ mode: "gpus", count: 1, exit: 14 })).toMatchObject({
      reading: { warnings: ["nvidia-smi exited with 14"] },
    });
    expect(await failureOf({ mode: "text", text: tail, exit: 14 })).toMatchObject({ kind: "exit", exitCode: 14 });
  });

  test("a lost GPU that the document shows leaves the others their reading", async () => {
    const document = text({ gpus: [{}, { memoryUsedMib: "GPU is lost", memoryTotalMib: "GPU is lost" }] });
    expect(await probe({ mode: "text", text: document, exit: 15 })).toMatchObject({
      ok: true,
      reading: {
        gpus: [{ memoryUsedMib: 0 }, { memoryUsedMib: null, errorValues: { "fb_memory_usage/used": "GPU is lost" } }],
        warnings: ["nvidia-smi exited with 15", "the GPUs' topology: nvidia-smi exited with 15"],
      },
    });
  });

  test("a process that calls itself lost does not make a GPU so", async () => {
    const document = text({ gpus: [{ processes: [{ pid: 1, name: "GPU is lost" }] }] });
    expect(await failureOf({ mode: "text", text: document, exit: 15 })).toMatchObject({ kind: "gpu-lost" });
  });

  test.skipIf(!hasCaptures)("the real listing with its warning at the end", async () => {
    const file = capturePath("derived-trailing-inforom-warning");
    expect(await probe({ mode: "file", file, exit: 14 })).toMatchObject({
      ok: true,
      reading: {
        gpus: [{ name: "Tesla V100-PCIE-32GB" }],
        // The processes of that host are not here, which is said too.
        warnings: [expect.stringContaining("infoROM is corrupted"), expect.stringContaining("share the host's pids")],
      },
    });
  });
});

describe("how the GPUs are connected", () => {
  const bridged = { mode: "text", text: smiTopology({ gpus: 2, link: () => "NV4" }) } as const;
  const readingOf = (observation: Observation) => {
    if (!observation.ok) throw new Error(observation.failure.message);
    return observation.reading;
  };

  test("it comes with the first reading, by the UUIDs of that reading", async () => {
    const args = join(fake.folder, "arguments");
    const reading = readingOf(await probe({ mode: "gpus", count: 2, topology: bridged, arguments: args }));
    expect(reading.topology).toEqual({
      gpus: [
        { uuid: smiUuid(0), numaNodes: [0], cpuAffinity: "0-47,96-143" },
        { uuid: smiUuid(1), numaNodes: [1], cpuAffinity: "48-95,144-191" },
      ],
      links: [
        [null, "NV4"],
        ["NV4", null],
      ],
    });
    expect(reading.warnings).toEqual([]);
    expect(JSON.parse(readFileSync(`${args}.topology`, "utf8"))).toEqual(["topo", "-m"]);
  });

  test("it is asked once, and then again each hour", async () => {
    const clock = new ManualClock(0);
    const source = sourceOf({ clock });
    const first = readingOf(await source.probe()).topology;
    clock.advance(minutes(59));
    expect(readingOf(await source.probe()).topology).toBe(first);
    expect(fake.topologyRuns()).toHaveLength(1);
    clock.advance(minutes(1));
    await source.probe();
    await source.probe();
    expect(fake.topologyRuns()).toHaveLength(2);
  });

  test.each<[string, FakeOrder, RegExp]>([
    ["garbage", { mode: "garbage" }, /no matrix/],
    ["nothing", { mode: "text", text: "" }, /printed nothing/],
    ["half a matrix", { mode: "text", text: bridged.text.slice(0, 60) }, /breaks off/],
    ["the matrix of other GPUs", { mode: "text", text: smiTopology({ gpus: 3 }) }, /3 GPUs, nvidia-smi -q shows 2/],
    ["a matrix and a failure", { ...bridged, exit: 15 }, /exited with 15/],
    ["that there is no driver", { mode: "text", text: "no driver", exit: 9 }, /exited with 9: no driver/],
    ["a crash", { mode: "crash" }, /ended by SIGSEGV/],
    ["output without end", { mode: "flood" }, /without end/],
    ["silence", { mode: "hang" }, /did not answer within 700 ms and was ended/],
  ])("an answer that is %s leaves the reading as it is, with a warning", async (_, topology, words) => {
    const reading = readingOf(await probe({ mode: "gpus", count: 2, topology }, { timeoutMs: 700 }));
    expect(reading.gpus).toHaveLength(2);
    expect(reading.topology).toBeNull();
    expect(reading.warnings).toEqual([expect.stringMatching(words)]);
  });

  test("a corrupted infoROM spoils it as little as the reading", async () => {
    const reading = readingOf(
      await probe({ mode: "gpus", count: 2, exit: 14, tail: "WARNING: infoROM is corrupted\n" }),
    );
    expect(reading.topology?.gpus).toHaveLength(2);
  });

  test("later readings do not wait for it, and no two runs are alive at once", async () => {
    const clock = new ManualClock(0);
    const source = sourceOf({ clock, timeoutMs: 3_000 });
    await source.probe();
    clock.advance(minutes(1));
    fake.tell({ mode: "gpus", count: 2, topology: { mode: "hang" } });
    const reading = readingOf(await source.probe());
    expect(reading.gpus).toHaveLength(2);
    await vi.waitFor(() => expect(fake.topologyRuns()).toHaveLength(2), { timeout: 10_000, interval: 5 });
    const runs = fake.runs().length;
    const next = source.probe();
    await new Promise((resolve) => setImmediate(resolve));
    expect(fake.runs()).toHaveLength(runs);
    clock.advance(3_000);
    expect(readingOf(await next).warnings).toEqual([expect.stringMatching(/did not answer within 3000 ms/)]);
    const [, hung] = fake.topologyRuns();
    expect(existsSync(`/proc/${hung}`)).toBe(false);
  });

  test("one that no signal ends is counted like any other, and nothing is started beside it", async () => {
    const clock = new ManualClock();
    fake.tell({ mode: "gpus", topology: { mode: "hang" } });
    const source = sourceOf({ clock, signal() {} });
    const pending = source.probe();
    await vi.waitFor(() => expect(fake.topologyRuns()).toHaveLength(1), { timeout: 10_000, interval: 5 });
    clock.advance(11_000);
    expect(readingOf(await pending).warnings).toEqual([expect.stringMatching(/cannot be killed/)]);
    expect(source.abandonedTotal).toBe(1);
    expect(await source.probe()).toMatchObject({ ok: false, failure: { kind: "timeout" } });
    process.kill(source.abandonedPid as number, "SIGKILL");
    await vi.waitFor(() => expect(source.abandonedPid).toBeNull(), { timeout: 5_000, interval: 5 });
    expect((await source.probe()).ok).toBe(true);
  });

  test("closing ends a question under way", async () => {
    fake.tell({ mode: "gpus", topology: { mode: "hang" } });
    const source = sourceOf();
    const pending = source.probe();
    await vi.waitFor(() => expect(fake.topologyRuns()).toHaveLength(1), { timeout: 10_000, interval: 5 });
    await source.close();
    expect((await pending).ok).toBe(true);
    const [pid] = fake.topologyRuns();
    expect(existsSync(`/proc/${pid}`)).toBe(false);
  });
});

describe("one lost GPU that spoils the listing of all", () => {
  const HOST = [{}, {}, { memoryUsedMib: 700 }, {}];
  const INVENTORY = HOST.map((_, index) => ({
    uuid: smiUuid(index),
    index,
    name: "NVIDIA H100 80GB HBM3",
    pciBusId: smiPciBusId(index),
  }));
  const askedFor = (file: string) =>
    readFileSync(file, "utf8")
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line).at(-1));

  /** A source that has seen the host whole. */
  async function seasoned(options: Partial<NvidiaSmiOptions> = {}): Promise<NvidiaSmiSource> {
    fake.tell({ mode: "text", text: text({ gpus: HOST }) });
    const source = sourceOf(options);
    expect((await source.probe()).ok).toBe(true);
    return source;
  }

  test("the others keep their readings, and it alone is called lost, by its own answer", async () => {
    const source = await seasoned();
    fake.tell(oneLost(HOST, 1));
    const observation = await source.probe();
    expect(observation).toMatchObject({
      ok: true,
      reading: {
        driverVersion: "580.105.08",
        unread: [],
        gpus: [
          { uuid: smiUuid(0), index: 0, memoryUsedMib: 0, errorValues: {} },
          {
            uuid: smiUuid(1),
            index: 1,
            pciBusId: smiPciBusId(1),
            memoryTotalMib: null,
            temperatureC: null,
            errorValues: { "nvidia-smi -i": "GPU is lost" },
          },
          { uuid: smiUuid(2), index: 2, memoryUsedMib: 700 },
          { uuid: smiUuid(3), index: 3 },
        ],
        warnings: [
          expect.stringMatching(/read one by one, since nvidia-smi exited with 15: .*0000:11:00\.0: GPU is lost/),
        ],
      },
    });
  });

  test("it is asked for last, and each probe tries the whole listing first", async () => {
    const source = await seasoned();
    const file = join(fake.folder, "asked");
    fake.tell({ ...oneLost(HOST, 1), asked: file });
    await source.probe();
    expect(askedFor(file)).toEqual(["-x", smiUuid(0), smiUuid(2), smiUuid(3), smiUuid(1)]);
    fake.tell({ mode: "text", text: text({ gpus: HOST }) });
    const runs = fake.runs().length;
    expect(await source.probe()).toMatchObject({ ok: true, reading: { warnings: [] } });
    expect(fake.runs()).toHaveLength(runs + 1);
  });

  test("after a start the GPUs of earlier days are asked for", async () => {
    fake.tell(oneLost(HOST, 0));
    expect(await sourceOf({ inventory: INVENTORY }).probe()).toMatchObject({
      reading: { gpus: [{ memoryTotalMib: null }, { memoryTotalMib: 81_559 }, {}, {}] },
    });
    expect(await sourceOf().probe()).toMatchObject({ ok: false, failure: { kind: "gpu-lost" } });
  });

  test("an answer that blames another GPU says nothing of the one asked for", async () => {
    const source = await seasoned();
    const order = oneLost(HOST, 1);
    const blames: FakeOrder = { mode: "text", text: order.mode === "text" ? order.text : "", exit: 15 };
    fake.tell({ ...order, each: { ...order.each, [smiUuid(3)]: blames } });
    expect(await source.probe()).toMatchObject({
      reading: { gpus: [{ index: 0 }, { index: 1, memoryTotalMib: null }, { index: 2 }], unread: [smiUuid(3)] },
    });
    fake.tell({ ...blames, each: Object.fromEntries(INVENTORY.map(({ uuid }) => [uuid, blames])) });
    expect(await source.probe()).toMatchObject({ ok: false, failure: { kind: "gpu-lost", exitCode: 15 } });
  });

  test("one that the driver knows no more is missing, and neither lost nor unread", async () => {
    const source = await seasoned();
    const { each, ...order } = oneLost(HOST, 1);
    const { [smiUuid(3)]: _, ...rest } = each ?? {};
    fake.tell({ ...order, each: rest });
    const observation = await source.probe();
    expect(observation).toMatchObject({ ok: true, reading: { gpus: [{}, {}, {}], unread: [] } });
  });

  test("an answer about another GPU is not taken for the one asked for", async () => {
    const source = await seasoned();
    const order = oneLost(HOST, 1);
    const other: FakeOrder = {
      mode: "text",
      text: text({ gpus: [{ uuid: "GPU-other", pciBusId: "00000000:99:00.0" }] }),
    };
    fake.tell({ ...order, each: { ...order.each, [smiUuid(0)]: other } });
    expect(await source.probe()).toMatchObject({
      reading: { gpus: [{ index: 1 }, { index: 2 }, { index: 3 }], unread: [smiUuid(0)] },
    });
  });

  test("all of it stays within the probe's deadline, and one that hangs does not take the others' time", async () => {
    const source = await seasoned({ timeoutMs: 6_000 });
    const order = oneLost(HOST, 1);
    fake.tell({ ...order, each: { ...order.each, [smiUuid(0)]: { mode: "hang" }, [smiUuid(1)]: { mode: "hang" } } });
    const begun = performance.now();
    const observation = await source.probe();
    expect(performance.now() - begun).toBeLessThan(8_500);
    expect(observation).toMatchObject({
      ok: true,
      reading: { gpus: [{ index: 2 }, { index: 3 }], unread: [smiUuid(0), smiUuid(1)] },
    });
  });

  test("while one of those runs cannot be killed, no further one is started", async () => {
    const source = await seasoned({ timeoutMs: 6_000, signal() {} });
    const order = oneLost(HOST, 3);
    fake.tell({ ...order, each: { ...order.each, [smiUuid(1)]: { mode: "hang" } } });
    expect(await source.probe()).toMatchObject({
      reading: { gpus: [{ index: 0 }], unread: [smiUuid(1), smiUuid(2), smiUuid(3)] },
    });
    expect(source.abandonedTotal).toBe(1);
    process.kill(source.abandonedPid as number, "SIGKILL");
    await vi.waitFor(() => expect(source.abandonedPid).toBeNull(), { timeout: 5_000, interval: 5 });
  });

  test("other failures are not asked into", async () => {
    const source = await seasoned();
    const runs = fake.runs().length;
    fake.tell({ mode: "text", text: "", exit: 18 });
    expect(await source.probe()).toMatchObject({ ok: false, failure: { kind: "driver" } });
    expect(fake.runs()).toHaveLength(runs + 1);
  });

  test("closing ends it in the middle", async () => {
    const source = await seasoned();
    fake.tell({ ...oneLost(HOST, 1), each: { [smiUuid(0)]: { mode: "hang" } } });
    const runs = fake.runs().length;
    const pending = source.probe();
    await vi.waitFor(() => expect(fake.runs()).toHaveLength(runs + 2), { timeout: 10_000, interval: 5 });
    await source.close();
    await pending;
    expect(fake.runs()).toHaveLength(runs + 2);
  });
});

describe("closing", () => {
  test("it ends the run under way, and nothing is started afterwards", async () => {
    fake.tell({ mode: "hang" });
    const source = sourceOf();
    const pending = source.probe();
    await vi.waitFor(() => expect(fake.runs()).toHaveLength(1), { timeout: 10_000, interval: 5 });
    await source.close();
    expect(await pending).toMatchObject({ ok: false, failure: { kind: "exit" } });
    expect(await source.probe()).toMatchObject({ ok: false, failure: { message: "the daemon is shutting down" } });
    expect(fake.runs()).toHaveLength(1);
    const [pid] = fake.runs();
    expect(existsSync(`/proc/${pid}`)).toBe(false);
  });

  test("without a run it does nothing", async () => {
    await sourceOf().close();
    expect(fake.runs()).toEqual([]);
  });
});
