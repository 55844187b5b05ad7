import { describe, expect, test } from "vitest";
import type { GpuReading } from "../../../src/core/model/reading.ts";
import { ailmentsOf } from "../../../src/core/readings/health.ts";
import { MAX_GPUS, MAX_OUTPUT_BYTES, MAX_PROCESS_NAME } from "../../../src/monitor/nvidia-smi/document.ts";
import { parseNvidiaSmi, type SmiDocument } from "../../../src/monitor/nvidia-smi/parse.ts";
import { type SmiGpu, smiDocument, smiPciBusId, smiUuid } from "../../fixtures/nvidia-smi-document.ts";

function read(output: string | Uint8Array): SmiDocument {
  const result = parseNvidiaSmi(output);
  if (!result.ok) throw new Error(`${result.error.kind}: ${result.error.message}`);
  return result.document;
}

function readGpu(gpu: SmiGpu): GpuReading {
  const [only] = read(smiDocument({ gpus: [gpu] })).reading.gpus;
  if (only === undefined) throw new Error("no GPU");
  return only;
}

function errorKind(output: string | Uint8Array): string {
  const result = parseNvidiaSmi(output);
  return result.ok ? "ok" : result.error.kind;
}

const nameOf = (gpu: GpuReading) => gpu.processes[0]?.name;

