/** Bugs of shared GPUs. */
import { type Mutant, planted } from "./mutant.ts";

const SHARING = "test/core/allocator/sharing.test.ts";
const HISTORIES = "test/core/allocator/sharing-properties.test.ts";
const DISK = "test/store/failure.test.ts";
const CLOCK = "test/store/start-time.test.ts";
const REPORTS = "test/scheduler/usage.test.ts";

const MEMORY = planted(
  "src/core/host/shared-memory.ts",
  [SHARING, HISTORIES],
  [
    {
      name: "What an ended lease has left on a shared GPU is not counted",
      find: "for (const { allocationId, memoryMib } of [...hold.shares, ...hold.remains]) {\n    const own =",
      replace: "for (const { allocationId, memoryMib } of hold.shares) {\n    const own =",
    },
    {
      name: "Only what shared leases have reserved counts, whatever they use",
      find: "takenMib += Math.max(memoryMib, own ?? 0);",
      replace: "takenMib += memoryMib;",
    },
    {
      name: "Shares may take the head-room",
      find: "return Math.max(0, total - headroomMib(total, policy) - taken);",
      replace: "return Math.max(0, total - taken);",
    },
    {
      name: "A second lease starts on a shared GPU before the first has settled",
      find: 'if (settlingShare(hold) !== null) return "settling";',
      replace: "",
    },
    {
      name: "A shared lease is given back although its processes are still there",
      find: "if (use === null || reading.processes.some(({ pid }) => owners.get(pid) === id)) return false;",
      replace: "if (use === null) return false;",
    },
    {
      name: "A shared lease is given back although its memory is still in use",
      find: "return use.restMib <= allowedMib;",
      replace: "return use.restMib <= allowedMib || use.restMib > 0;",
    },
  ],
);

const BOOKS: readonly Mutant[] = [
  {
    name: "An exclusive request is given a GPU that others share",
    file: "src/core/allocator/fit.ts",
    find: 'if (shared && !shape.shared) return "held";',
    replace: "",
    tests: [SHARING],
  },
  {
    name: "Empty GPUs are shared before those that are shared already",
    file: "src/core/allocator/place.ts",
    find: "Number(b.shared) - Number(a.shared)",
    replace: "Number(a.shared) - Number(b.shared)",
    tests: [SHARING],
  },
  {
    name: "What stood still before an offer was claimed counts as settled",
    file: "src/core/decisions/observe/shares.ts",
    find: "Math.max(stillness.since, share.startedAt, share.use.since ?? startedAt)",
    replace: "Math.max(stillness.since, share.use.since ?? startedAt)",
    tests: [SHARING],
  },
  {
    name: "A lease that outgrows its reservation is flagged at every reading",
    file: "src/core/decisions/observe/shares.ts",
    find: "if (overSince !== null) {",
    replace: "if (overSince !== null && (usedMib ?? restMib) <= reservedMib) {",
    tests: [SHARING],
  },
  {
    name: "A GPU whose remains did not go in time is shared with newcomers",
    file: "src/core/host/candidates.ts",
    find: "if (hold.overdueSince !== null) return false;",
    replace: "",
    tests: [SHARING],
  },
  {
    name: "The database takes more shares than the GPU has memory",
    file: "src/store/migrations.ts",
    find: "> (SELECT ifnull(body ->> '$.memoryTotalMib', 0) FROM gpus",
    replace: "> 2 * (SELECT ifnull(body ->> '$.memoryTotalMib', 0) FROM gpus",
    tests: [DISK],
  },
  {
    name: "The database takes an exclusive lease beside shared ones",
    file: "src/store/migrations.ts",
    find: "AND (shared_mib IS NULL OR NEW.shared_mib IS NULL))",
    replace: "AND shared_mib IS NULL)",
    tests: [DISK],
  },
  {
    name: "Shares do not move with the clock",
    file: "src/store/start-time.ts",
    find: "'$.startedAt', (value ->> '$.startedAt') + ?1,",
    replace: "",
    tests: [CLOCK],
  },
  {
    name: "A shared lease counts as the whole GPU in the accounting",
    file: "src/core/model/leases.ts",
    find: "sharedMib === null || memoryTotalMib === null ? 1 :",
    replace: "sharedMib === null || memoryTotalMib === null || sharedMib > 0 ? 1 :",
    tests: [REPORTS],
  },
];

export const SHARING_MUTANTS: readonly Mutant[] = [...MEMORY, ...BOOKS];
