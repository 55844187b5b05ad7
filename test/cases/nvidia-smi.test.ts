/** What `nvidia-smi` says of real hosts, from its bytes to what may be granted. Inputs of public reports, and of our own. */
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { blockOf, isolationOf, proposedIdleMib, strainOf } from "../../src/core/host/condition.ts";
import { indexNow } from "../../src/core/host/indices.ts";
import type { Policy } from "../../src/core/model/policy.ts";
import type { HostReading } from "../../src/core/model/reading.ts";
import { NvidiaSmiSource } from "../../src/monitor/nvidia-smi/source.ts";
import { ProcessTable } from "../../src/monitor/process-table.ts";
import { steadyClock } from "../../src/platform/clock.ts";
import { FakeNvidiaSmi, type FakeOrder } from "../fixtures/fake-nvidia-smi.ts";
import { type SmiGpu, smiDocument, smiPciBusId, smiUuid } from "../fixtures/nvidia-smi-document.ts";
import { DEFAULT_POLICY, SimulatedHost, seconds } from "../simulation/simulated-host.ts";
import { hasCases, readCase } from "./shared-case.ts";

let fake: FakeNvidiaSmi;
let source: NvidiaSmiSource;
beforeEach(() => {
  fake = new FakeNvidiaSmi();
  source = new NvidiaSmiSource({ path: fake.path, clock: steadyClock(), processes: new ProcessTable("/nowhere") });
});
afterEach(async () => {
  await source.close();
  fake[Symbol.dispose]();
});

/** A host of no GPU yet, which sees what the fake program shows. */
class Host extends SimulatedHost {
  constructor(policy: Partial<Policy> = {}) {
    super([], { ...DEFAULT_POLICY, ...policy });
  }

  async sees(order: FakeOrder): Promise<HostReading> {
    fake.tell(order);
    const observation = await source.probe();
    if (!observation.ok) throw new Error(observation.failure.message);
    this.now += seconds(5);
    this.do({ type: "observe", observation: { ...observation, startedAt: this.now, finishedAt: this.now } });
    return observation.reading;
  }

  /** What the driver counts each GPU by, and what keeps it from being granted. */
  get standing() {
    return this.state.gpus.values().map((gpu) => {
      const block = blockOf(gpu, this.state, this.now);
      return {
        index: indexNow(this.state)(gpu.uuid),
        uuid: gpu.uuid,
        block: block?.block ?? null,
        detail: block?.detail,
      };
    });
  }
}

const shows = (text: string): FakeOrder => ({ mode: "text", text });
const ours = (...gpus: SmiGpu[]) => shows(smiDocument({ gpus }));