describe("figures", () => {
  test("a healthy GPU is read whole", () => {
    const gpu = readGpu({ memoryUsedMib: 2048, processes: [{ pid: 4242, name: "train.py", usedMemoryMib: 2000 }] });
    expect(gpu).toEqual({
      uuid: smiUuid(0),
      index: 0,
      minorNumber: 0,
      name: "NVIDIA H100 80GB HBM3",
      serial: null,
      pciBusId: smiPciBusId(0),
      memoryTotalMib: 81559,
      memoryReservedMib: 480,
      memoryUsedMib: 2048,
      memoryFreeMib: 79511,
      utilizationPercent: 0,
      temperatureC: 29,
      powerDrawW: 68.92,
      powerLimitW: 700,
      computeMode: "Default",
      persistenceMode: "Enabled",
      migMode: "Disabled",
      migInstances: [],
      processes: [
        {
          pid: 4242,
          type: "C",
          name: "train.py",
          usedMemoryMib: 2000,
          gpuInstanceId: null,
          computeInstanceId: null,
          origin: null,
        },
      ],
      health: {
        eccMode: "Enabled",
        eccCorrectedVolatile: 0,
        eccCorrectedAggregate: 0,
        eccUncorrectedVolatile: 0,
        eccUncorrectedAggregate: 0,
        sramThresholdExceeded: false,
        repairPending: false,
        retiredPages: null,
        retiredPagesPending: null,
        remappedRowsCorrectable: 0,
        remappedRowsUncorrectable: 0,
        remappedRowsPending: false,
        remappedRowsFailure: false,
        recoveryAction: "None",
        fabricState: null,
        fabricStatus: null,
        fabricHealth: null,
        unrepairableMemory: null,
        license: null,
        slowdown: false,
      },
      errorValues: { display_mode: "Requested functionality has been deprecated" },
    });
  });

  const NO_READING = [
    "N/A",
    "[N/A]",
    "[Not Supported]",
    "Not Supported",
    "Unknown Error",
    "[Unknown Error]",
    "ERR!",
    "GPU is lost",
    "[GPU is lost]",
    "Insufficient Permissions",
    "Requested functionality has been deprecated",
    "",
    null,
    "0",
    "0 KiB",
    "-1 MiB",
    "0x10 MiB",
    "1e3 MiB",
    "0 MiB extra",
    "1,024 MiB",
    "99999999999999999999 MiB",
  ];
  test.each(NO_READING)("%j where a figure should stand is no reading, never 0", (word) => {
    const gpu = readGpu({
      memoryTotalMib: word,
      memoryUsedMib: word,
      memoryFreeMib: word,
      utilizationPercent: word,
      temperatureC: word,
      powerDrawW: word,
      powerLimitW: word,
      eccAggregate: word === "0" ? "zero" : word,
      eccVolatile: word === "0" ? "zero" : word,
      minorNumber: word === "0" ? "zero" : word,
      processes: [{ pid: 1, usedMemoryMib: word, gpuInstanceId: word === "0" ? "zero" : word }],
    });
    expect(gpu).toMatchObject({
      memoryTotalMib: null,
      memoryUsedMib: null,
      memoryFreeMib: null,
      utilizationPercent: null,
      temperatureC: null,
      powerDrawW: null,
      powerLimitW: null,
      minorNumber: null,
      health: { eccUncorrectedAggregate: null, eccUncorrectedVolatile: null },
    });
    expect(gpu.processes).toMatchObject([{ pid: 1, usedMemoryMib: null, gpuInstanceId: null }]);
  });

  test("a reset that drivers before 570 ask for in flags is the same as the action of later ones", () => {
    const flags = (required: string, drain: string) =>
      `<gpu_reset_status><reset_required>${required}</reset_required>` +
      `<drain_and_reset_recommended>${drain}</drain_and_reset_recommended></gpu_reset_status>`;
    const action = (recoveryAction: string | null, extraXml: string) =>
      readGpu({ recoveryAction, extraXml }).health.recoveryAction;
    expect(action(null, flags("Yes", "Yes"))).toBe("Reset");
    expect(action(null, flags("No", "Yes"))).toBe("Drain and Reset");
    expect(action(null, flags("No", "No"))).toBeNull();
    expect(action("None", flags("Requested functionality has been deprecated", "N/A"))).toBe("None");
  });

  test("repairs, exceeded thresholds and the fabric's health are read where they stand", () => {
    const { health } = readGpu({
      repairPending: "Yes",
      sramThresholdExceeded: "Yes",
      fabricHealth: "Limited Capacity",
    });
    expect(health).toMatchObject({
      repairPending: true,
      sramThresholdExceeded: true,
      fabricHealth: "Limited Capacity",
    });
    const broken = { fabricHealth: null, extraXml: "" };
    expect(readGpu({ ...broken }).health.fabricHealth).toBeNull();
  });

  test("words for an error are listed with their path; words for nothing are not", () => {
    const gpu = readGpu({ memoryUsedMib: "GPU is lost", temperatureC: "N/A", powerDrawW: "[Unknown Error]" });
    expect(gpu.errorValues).toEqual({
      display_mode: "Requested functionality has been deprecated",
      "fb_memory_usage/used": "GPU is lost",
      "gpu_power_readings/instant_power_draw": "[Unknown Error]",
    });
  });

  test("a figure that stands twice is no reading", () => {
    const document = smiDocument({ gpus: [{}] }).replace(
      "<gpu_util>0 %</gpu_util>",
      "<gpu_util>0 %</gpu_util>".repeat(2),
    );
    expect(read(document).reading.gpus[0]?.utilizationPercent).toBeNull();
  });

  test("leaf names under other parents are not mistaken for the GPU's own", () => {
    const document = smiDocument({ gpus: [{ memoryTotalMib: null, memoryUsedMib: null, memoryFreeMib: null }] });
    expect(document).toContain("<total>131072 MiB</total>");
    expect(read(document).reading.gpus[0]).toMatchObject({ memoryTotalMib: null, memoryUsedMib: null });
  });

  test("heat that slows the clocks is told", () => {
    expect(readGpu({ hwThermalSlowdown: "Active" }).health.slowdown).toBe(true);
  });

  test("MIG instances are read, and one without its ids is left out with a warning", () => {
    const { reading } = read(
      smiDocument({
        gpus: [
          {
            migMode: "Enabled",
            migDevices: [
              { index: 0, gpuInstanceId: 2, computeInstanceId: 0, memoryTotalMib: 40448, memoryUsedMib: 11091 },
              { index: 1, gpuInstanceId: "GPU is lost", computeInstanceId: 0 },
            ],
          },
        ],
      }),
    );
    expect(reading.gpus[0]?.migInstances).toEqual([
      {
        index: 0,
        uuid: null,
        profile: null,
        gpuInstanceId: 2,
        computeInstanceId: 0,
        memoryTotalMib: 40448,
        memoryUsedMib: 11091,
        multiprocessorCount: 16,
      },
    ]);
    expect(reading.gpus[0]?.errorValues).toHaveProperty("mig_devices/mig_device[1]/gpu_instance_id", "GPU is lost");
    expect(reading.warnings).toEqual(["GPU 0 has a MIG instance without its ids; it is left out"]);
  });

  test("a process whose pid cannot be read costs its GPU the reading, and no other", () => {
    const [sick, well] = read(smiDocument({ gpus: [{ processes: [{ pid: "N/A" }, { pid: 7 }] }, {}] })).reading.gpus;
    expect(sick).toMatchObject({ processes: [{ pid: 7 }], errorValues: { "processes/process_info/pid": "N/A" } });
    expect(ailmentsOf(sick as GpuReading, new Map())).toMatchObject([{ block: "unknown" }, { block: "occupied" }]);
    expect(well?.errorValues).not.toHaveProperty("processes/process_info/pid");
  });
});

