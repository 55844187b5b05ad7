import { type Mutant, planted } from "./mutant.ts";

const WHY = "test/http/allocations/why.test.ts";

const EXPLAINING = planted(
  "src/http/allocations/why.ts",
  [WHY],
  [
    {
      name: "Everybody is told what led to a decision, and who asked for it",
      find: "return past === null || !admin ? [] :",
      replace: "return past === null ? [] :",
    },
    {
      name: "Who was passed is not said",
      find: "...(passed.length === 0 ? [] :",
      replace: "...(passed.length >= 0 ? [] :",
    },
  ],
);

const EXTENDING = planted(
  "src/core/decisions/extend.ts",
  ["test/core/decisions/extend.test.ts"],
  [
    {
      name: "A lease is extended beyond its quota of GPU-hours",
      find: "overQuota(after, state, now) ?? keptByWindow",
      replace: "keptByWindow",
    },
    {
      name: "A lease is extended into a window that keeps its GPUs",
      find: "?? keptByWindow(after, state, now) ??",
      replace: "??",
    },
    {
      name: "The head of the line is put off by an extension",
      find: " ?? headPutOff(after, state, now)",
      replace: "",
    },
    {
      name: "An end may be moved into the past",
      find: "if (expiresAt !== null && expiresAt <= now)",
      replace: "if (expiresAt !== null && expiresAt < 0)",
    },
    {
      name: "A longer lease is charged as before",
      file: "src/core/host/accounts.ts",
      find: "if (isAsBefore && before?.request.maxDurationMs === next.request.maxDurationMs) return accounts;",
      replace: "if (isAsBefore) return accounts;",
    },
  ],
);

const NAMING = planted(
  "src/core/allocator/fit.ts",
  ["test/core/allocator/exact-gpus.test.ts"],
  [
    {
      name: "A request that names its GPUs gets others",
      find: 'if (shape.only?.has(gpu.uuid) === false) return "named";',
      replace: "",
    },
    {
      name: "GPUs are held for a request that names others",
      find: "if (shape.only?.has(gpu.uuid) === false) return false;",
      replace: "",
    },
    {
      name: "Requests that name different GPUs are one family",
      file: "src/core/host/line.ts",
      find: "JSON.stringify([...only].sort());",
      replace: '"";',
    },
    {
      name: "A GPU that is named and not there is waited for",
      file: "src/core/allocator/never-fits.ts",
      find: "if (misnamed !== null) return misnamed;",
      replace: "",
    },
  ],
);

export const PEOPLE_MUTANTS: readonly Mutant[] = [...EXPLAINING, ...EXTENDING, ...NAMING];
