import { describe, expect, test } from "vitest";
import { parseCpuList } from "../../../src/core/base/cpu-list.ts";
import type { GpuLink } from "../../../src/core/model/device.ts";
import { parseTopology, type SmiTopology } from "../../../src/monitor/nvidia-smi/topology.ts";
import { hasCases, readCase } from "../../cases/shared-case.ts";
import fc from "../../fc.ts";
import { smiTopology } from "../../fixtures/nvidia-smi-topology.ts";
import { hasTopologies, readTopology } from "./topologies.ts";

/** Damaged variants that are tried per text. Raise it for a longer search. */
const VARIANTS = Number(process.env.FUZZ_VARIANTS ?? 2_000);

function read(output: string | Uint8Array): SmiTopology | null {
  const result = parseTopology(output);
  if (!result.ok && result.error.message === "") throw new Error("an error that says nothing");
  return result.ok ? result.topology : null;
}

function problem(output: string | Uint8Array) {
  const result = parseTopology(output);
  return result.ok ? null : result.error;
}

interface Expected {
  readonly gpus: number;
  readonly link: (a: number, b: number) => GpuLink;
  readonly numa: (gpu: number) => readonly number[];
  readonly cpus: (gpu: number) => string | null;
}

const DGX1 = ["NV1 NV1 NV2 NV2 SYS SYS SYS", "NV2 NV1 SYS NV2 SYS SYS", "NV2 SYS SYS NV1 SYS", "SYS SYS SYS NV1"];
const DGX1_OTHER_HALF = ["NV1 NV1 NV2", "NV2 NV1", "NV2"];

/** As read from the files by eye. */
const FIXTURES: { readonly [name: string]: Expected } = {
  "2gpu-nv2": { gpus: 2, link: () => "NV2", numa: () => [], cpus: () => "0-23" },
  "2x1080ti-phb": { gpus: 2, link: () => "PHB", numa: () => [], cpus: () => "0-11" },
  "2x3090-nv4": { gpus: 2, link: () => "NV4", numa: () => [0], cpus: () => "4,6,9,15,17" },
  "4gpu-2nic": { gpus: 4, link: () => "SYS", numa: () => [0], cpus: () => "0-127" },
  "4xh100-nv6-nic": {
    gpus: 4,
    link: () => "NV6",
    numa: (gpu) => [[3, 1, 7, 5][gpu] as number],
    cpus: (gpu) => ["6,14,22,30", "4,12,20,28", "7,15,23,31", "5,13,21,29"][gpu] as string,
  },
  "5gpu-pcie-node-phb-tabs": {
    gpus: 5,
    link: (a, b) => (a === 3 && b === 4 ? "PHB" : "NODE"),
    numa: () => [0],
    cpus: () => "0-63",
  },
  "8x4090-pcie-sys-nic-tabs": {
    gpus: 8,
    link: () => "SYS",
    numa: (gpu) => [gpu < 4 ? 0 : 1],
    cpus: (gpu) => (gpu < 4 ? "0-55,112-167" : "56-111,168-223"),
  },
  "8xa100-nv12-17nic": { gpus: 8, link: () => "NV12", numa: () => [0], cpus: () => "0-103" },
  "8xa100-nv12-reformatted": {
    gpus: 8,
    link: () => "NV12",
    numa: (gpu) => [gpu < 4 ? 0 : 1],
    cpus: (gpu) => (gpu < 4 ? "0-23" : "24-47"),
  },
  "8xa100-pcie-nv12-pairs-cut-affinity": {
    gpus: 8,
    link: (a, b) => (a % 2 === 0 && b === a + 1 ? "NV12" : "NODE"),
    numa: (gpu) => [gpu < 4 ? 0 : 1],
    cpus: (gpu) => (gpu < 4 ? "0-15,56-71" : null),
  },
  "8xh100-nv18-no-nic": {
    gpus: 8,
    link: () => "NV18",
    numa: (gpu) => [gpu < 4 ? 0 : 1],
    cpus: (gpu) => (gpu < 4 ? "0-51,104-155" : "52-103,156-207"),
  },
  "8xh100-nv18-reformatted": {
    gpus: 8,
    link: () => "NV18",
    numa: (gpu) => [gpu < 4 ? 0 : 1],
    cpus: (gpu) => (gpu < 4 ? "0-51" : "52-103"),
  },
  "dgx1-v100-nv1nv2-mlx": {
    gpus: 8,
    link: (a, b) => [...DGX1, ...DGX1_OTHER_HALF][a]?.split(" ")[b - a - 1] as GpuLink,
    numa: () => [],
    cpus: (gpu) => (gpu < 4 ? "0-19,40-59" : "20-39,60-79"),
  },
  "single-h200-590-ansi": { gpus: 1, link: () => "SYS", numa: () => [0], cpus: () => "0-23" },
  "single-rtx2080s-610-ansi": { gpus: 1, link: () => "SYS", numa: () => [0], cpus: () => "0-23" },
};