describe("the document among other text", () => {
  const first = smiDocument({ gpus: [{ name: "first" }] });
  const second = smiDocument({ gpus: [{ name: "second" }, {}] });
  const names = (output: string) => read(output).reading.gpus.map((gpu) => gpu.name);

  test("the last complete document counts", () => {
    expect(names(first + second)).toEqual(["second", "NVIDIA H100 80GB HBM3"]);
    expect(names(second + first)).toEqual(["first"]);
    expect(names(first + second.slice(0, -20))).toEqual(["first"]);
    expect(names(second.slice(0, -20) + first)).toEqual(["first"]);
  });

  test("text around it is ignored", () => {
    expect(names(`WARNING: something\n${first}\nWARNING: infoROM is corrupted at gpu 0008:00:00.0\n`)).toEqual([
      "first",
    ]);
  });

  test("a DTD inside the document type and comments are ignored", () => {
    const dtd = '<!DOCTYPE nvidia_smi_log [\n<!ELEMENT nvidia_smi_log (gpu*)>\n<!ENTITY lol "lol">\n]>';
    const document = first
      .replace(/<!DOCTYPE[^>]*>/, dtd)
      .replace("<uuid>", '<!-- <gpu id="x"> <uuid>GPU-comment</uuid> -->\n<uuid>');
    expect(read(document).reading.gpus.map((gpu) => gpu.uuid)).toEqual([smiUuid(0)]);
  });

  test("an element without content may be written in one", () => {
    expect(names(first.replace("<processes></processes>", "<processes />"))).toEqual(["first"]);
  });

  test.each([
    ["", "empty"],
    [" \n\t", "empty"],
    ["No devices were found\n", "no-document"],
    [first.slice(0, -3), "unfinished"],
    ['<?xml version="1.0" ?>\n', "unfinished"],
    ["</nvidia_smi_log>", "no-document"],
    ["<nvidia_smi_logger></nvidia_smi_log>", "unfinished"],
  ])("%j is no document", (output, kind) => {
    expect(errorKind(output)).toBe(kind);
  });

  test("a document without GPUs is read as such", () => {
    expect(read(smiDocument({ gpus: [] }))).toMatchObject({ attachedGpus: 0, reading: { gpus: [] } });
  });
});