describe.skipIf(!hasCases)("public cases of nvidia-smi (read from ../shared, which is not here)", () => {
  const CODES = [0, 2, 6, 15, 255];

  test.each(CODES)(
    "610-lost-gpu1, exit code %i: the lost GPU is lost, the others go on by their numbers",
    async (exit) => {
      const host = new Host();
      const reading = await host.sees({ mode: "text", text: readCase("nvidia-smi/610-lost-gpu1.txt"), exit });
      const words = "Unable to determine the device handle for GPU1: 0000:34:00.0: Unknown Error";
      expect(reading.warnings.join("\n")).toContain(words);
      expect(host.standing).toMatchObject([
        { index: 0, block: null },
        { index: 1, block: "lost", detail: expect.stringContaining(words) },
        { index: 2, block: null },
        { index: 3, block: null },
      ]);
      expect(host.lease(host.submit({ requiredGpus: 3 }))?.gpus.map(({ index }) => index)).toEqual([0, 2, 3]);
    },
  );

  test("gb300x4: what cannot be repaired, and an action that is new, keep a GPU from everybody; less NVLink is shown", async () => {
    const host = new Host();
    await host.sees(shows(readCase("nvidia-smi/gb300x4-unrepairable-limited-actions.xml")));
    expect(host.standing.map(({ block, detail }) => [block, detail])).toEqual([
      ["unhealthy", "its memory cannot be repaired"],
      ["unhealthy", "the driver asks for: Recover IMEX Domain"],
      [null, undefined],
      ["unhealthy", "the driver asks for: Bus Reset"],
    ]);
    const limited = host.state.gpus.values()[2];
    expect(limited && strainOf(limited, host.state)).toBe("its NVLink fabric has limited capacity");
  });

  test("excl-small: on a GPU for one process any process counts, whatever its memory", async () => {
    const host = new Host();
    await host.sees(shows(readCase("nvidia-smi/excl-small.xml")));
    expect(host.standing.map(({ block }) => block)).toEqual(["occupied", null]);
  });

  test("excl-share: a GPU for one process takes no second shared lease", async () => {
    const host = new Host();
    await host.sees(shows(readCase("nvidia-smi/excl-share.xml")));
    const ask = { sharing: "shared", requiredGpus: 1, minMemoryMib: 1_000 } as const;
    expect(host.allocation(host.submit(ask)).status).toBe("leased");
    host.now += seconds(600);
    await host.sees(shows(readCase("nvidia-smi/excl-share.xml")));
    expect(Object.values(host.whyQueued(host.submit(ask)) ?? {})).not.toHaveLength(0);
  });

  test("excl-mps: an MPS server alone does not occupy its GPU", async () => {
    const host = new Host();
    await host.sees(shows(readCase("nvidia-smi/excl-mps.xml")));
    expect(host.standing).toMatchObject([{ block: null }]);
  });

  test("pm-off-97: what the driver does to answer is not use", async () => {
    const host = new Host();
    await host.sees(shows(readCase("nvidia-smi/pm-off-97.xml")));
    expect(host.allocation(host.submit({ minMemoryMib: 1_000, maxUtilizationPercent: 80 })).status).toBe("leased");
  });

  test("gb10: a GPU of unified memory has the size that the host or the settings give it, and is leased whole", async () => {
    const host = new Host();
    const { hostMemoryMib = 0 } = await host.sees(shows(readCase("nvidia-smi/gb10-idle.xml")));
    const totalMib = host.state.gpus.values()[0]?.memoryTotalMib;
    expect(totalMib === null ? null : totalMib).toBe(hostMemoryMib > 8_192 ? hostMemoryMib - 8_192 : null);
    const told = new Host({ memoryMib: { gb10: 110_000 } });
    await told.sees(shows(readCase("nvidia-smi/gb10-idle.xml")));
    expect(told.state.gpus.values()[0]?.memoryTotalMib).toBe(110_000);
    expect(() => told.submit({ sharing: "shared", minMemoryMib: 1_000 })).toThrow(/to share|has none/);
    expect(told.allocation(told.submit({ minMemoryMib: 100_000 })).status).toBe("leased");
    const busy = new Host({ memoryMib: { GB10: 110_000 } });
    await busy.sees(shows(readCase("nvidia-smi/gb10-vllm.xml")));
    expect(busy.standing).toMatchObject([{ block: "occupied", detail: expect.stringContaining("VLLM::EngineCore") }]);
  });

  test.each([
    ["wsl2-9g", { "RTX 5090": 8_600 }],
    ["vgpu-a40-8q", { "A40-8Q": 1_000 }],
    ["vgpu-guest-a40-8q-570", { "A40-8Q": 1_000 }],
  ])("%s: what is in use although nobody uses it can be said", async (name, idleMemoryMib) => {
    const untold = new Host();
    await untold.sees(shows(readCase(`nvidia-smi/${name}.xml`)));
    expect(untold.standing).toMatchObject([{ block: "occupied" }]);
    const told = new Host({ idleMemoryMib });
    await told.sees(shows(readCase(`nvidia-smi/${name}.xml`)));
    expect(told.standing).toMatchObject([{ block: null }]);
  });

  test.each(["vgpu-unlicensed", "l40s-2q-580-unlicensed"])(
    "%s: a GPU without a licence is taken last",
    async (name) => {
      const host = new Host();
      const { gpus } = await host.sees(shows(readCase(`nvidia-smi/${name}.xml`)));
      expect(gpus[0]?.health.license).toBe("Unlicensed (Restricted)");
      const [gpu] = host.state.gpus.values();
      expect(gpu && strainOf(gpu, host.state)).toBe("it runs without a vGPU licence: Unlicensed (Restricted)");
    },
  );

  test.each([
    ["2xrtx2080ti-440.82", 2],
    ["quadro-p5000-440.31-fan-error", 1],
    ["rtx2070super-516.40-no-processes", 1],
    ["rtx4070laptop-575.51.02-desktop", 1],
  ])("%s is read", async (name, gpus) => {
    const host = new Host();
    expect((await host.sees(shows(readCase(`nvidia-smi/${name}.xml`)))).gpus).toHaveLength(gpus);
  });
});

const UNREACHABLE = (place: string) => `Unable to determine the device handle for ${place}: Unknown Error\n`;
const others = [0, 2, 3].map((n) => ({ uuid: smiUuid(n), pciBusId: smiPciBusId(n), minorNumber: 3 - n }));
const document = smiDocument({ gpus: others, attachedGpus: 4 });