function expectedOf({ gpus, link, numa, cpus }: Expected): SmiTopology {
  const all = Array.from({ length: gpus }, (_, gpu) => gpu);
  return {
    gpus: all.map((gpu) => ({ numaNodes: numa(gpu), cpuAffinity: cpus(gpu) })),
    links: all.map((a) => all.map((b) => (a === b ? null : link(Math.min(a, b), Math.max(a, b))))),
  };
}

const SELF_MADE: { readonly [name: string]: string } = {
  "two GPUs without a legend": smiTopology({ gpus: 2, link: () => "PIX", legend: false }),
  "four with NICs, escape sequences and an empty CPU cell": smiTopology({
    gpus: 4,
    link: (a, b) => (b === a + 1 ? "NV4" : "SYS"),
    nics: ["mlx5_0", "mlx5_bond_0"],
    ansi: true,
    cpus: (gpu) => (gpu < 2 ? "0-7,16-23" : ""),
  }),
};

const texts: readonly (readonly [name: string, text: string])[] = [
  ...Object.entries(SELF_MADE),
  ...(hasTopologies ? Object.keys(FIXTURES).map((name) => [name, readTopology(name)] as const) : []),
];

describe("a matrix", () => {
  test.skipIf(!hasTopologies).each(Object.entries(FIXTURES))(
    "of a real host, %s, is read as it stands",
    (name, host) => {
      expect(read(readTopology(name))).toEqual(expectedOf(host));
      expect(read(Buffer.from(readTopology(name), "utf8"))).toEqual(expectedOf(host));
    },
  );

  test.each([1, 2, 8, 16, 64])("of %i GPUs is read whole", (gpus) => {
    const link = (a: number, b: number) => (["PIX", "PXB", "PHB", "NODE", "SYS", "NV3"] as const)[(a * 7 + b) % 6];
    const topology = read(smiTopology({ gpus, link: (a, b) => link(a, b) as string }));
    for (let a = 0; a < gpus; a++) {
      for (let b = 0; b < gpus; b++) {
        expect(topology?.links[a]?.[b]).toBe(a === b ? null : link(Math.min(a, b), Math.max(a, b)));
      }
    }
  });

  test("that was copied with other line breaks, or stands among other lines, is the same", () => {
    const text = smiTopology({ gpus: 4, nics: ["mlx5_0"], ansi: true });
    const expected = read(text);
    expect(expected).not.toBeNull();
    expect(read(text.replaceAll("\n", "\r\n"))).toEqual(expected);
    expect(read(`WARNING: persistence mode is off\n${text}`)).toEqual(expected);
    expect(read(`${text}WARNING: infoROM is corrupted at gpu 0008:00:00.0\n`)).toEqual(expected);
  });

  test("with a NUMA range, single CPUs or N/A says just that", () => {
    const numas = ["6-7", "0,2", "N/A", "", "x", "99999"];
    const cpus = ["3", "8-11,1,2,0", "N/A", "", "7-3", "1,,2"];
    const topology = read(smiTopology({ gpus: 6, cpus: (gpu) => cpus[gpu] ?? "", numa: (gpu) => numas[gpu] ?? "" }));
    expect(topology?.gpus.map(({ numaNodes }) => numaNodes)).toEqual([[6, 7], [0, 2], [], [], [], []]);
    expect(topology?.gpus.map(({ cpuAffinity }) => cpuAffinity)).toEqual(["3", "0-2,8-11", null, null, null, null]);
  });

  test("without a CPU cell does not take the NUMA node for a CPU, nor the other way round", () => {
    const noCpus = read(smiTopology({ gpus: 2, cpus: () => "", numa: () => "1" }));
    expect(noCpus?.gpus[0]).toEqual({ numaNodes: [1], cpuAffinity: null });
    const noNuma = read(smiTopology({ gpus: 2, cpus: () => "5", numa: () => "" }));
    expect(noNuma?.gpus[0]).toEqual({ numaNodes: [], cpuAffinity: "5" });
    // A GPU that is a NUMA node of its own: its number is not that of the CPUs beside it.
    const text = smiTopology({ gpus: 2, numa: () => "" }).replaceAll("\tN/A", "\t8");
    expect(read(text)?.gpus[0]?.numaNodes).toEqual([]);
  });
});