describe("identity", () => {
  test("the index is the order of appearance, not the minor number", () => {
    const { gpus } = read(smiDocument({ gpus: [{ minorNumber: 3 }, { minorNumber: 0 }] })).reading;
    expect(gpus.map(({ index, minorNumber }) => [index, minorNumber])).toEqual([
      [0, 3],
      [1, 0],
    ]);
  });

  test.each([null, "N/A", "GPU is lost", "Unknown Error", ""])(
    "a GPU with the UUID %j goes by its PCI address",
    (uuid) => {
      const { gpus, warnings } = read(smiDocument({ gpus: [{}, { uuid }] })).reading;
      expect(gpus.map((gpu) => gpu.uuid)).toEqual([smiUuid(0), smiPciBusId(1)]);
      expect(warnings).toEqual([`GPU 1 has no UUID; it is known by its PCI address ${smiPciBusId(1)}`]);
    },
  );

  test("GPUs that share a UUID go by their PCI addresses", () => {
    const { gpus, warnings } = read(smiDocument({ gpus: [{ uuid: "GPU-x" }, { uuid: "GPU-x" }, {}] })).reading;
    expect(gpus.map((gpu) => gpu.uuid)).toEqual([smiPciBusId(0), smiPciBusId(1), smiUuid(2)]);
    expect(warnings).toHaveLength(2);
  });

  test("a UUID of any look will do, as long as it is unique", () => {
    expect(readGpu({ uuid: "GPU-22c2-older-and-longer-0000" }).uuid).toBe("GPU-22c2-older-and-longer-0000");
  });

  test("a GPU that has no name of its own at all spoils the document", () => {
    expect(errorKind(smiDocument({ gpus: [{ uuid: null, pciBusId: null }] }))).toBe("no-identity");
    const address = smiPciBusId(0);
    const twins = [
      { uuid: null, pciBusId: address },
      { uuid: null, pciBusId: address },
    ];
    expect(errorKind(smiDocument({ gpus: twins }))).toBe("no-identity");
  });
});