describe("a GPU that is named beside the document", () => {
  test.each([
    ["with its number", UNREACHABLE("GPU1: 0000:11:00.0")],
    ["by its address", UNREACHABLE("GPU 0000:11:00.0")],
    ["without a blank", UNREACHABLE("GPU0000:11:00.0")],
    [
      "as lost",
      "Unable to determine the device handle for GPU 0000:11:00.0: GPU is lost.  Reboot the system to recover this GPU\n",
    ],
  ])("%s, before or after it, is lost; the others keep their numbers", async (_name, words) => {
    for (const text of [`${words}${document}`, `${document}${words}`]) {
      const host = new Host();
      await host.sees({ ...shows(text), exit: 255 });
      expect(host.standing.map(({ index, block }) => [index, block])).toEqual([
        [0, null],
        [1, "lost"],
        [2, null],
        [3, null],
      ]);
    }
  });

  test("keeps the name it had, and its lease goes on without an index when the driver counts it no more", async () => {
    const host = new Host();
    await host.sees(shows(smiDocument({ gpus: [{}, {}] })));
    const [first, second] = [host.submit(), host.submit()];
    await host.sees({
      ...shows(
        `${UNREACHABLE("GPU 0000:10:00.0")}${smiDocument({ gpus: [{ uuid: smiUuid(1), pciBusId: smiPciBusId(1) }], attachedGpus: 2 })}`,
      ),
      exit: 2,
    });
    expect(host.standing).toMatchObject([
      { uuid: smiUuid(0), index: 0 },
      { uuid: smiUuid(1), index: 1 },
    ]);
    expect(host.allocation(first).status).toBe("leased");
    await host.sees(shows(smiDocument({ gpus: [{ uuid: smiUuid(1), pciBusId: smiPciBusId(1) }] })));
    expect(host.standing).toMatchObject([
      { uuid: smiUuid(0), index: null },
      { uuid: smiUuid(1), index: 0 },
    ]);
    expect(host.allocation(second).status).toBe("leased");
  });

  test("that answers alone is looked at, and not granted all the same", async () => {
    const host = new Host();
    await host.sees({
      ...shows(`${UNREACHABLE("GPU1: 0000:11:00.0")}${document}`),
      each: { "00000000:11:00.0": shows(smiDocument({ gpus: [{ uuid: smiUuid(1), pciBusId: smiPciBusId(1) }] })) },
    });
    expect(host.standing[1]).toMatchObject({ index: 1, block: "lost" });
  });

  test("that was never seen is forgotten under its address once it says its UUID", async () => {
    const host = new Host();
    await host.sees({ ...shows(`${UNREACHABLE("GPU1: 0000:11:00.0")}${document}`), exit: 6 });
    expect(host.standing[1]).toMatchObject({ uuid: "00000000:11:00.0", block: "lost" });
    await host.sees(shows(smiDocument({ gpus: [{}, {}, {}, {}] })));
    expect(host.standing.map(({ uuid }) => uuid).sort()).toEqual([0, 1, 2, 3].map(smiUuid));
  });

  test("by a process, and not by the driver, is not named", async () => {
    const name = `x</process_name></nvidia_smi_log>${UNREACHABLE("GPU 0000:10:00.0")}`;
    const host = new Host();
    await host.sees(ours({ processes: [{ pid: 7, name }] }, {}));
    expect(host.standing.map(({ block }) => block)).toEqual(["occupied", null]);
  });
});

test("where the driver counts more than it shows and says nothing, its listing tells the numbers", async () => {
  const host = new Host();
  const lines = others.map(({ uuid }, n) => `GPU ${[0, 2, 3][n]}: NVIDIA H100 (UUID: ${uuid})\n`).join("");
  await host.sees({ ...shows(document), listing: shows(lines) });
  expect(host.standing.map(({ index }) => index)).toEqual([0, 2, 3]);
});

test("an exit code alone takes nothing from a document that is whole", async () => {
  const host = new Host();
  const reading = await host.sees({ ...ours({}, {}), exit: 3 });
  expect(reading.warnings.join()).toMatch(/exited with 3/);
  expect(host.standing.map(({ block }) => block)).toEqual([null, null]);
});

test("a recovery action or a state of the fabric that is not known makes a GPU degraded, and is shown", async () => {
  const host = new Host();
  await host.sees(
    ours(
      { recoveryAction: "Sing" },
      { fabricState: "Melted" },
      { fabricHealth: "Odd" },
      { recoveryAction: "Drain P2P" },
    ),
  );
  expect(host.standing.map(({ block, detail }) => [block, detail])).toEqual([
    ["degraded", 'the driver asks for "Sing", which is not known here'],
    ["degraded", 'the NVLink fabric says "Melted", which is not known here'],
    ["degraded", 'the NVLink fabric says "Odd", which is not known here'],
    [null, undefined],
  ]);
  expect(isolationOf(host.state.gpus.values()[3] as never, host.state)?.detail).toBe("the driver asks for: Drain P2P");
});

