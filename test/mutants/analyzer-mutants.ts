/** Bugs of the memory model, of what is read of models, and of those who are asked. */
import { type Mutant, planted } from "./mutant.ts";

const MEMORY = "test/core/analyzer/memory.test.ts";
const PROPERTIES = "test/core/analyzer/properties.test.ts";
const WORKLOAD = "test/http/planning/workload.test.ts";
const FILES = "test/models/model-files.test.ts";
const LEARNING = "test/models/learning.test.ts";
const ADVISORS = "test/advisors/advisors.test.ts";

const MODEL: readonly Mutant[] = [
  {
    name: "The KV cache is divided by more GPUs than there are KV heads",
    file: "src/core/analyzer/memory.ts",
    find: "Math.max(1 / gpus, 1 / kept.heads)",
    replace: "(1 / gpus)",
    tests: [MEMORY],
  },
  {
    name: "Sliding-window layers keep the whole context",
    file: "src/core/analyzer/architecture.ts",
    find: "Math.min(tokens, window ?? Number.POSITIVE_INFINITY)",
    replace: "(window === null ? tokens : Math.max(tokens, 0))",
    tests: [MEMORY],
  },
  {
    name: "head_dim is taken for hidden / heads",
    file: "src/core/analyzer/decoder.ts",
    find: 'fields.maybe("head_dim") ?? Math.max',
    replace: "Math.max",
    tests: [MEMORY],
  },
];

const ASKED = planted(
  "src/core/analyzer/analyze.ts",
  [WORKLOAD, PROPERTIES],
  [
    {
      name: "What was seen is asked for beyond the card",
      find: "Math.min(seen.memoryMib, mostMib)",
      replace: "seen.memoryMib",
    },
    {
      name: "What was seen is asked for although it is only to be shown",
      find: "if (seen === null || !seen.counts) return null;",
      replace: "if (seen === null) return null;",
    },
    {
      name: "An advisor may ask for more than the host has",
      find: "value < 1 || value > most",
      replace: "value < 1",
    },
  ],
);

const READ = planted(
  "src/models/model-files.ts",
  [FILES],
  [
    {
      name: "A link in an allowed folder leads out of it",
      find: "!isFile || !isUnder(await",
      replace: "!isFile || ((_: string) => false)(await",
    },
  ],
);

const ADVICE = planted(
  "src/advisors/advisors.ts",
  [ADVISORS],
  [
    {
      name: "An allocate asks advisors",
      find: "if (waitMs === 0) return null;",
      replace: "",
    },
    {
      name: "DeepAgents gets several calls at once",
      find: "this.#asking.size >= this.#atOnce || ",
      replace: "",
    },
    {
      name: "A failing advisor is asked again and again",
      find: "this.line.failed();",
      replace: "",
    },
  ],
);

export const ANALYZER_MUTANTS: readonly Mutant[] = [
  ...MODEL,
  ...ASKED,
  ...READ,
  ...ADVICE,
  {
    name: "DeepAgents is sent the caller's own words for a method",
    file: "src/advisors/deepagents.ts",
    find: "if (word !== undefined) facts[key] = word;",
    replace: "facts[key] = word ?? given(key);",
    tests: [ADVISORS],
  },
  {
    name: "An allocate waits for an advisor",
    file: "src/http/allocations/routes.ts",
    find: "knowledge, 0)",
    replace: "knowledge, 2_000)",
    tests: [WORKLOAD],
  },
  {
    name: "The default address of an advisor is asked",
    file: "src/config/load.ts",
    find: "Object.hasOwn(sectionOf(merged, String(section)), key);",
    replace: "Object.hasOwn({ [key]: sectionOf(merged, String(section)) }, key);",
    tests: ["test/config/load.test.ts"],
  },
  {
    name: "A lease that filled its card teaches how much it needs",
    file: "src/models/learning.ts",
    find: "const isFull = reading.memoryUsedMib >= FULL_PART * reading.memoryTotalMib;",
    replace: "const isFull = reading.memoryUsedMib > reading.memoryTotalMib;",
    tests: [LEARNING],
  },
  {
    name: "A reading is counted again for as long as the GPU is not read anew",
    file: "src/models/learning.ts",
    find: "if (gpu === undefined || gpu.startedAt !== startedAt) continue;",
    replace: "if (gpu === undefined) continue;",
    tests: [LEARNING],
  },
  {
    name: "A lease that used a quarter of its time is called wasteful",
    file: "src/scheduler/usage.ts",
    find: "return usedMs < WASTEFUL_PART",
    replace: "return usedMs <= WASTEFUL_PART",
    tests: ["test/scheduler/usage.test.ts"],
  },
];