describe("hostile text", () => {
  test.each([
    "</process_name></process_info></processes></gpu></nvidia_smi_log>",
    '<gpu id="forged"><uuid>GPU-forged</uuid></gpu>',
    "a & b &amp; &lt;c&gt; &#65; &nbsp; &lol;",
    "<!-- ",
    "<![CDATA[",
    "<supported_clocks>",
    "  padded  ",
    "",
    "GPU is lost",
    "No devices were found",
    "é 漢字 🚀 \u202E",
  ])("a process that calls itself %j is shown under that name and changes nothing else", (name) => {
    const gpu = readGpu({ processes: [{ pid: 7, name }, { pid: 8 }] });
    expect(gpu).toEqual({
      ...readGpu({ processes: [{ pid: 7, name: "x" }, { pid: 8 }] }),
      processes: [expect.objectContaining({ pid: 7, name }), expect.objectContaining({ pid: 8, name: "python3" })],
    });
  });

  test.each([
    "a <b> & </gpu> <gpu>",
    "<pid>1</pid>",
    "a && b",
    "</process_info>",
    "<supported_clocks>",
    "</nvidia_smi_log>",
    "<!-- x",
    "&lol;",
  ])("so is one that calls itself %j where the driver does not escape", (name) => {
    const document = smiDocument({ gpus: [{ processes: [{ pid: 7, name }] }, {}], unescapedNames: true });
    const { gpus } = read(document).reading;
    expect(gpus).toHaveLength(2);
    expect(gpus[0]?.processes).toEqual([expect.objectContaining({ pid: 7, name })]);
  });

  test.each([
    "x</process_name><used_memory>0 MiB</used_memory></process_info><process_info><process_name>y",
    "<nvidia_smi_log>",
    "x</process_name></process_info></processes></gpu><gpu><processes><process_info><process_name>",
  ])("one that forges elements with %j spoils the document where the driver does not escape", (name) => {
    const document = smiDocument({ gpus: [{ processes: [{ pid: 7, name }] }], unescapedNames: true });
    expect(errorKind(document)).not.toBe("ok");
  });

  test("references are decoded once, and only those that XML defines", () => {
    const document = smiDocument({ gpus: [{ processes: [{ pid: 1, name: "@" }] }] });
    const named = (name: string) => read(document.replace(">@<", `>${name}<`)).reading.gpus.map(nameOf);
    expect(named("&lt;&gt;&amp;&quot;&apos;")).toEqual([`<>&"'`]);
    expect(named("&#65;&#x42;&#x1F680;")).toEqual(["AB🚀"]);
    expect(named("&amp;lt;")).toEqual(["&lt;"]);
    expect(named("&nbsp;&lol;&LT;&#0;&#xD800;&#x110000;&#99999999;&")).toEqual([
      "&nbsp;&lol;&LT;&#0;&#xD800;&#x110000;&#99999999;&",
    ]);
  });

  test("a name whose bytes are not UTF-8 is no reading, and the rest is read", () => {
    const document = Buffer.from(smiDocument({ gpus: [{ processes: [{ pid: 1, name: "@@@@" }] }, {}] }), "utf8");
    document.fill(0xff, document.indexOf("@@@@"), document.indexOf("@@@@") + 4);
    const { gpus } = read(document).reading;
    expect(gpus.map((gpu) => gpu.processes)).toEqual([[expect.objectContaining({ pid: 1, name: null })], []]);
  });

  test("megabytes of process name are cut", () => {
    const document = smiDocument({ gpus: [{ processes: [{ pid: 1, name: "&".repeat(1_000_000) }] }] });
    expect(read(document).reading.gpus.map(nameOf)).toEqual(["&".repeat(MAX_PROCESS_NAME)]);
  });

  test("output beyond its bound is refused unread", () => {
    expect(errorKind(new Uint8Array(MAX_OUTPUT_BYTES + 1))).toBe("too-large");
    expect(errorKind("x".repeat(MAX_OUTPUT_BYTES + 1))).toBe("too-large");
    expect(errorKind(smiDocument({ gpus: [{ extraXml: `<x>${"y".repeat(2_000_000)}</x>` }] }))).toBe("too-large");
  });

  test("a process that stands outside of all GPUs, or in another one, is not overlooked", () => {
    const stray = "<process_info><pid>1</pid></process_info>";
    const document = smiDocument({ gpus: [{ processes: [{ pid: 7 }] }] });
    expect(errorKind(document.replace("</nvidia_smi_log>", `${stray}</nvidia_smi_log>`))).toBe("malformed");
    expect(errorKind(document.replace("<pid>", `${stray}<pid>`))).toBe("malformed");
  });

  test("a document type or an instruction inside of the document is refused", () => {
    const document = smiDocument({ gpus: [{}] });
    for (const inside of ['<!DOCTYPE x [<!ENTITY a "0 MiB">]>', "<?php echo 1 ?>"]) {
      expect(errorKind(document.replace("<used>", `${inside}<used>`))).toBe("malformed");
    }
  });

  test("as many GPUs as allowed are read, and one more is refused", () => {
    const gpus = Array.from({ length: MAX_GPUS + 1 }, () => ({}));
    expect(errorKind(smiDocument({ gpus }))).toBe("too-many-gpus");
    expect(read(smiDocument({ gpus: gpus.slice(1) })).reading.gpus).toHaveLength(MAX_GPUS);
  });

  test.each([
    ["deep nesting", "<a>".repeat(5_000) + "</a>".repeat(5_000)],
    ["an end without a beginning", "</a>"],
    ["a beginning without an end", "<a>"],
    ["a tag that JavaScript reserves", "<__proto__><polluted>yes</polluted></__proto__>"],
    ["another", "<constructor><prototype>x</prototype></constructor>"],
    ["a GPU inside a GPU", "<gpu></gpu>"],
  ])("%s is refused", (_, extraXml) => {
    expect(errorKind(smiDocument({ gpus: [{ extraXml }] }))).toBe("malformed");
    expect(Object.prototype).not.toHaveProperty("polluted");
  });

  test("tags named like methods are tags", () => {
    expect(readGpu({ extraXml: "<hasOwnProperty>GPU is lost</hasOwnProperty><toString>1</toString>" }).uuid).toBe(
      smiUuid(0),
    );
  });

  test("what an error says is one bounded line without control characters", () => {
    const result = parseNvidiaSmi(`\u001b[31mred\u0007\r\nforged: line\u2028\u202E${"x".repeat(5000)}`);
    expect(result.ok).toBe(false);
    const message = result.ok ? "" : result.error.message;
    expect(message).toContain("[31mred forged: line");
    expect(message).not.toMatch(/[\p{Cc}\p{Cf}\p{Zl}]/u);
    expect(message.length).toBeLessThanOrEqual(300);
  });
});