describe("what is no matrix is told apart by kind", () => {
  const whole = smiTopology({ gpus: 2, link: () => "PIX", legend: false });

  test.each([
    ["nothing", "", "empty"],
    ["blanks", " \n\t\n", "empty"],
    ["words", "Failed to initialize NVML: Unknown Error\n", "no-document"],
    ["a document of another kind", '<?xml version="1.0" ?>\n<nvidia_smi_log>\n', "no-document"],
    ["a head alone", whole.slice(0, whole.indexOf("\n") + 1), "unfinished"],
    ["a row without its line break", whole.slice(0, -1), "unfinished"],
    ["rows in another order", whole.replace("GPU0\t X", "GPU1\t X"), "malformed"],
    ["a row too many", whole.replace("\tGPU1\tCPU", "\tCPU"), "malformed"],
    ["a row too few", whole.replace("\tGPU1\tCPU", "\tGPU1\tGPU2\tCPU"), "unfinished"],
    ["an empty cell", whole.replace(" X \tPIX", " X \t"), "malformed"],
    ["a connection that is none", whole.replaceAll("PIX", "PXI"), "malformed"],
    ["NVLinks without a number", whole.replaceAll("PIX", "NV"), "malformed"],
    ["no NVLinks", whole.replaceAll("PIX", "NV0"), "malformed"],
    ["a GPU that is not itself", whole.replace(" X ", "PIX"), "malformed"],
    ["a pair connected in two ways", whole.replace("PIX", "PXB"), "malformed"],
    ["more cells than columns", whole.replace("N/A", "N/A\tN/A"), "malformed"],
    [
      "columns in another order",
      whole.replace("CPU Affinity\tNUMA Affinity", "NUMA Affinity\tCPU Affinity"),
      "malformed",
    ],
    ["two matrices", whole + whole, "malformed"],
    ["more GPUs than hosts have", smiTopology({ gpus: 65 }), "too-many-gpus"],
    ["more text than any host prints", "x".repeat(2 ** 20 + 1), "too-large"],
  ])("%s", (_, text, kind) => {
    expect(problem(text)).toMatchObject({ kind });
  });

  test
    .skipIf(!hasTopologies)
    .each(["p2p-2x3090-ok", "p2p-2x5090-gns-tabs", "p2p-2xl4-cns", "p2p-4gpu-ns", "p2p-5gpu-ok-tabs", "p2p-8gpu-ok"])(
    "the peer access of %s, which looks like a matrix",
    (name) => {
      expect(problem(readTopology(name))?.kind).toBe("malformed");
    },
  );

  test("and nothing of hostile text comes through but one bounded line without control characters", () => {
    const hostile = "\u001b[2J\u0007\u202E<script>\n".repeat(10_000);
    for (const text of [
      hostile,
      `\tGPU0\t${hostile}`,
      smiTopology({ gpus: 2 }).replaceAll("NV18", "\u001b]0;x\u0007"),
    ]) {
      const message = problem(text)?.message ?? "";
      expect(message.length).toBeGreaterThan(0);
      expect(message.length).toBeLessThanOrEqual(300);
      expect(message).not.toMatch(/[\p{Cc}\p{Cf}]/u);
    }
  });
});

