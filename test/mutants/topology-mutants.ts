/** Bugs of what is known of the GPUs' connections, and of what is made of it. */
import { type Mutant, planted } from "./mutant.ts";

const PARSE = "test/monitor/nvidia-smi/topology.test.ts";
const KNOWN = "test/monitor/nvidia-smi/known-topology.test.ts";
const SOURCE = "test/monitor/nvidia-smi/source.test.ts";
const PLACE = "test/core/allocator/topology.test.ts";

const MATRIX = planted(
  "src/monitor/nvidia-smi/topology.ts",
  [PARSE],
  [
    {
      name: "Half a row at the end of a matrix is read as a whole one",
      find: "  lines.pop();\n",
      replace: "",
    },
    {
      name: "A pair that is connected in two ways is believed",
      find: "links[b]?.[a] === link ? link : null",
      replace: "links[b]?.[a] === undefined ? null : link",
    },
    {
      name: "Without a CPU list the NUMA node is taken for one",
      find: 'cpus = first;\n    others = cells.filter((cell) => cell !== "");',
      replace: '[cpus, ...others] = [first, ...cells].filter((cell) => cell !== "");',
    },
    {
      name: "The number of a GPU that is a NUMA node is taken for that of its CPUs",
      find: "const numa = others.length === header.tail - 1 ? others[0] : undefined;",
      replace: "const numa = others[0];",
    },
  ],
);

const ASKING: readonly Mutant[] = [
  ...planted(
    "src/monitor/nvidia-smi/known-topology.ts",
    [KNOWN],
    [
      {
        name: "Indices that changed while the driver was asked are taken for those before",
        find: "if (lineUpOf(reading) !== this.#askedOf) this.#forget();",
        replace: "",
      },
      {
        name: "GPUs that come and go have the topology asked at every reading",
        find: "const SHORTEST_PAUSE_MS = 60_000;",
        replace: "const SHORTEST_PAUSE_MS = 0;",
      },
      {
        name: "A failed answer takes away what was known",
        find: 'if (typeof answer === "string" || this.#failure !== null) return;',
        replace: 'if (typeof answer === "string" || this.#failure !== null) return this.#forget();',
      },
    ],
  ),
  {
    name: "Every reading waits for the topology, also while the driver hangs over it",
    file: "src/monitor/nvidia-smi/source.ts",
    find: "if (isFirst) await this.#asking;",
    replace: "await this.#asking;",
    tests: [SOURCE],
  },
  {
    name: "The GPUs are read while another nvidia-smi is asked for the topology",
    file: "src/monitor/nvidia-smi/source.ts",
    find: "if (this.#asking !== null) await this.#asking;",
    replace: "",
    tests: [SOURCE],
  },
];

const PLACING: readonly Mutant[] = [
  ...planted(
    "src/core/readings/closeness.ts",
    [PLACE],
    [
      {
        name: "A set counts by its best pairs, however bad its worst",
        find: "within: figures((level) => digit(level)),",
        replace: "within: figures((level) => levels.length - 1 - level),",
      },
      {
        name: "GPUs of different sockets are as close as those of one",
        find: "(areBesideSameCpus(first, second) ? 1 : 0)",
        replace: "0",
      },
      {
        name: "A switch counts more than NVLinks",
        find: "FAR_TO_NEAR.length - 1 + Number",
        replace: "-1 / Number",
      },
    ],
  ),
  ...planted(
    "src/core/allocator/best-set.ts",
    [PLACE],
    [
      {
        name: "A small request breaks the best set that is left",
        find: "return a.across < b.across;",
        replace: "return a.across > b.across;",
      },
      {
        name: "GPUs of which one could stand for the other are taken once",
        find: "if (twin >= 0 && !isIn[twin]) continue;",
        replace: "if (twin >= 0) continue;",
      },
      {
        name: "GPUs with unlike memory are taken one for the other",
        find: " && memoryMib[before] === memoryMib[at]",
        replace: "",
      },
      {
        name: "What is taken in any case is not looked at when the rest is chosen",
        find: "places.map((place) => sumOver(held, closeness.within, place * closeness.width))",
        replace: "places.map(() => 0)",
      },
    ],
  ),
  {
    name: "Connections come before what is preferred",
    file: "src/core/allocator/place.ts",
    find: "const taken = sorted.filter((candidate) => better(candidate, last) < 0);",
    replace: "const taken: Candidate[] = [];",
    tests: [PLACE],
  },
];

const TELLING: readonly Mutant[] = [
  ...planted(
    "src/wire/allocations/bodies.ts",
    ["test/wire/webhooks/bodies.test.ts"],
    [
      {
        name: "A lease names the CPUs beside its first GPU only",
        find: "null : unionOfCpuLists(lists);",
        replace: "null : unionOfCpuLists(lists.slice(0, 1));",
      },
      {
        name: "A lease of which one GPU sits nobody knows where names the CPUs of the others",
        find: "return lists.length < gpus.length ? null :",
        replace: "return lists.length === 0 ? null :",
      },
    ],
  ),
  {
    name: "The CPUs that a client was told of are forgotten by the store",
    file: "src/store/records.ts",
    find: "cpuAffinity: gpu.cpuAffinity,",
    replace: "cpuAffinity: null,",
    tests: ["test/store/store.test.ts"],
  },
];

export const TOPOLOGY_MUTANTS: readonly Mutant[] = [...MATRIX, ...ASKING, ...PLACING, ...TELLING];