test("on a GPU for one process a small process counts, and an MPS server alone does not", async () => {
  const host = new Host();
  const processes = (name: string) => [{ pid: 7, name, usedMemoryMib: 40 }];
  const computeMode = "Exclusive_Process";
  await host.sees(
    ours(
      { processes: processes("a.out") },
      { computeMode, processes: processes("a.out") },
      { computeMode, processes: processes("/usr/bin/nvidia-cuda-mps-server") },
    ),
  );
  expect(host.standing.map(({ block }) => block)).toEqual([null, "occupied", null]);
});

test("with persistence mode off the utilisation of an idle GPU is not use, and with memory in use it is", async () => {
  const host = new Host();
  const off = (over: SmiGpu) => ({ utilizationPercent: 97, ...over });
  const text = smiDocument({ gpus: [off({}), off({ memoryUsedMib: 300 })] }).replaceAll(
    "<persistence_mode>Enabled<",
    "<persistence_mode>Disabled<",
  );
  await host.sees(shows(text));
  expect(host.whyQueued(host.submit({ requiredGpus: 2 }))).toMatchObject({
    [smiUuid(0)]: null,
    [smiUuid(1)]: "utilization",
  });
});

test("an error in the place of the memory is no unified memory", async () => {
  const host = new Host({ memoryMib: { H100: 80_000 } });
  await host.sees(
    ours(
      { memoryTotalMib: "Unknown Error", memoryUsedMib: "Unknown Error" },
      { memoryTotalMib: "N/A", memoryUsedMib: "N/A" },
    ),
  );
  expect(host.standing.map(({ block }) => block)).toEqual(["unknown", null]);
});

test("a level that stays for a day without process and use is proposed, and never applied", async () => {
  const host = new Host();
  const idle = (mib: number) => ours({ memoryUsedMib: mib });
  const proposal = () => proposedIdleMib(host.state.sight.gpus.get(smiUuid(0)) as never);
  for (let hour = 0; hour < 24; hour++) {
    await host.sees(idle(9_000 + 10 * hour));
    host.now += seconds(3_600);
    expect(proposal()).toBeNull();
  }
  await host.sees(idle(9_000));
  expect(proposal()).toBe(9_000);
  expect(host.standing).toMatchObject([{ block: "occupied" }]);
  await host.sees(idle(12_000));
  expect(proposal()).toBeNull();
});

describe("accounting buffers that are full", () => {
  const entry =
    "<accounted_process_info><gpu_instance_id>N/A</gpu_instance_id><compute_instance_id>N/A</compute_instance_id>" +
    "<pid>123456</pid><gpu_util>55 %</gpu_util><mem_util>12 %</mem_util><max_memory_usage>1234 MiB</max_memory_usage>" +
    "<time>123456 ms</time><is_running>0</is_running></accounted_process_info>\n";
  const full = (gpus: number, over: SmiGpu = {}) =>
    smiDocument({ gpus: Array.from({ length: gpus }, () => over) }).replaceAll(
      "<accounted_processes></accounted_processes>",
      `<accounted_processes>${entry.repeat(4_000)}</accounted_processes>`,
    );

  test("of 16 GPUs are left out as they come, and the processes are not", async () => {
    const host = new Host();
    const text = full(16, { processes: [{ pid: 7, name: "<accounted_processes>" }] });
    expect(text.length).toBeGreaterThan(16 * 1024 * 1024);
    await host.sees(shows(text));
    expect(host.standing.map(({ block }) => block)).toEqual(Array(16).fill("occupied"));
  });

  test.each(["<accounted_processes>", "<supported_clocks>", "a <b>"])(
    "a name with %s in it hides no process",
    async (name) => {
      const host = new Host();
      const processes = [
        { pid: 7, name: "NAME" },
        { pid: 8, name: "python" },
      ];
      await host.sees(shows(full(1, { processes }).replace("NAME", name)));
      expect(host.standing).toMatchObject([{ block: "occupied" }]);
      expect(host.state.sight.gpus.get(smiUuid(0))?.reading.processes).toMatchObject([{ pid: 7, name }, { pid: 8 }]);
    },
  );

  test("a name that breaks out of its element hides no process", async () => {
    const text = full(1, { processes: [{ pid: 7, name: "NAME" }] }).replace(
      "NAME",
      "x</process_name></process_info></processes><accounted_processes><pid>1</pid><process_name>",
    );
    fake.tell(shows(text));
    expect(await source.probe()).toMatchObject({ ok: false, failure: { kind: "garbled" } });
  });
});