describe("damage", () => {
  test.each(texts)("%s, cut anywhere, gives an error or the whole truth", (_, text) => {
    const whole = JSON.stringify(read(text));
    let complete = 0;
    for (let cut = 0; cut <= text.length; cut++) {
      const found = read(text.slice(0, cut));
      if (found === null) continue;
      complete++;
      if (JSON.stringify(found) !== whole) expect.fail(`cut at ${cut}: ${JSON.stringify(found)}`);
    }
    expect(complete).toBeGreaterThan(0);
  });

  test.each(texts)("%s with one byte changed never shows another link, but one that is not known", (_, text) => {
    const whole = read(text) as SmiTopology;
    let seen = 0;
    fc.assert(
      fc.property(fc.nat(text.length - 1), fc.nat(255), (at, byte) => {
        const bytes = Buffer.from(text, "utf8");
        bytes[at] = byte;
        const found = read(bytes);
        if (found === null) return;
        seen++;
        expect(found.links.length).toBe(whole.links.length);
        for (const [a, row] of found.links.entries()) {
          for (const [b, link] of row.entries()) expect([whole.links[a]?.[b], null]).toContain(link);
        }
        expectSaid(found, whole, bytes.toString("utf8"));
      }),
      { numRuns: VARIANTS },
    );
    expect(seen).toBeGreaterThan(0);
  });

  const scraps = [
    "\t",
    " ",
    "\n",
    "GPU0",
    "GPU1",
    "\tGPU0\t",
    "X",
    "SYS",
    "NV18",
    "N/A",
    "0",
    "CPU Affinity",
    "\u001b[0m",
  ];
  const anyDamage = fc.oneof(
    fc.record({ at: fc.nat(), lost: fc.nat(60), put: fc.constant("") }),
    fc.record({ at: fc.nat(), lost: fc.nat(3), put: fc.constantFrom(...scraps) }),
    fc.record({ at: fc.nat(), lost: fc.nat(1), put: fc.string({ unit: "binary", maxLength: 4 }) }),
  );

  test.each(texts)("%s with parts lost, put in or repeated gives an error, or what stands there", (_, text) => {
    const whole = read(text) as SmiTopology;
    fc.assert(
      fc.property(fc.array(anyDamage, { minLength: 1, maxLength: 4 }), (damages) => {
        let damaged = text;
        for (const { at, lost, put } of damages) {
          const place = at % (damaged.length + 1);
          damaged = damaged.slice(0, place) + put + damaged.slice(place + lost);
        }
        const found = read(damaged);
        if (found === null) return;
        expect(found.links.length).toBe(found.gpus.length);
        for (const row of found.links) expect(row.length).toBe(found.gpus.length);
        // Fewer GPUs than before only where the head itself names fewer: the source compares with its reading.
        if (found.gpus.length === whole.gpus.length) expectSaid(found, whole, damaged);
      }),
      { numRuns: VARIANTS },
    );
  });

  /** Every CPU list and NUMA node is the true one, or stands in that GPU's row. */
  function expectSaid(found: SmiTopology, whole: SmiTopology, text: string): void {
    // biome-ignore lint/suspicious/noControlCharactersInRegex: it is what is looked for.
    const lines = text.replace(/\u001b\[[0-9;]*[A-Za-z]/g, "").split(/\r?\n/);
    for (const [index, gpu] of found.gpus.entries()) {
      const row = lines.find((line) => line.startsWith(`GPU${index}`)) ?? "";
      const said = row.split(/[ \t]+/).map((word) => JSON.stringify(parseCpuList(word)));
      const { numaNodes, cpuAffinity } = gpu;
      if (cpuAffinity !== null && cpuAffinity !== whole.gpus[index]?.cpuAffinity) {
        expect(said).toContain(JSON.stringify(parseCpuList(cpuAffinity)));
      }
      if (numaNodes.length > 0 && JSON.stringify(numaNodes) !== JSON.stringify(whole.gpus[index]?.numaNodes)) {
        expect(said).toContain(JSON.stringify(parseCpuList(numaNodes.join(","))));
      }
    }
  }
});

describe("a cell of which nothing can be made costs its link, and nothing else", () => {
  const four = smiTopology({ gpus: 4 });

  test("a word that is not known, on one side or both", () => {
    const rows = four.split("\n");
    const strange = rows.map((row, n) => (n === 1 ? row.replace("NV18", "WARP9") : row)).join("\n");
    const links = (read(strange) as SmiTopology).links;
    expect(links[0]?.[1]).toBeNull();
    expect(links[1]?.[0]).toBeNull();
    expect(links[0]?.[2]).toBe("NV18");
    expect(links[2]?.[3]).toBe("NV18");
  });

  test("SOC is what SYS was called once", () => {
    expect((read(four.replaceAll("NV18", "SOC")) as SmiTopology).links[0]).toEqual([null, "SYS", "SYS", "SYS"]);
  });

  test.skipIf(!hasCases).each([
    ["4xk80-soc", 4, "PIX", "SYS"],
    ["4gpu-nv1nv2-mlx", 4, "NV1", "NV2"],
    ["4gpu-nv3-pairs-4mlx", 4, "NV3", "SYS"],
    ["dgx2-16gpu-nv6", 16, "NV6", "NV6"],
    ["8xh20-26nic", 8, "NV18", "NV18"],
    ["gb200-4gpu-blanks", 4, "NV18", "NV18"],
    ["gb200-4gpu-numa-lists", 4, "NV18", "NV18"],
  ])("the public case %s (read from ../shared)", (name, gpus, second, last) => {
    const found = read(readCase(`topology/${name}.txt`)) as SmiTopology;
    expect(found.gpus).toHaveLength(gpus);
    expect([found.links[0]?.[1], found.links[0]?.[gpus - 1]]).toEqual([second, last]);
  });
});
