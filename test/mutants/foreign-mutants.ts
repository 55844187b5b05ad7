/** Bugs in what is made of those who use GPUs without a lease, and in the reader of what the driver prints. */
import { type Mutant, planted } from "./mutant.ts";

const FOREIGN = "test/core/decisions/observe/foreign-use.test.ts";

const EPISODES = planted(
  "src/core/decisions/observe/foreign-use.ts",
  [FOREIGN],
  [
    {
      name: "Foreign use is told at its first reading",
      find: "if (seen.foreignReadings < policy.foreignUseReadings) return null;",
      replace: "if (seen.foreignReadings < 1) return null;",
    },
    {
      name: "Foreign use is told with every reading",
      find: 'policy.foreignUse === "exclude" || foreignSince !== null ||',
      replace: 'policy.foreignUse === "exclude" ||',
    },
    {
      name: "A GPU that cannot be read ends the foreign use of it",
      find: "if (seen === undefined || memoryInUseMib(seen.reading) === null || seen.foreignReadings > 0) return null;",
      replace: "if (seen !== undefined && seen.foreignReadings > 0) return null;",
    },
  ],
);

const FORGOTTEN = planted(
  "src/core/decisions/observe/forgotten.ts",
  ["test/core/decisions/observe/forgotten.test.ts"],
  [
    {
      name: "GPUs that a driver names anew at every reading are all remembered",
      find: "if (sight.missing.size <= MAX_ABSENT_GPUS) return [];",
      replace: "if (sight.missing.size >= 0) return [];",
    },
    {
      name: "A leased GPU that has been missing longest is forgotten",
      find: 'cordon === null && (hold.kind === "free" || hold.kind === "quarantined")',
      replace: 'cordon === null && hold.kind !== "reclaiming"',
    },
    {
      name: "The GPUs that went missing last are forgotten first",
      find: "since(a) - since(b) ||",
      replace: "since(b) - since(a) ||",
    },
  ],
);

const ADOPTION = planted(
  "src/core/decisions/adopt.ts",
  [FOREIGN],
  [
    {
      name: "What an adopted process uses counts as what was there before it",
      find: "[{ gpu, baselineMib: 0 }]",
      replace: "[{ gpu, baselineMib: sight.reading.memoryUsedMib ?? 0 }]",
    },
    {
      name: "A GPU of which its holder's process is seen can be adopted",
      find: 'if (gpu.hold.kind !== "free") throw',
      replace: 'if (gpu.hold.kind === "reclaiming") throw',
    },
    {
      name: "A process of another lease can be adopted",
      find: "const foreign = there.filter(({ pid }) => !owners.has(pid));",
      replace: "const foreign = there.filter(({ pid }) => pid > 0 || !owners.has(pid));",
    },
    {
      name: "An adopted use ends unseen, within the second",
      find: '    { type: "use-seen", uuid: gpu.uuid, allocationId: id, at: now },\n',
      replace: "",
    },
  ],
);

const GHOSTS: readonly Mutant[] = [
  {
    name: "A GPU that is busy for nobody is free again with the next reading, busy as it is",
    file: "src/core/decisions/observe/observe.ts",
    find: "reading.memoryTotalMib === null || isGhost(reading)) return false;",
    replace: "reading.memoryTotalMib === null) return false;",
    tests: [FOREIGN],
  },
  {
    name: "What the driver itself does with persistence mode off counts as a ghost",
    file: "src/core/readings/use.ts",
    find: ' || persistenceMode === "Disabled") return false;',
    replace: " || persistenceMode === null) return false;",
    tests: [FOREIGN],
  },
];

const GRANTS = "test/monitor/nvidia-smi/grants.test.ts";
const PARSE = "test/monitor/nvidia-smi/parse.test.ts";
const DAMAGE = "test/monitor/nvidia-smi/damage.test.ts";
const PLAIN_TREE = "test/monitor/nvidia-smi/plain-tree.test.ts";

const READER: readonly Mutant[] = [
  {
    name: "A GPU on which CUDA is prohibited is granted",
    file: "src/core/readings/health.ts",
    find: 'if (reading.computeMode === "Prohibited") {',
    replace: 'if (reading.computeMode === "Prohibited" && health.eccMode === "") {',
    tests: [GRANTS],
  },
  {
    name: "A list of processes that damage has put outside of its GPU is overlooked",
    file: "src/monitor/nvidia-smi/parse.ts",
    find: 'if (elementsNamed(host, "process_info").length > 0) {',
    replace: 'if (elementsNamed(host, "process_info").length > 1e9) {',
    tests: [PARSE],
  },
  {
    name: "An element of the driver's that another one of as many letters ends is taken for whole",
    file: "src/monitor/nvidia-smi/plain-tree.ts",
    find: " || !xml.startsWith(element.name, from + 2)",
    replace: "",
    tests: [PLAIN_TREE],
  },
  {
    name: "What stands behind a GPU's element is overlooked",
    file: "src/monitor/nvidia-smi/plain-tree.ts",
    find: "return BLANK.test(xml.slice(at)) ? tree : null;",
    replace: "return tree;",
    tests: [PLAIN_TREE],
  },
  {
    name: "Text between the driver's elements is dropped without a word",
    file: "src/monitor/nvidia-smi/plain-tree.ts",
    find: "if (element.isParent && !BLANK.test(text)) return null;",
    replace: "",
    tests: [PLAIN_TREE],
  },
  {
    name: "A document of very many tags is parsed to its end",
    file: "src/monitor/nvidia-smi/document.ts",
    find: "if (tags === MAX_GPU_TAGS) throw",
    replace: "if (tags === MAX_GPU_TAGS * 1e6) throw",
    tests: [DAMAGE],
  },
];

export const FOREIGN_MUTANTS: readonly Mutant[] = [...FORGOTTEN, ...EPISODES, ...ADOPTION, ...GHOSTS, ...READER];
