/** Bugs of accounting and idleness, in every room. */
import { type Mutant, planted } from "./mutant.ts";

const USE = "test/core/model/use.test.ts";
const IDLE = "test/core/decisions/observe/idle.test.ts";
const REPORTS = "test/scheduler/usage.test.ts";
const RESTARTS = "test/scheduler/idle.test.ts";
const LEASES = "test/store/leases.test.ts";
const HTTP = "test/http/usage/usage.test.ts";

const SPANS = planted(
  "src/core/model/use.ts",
  [USE],
  [
    {
      name: "The gap between two merged spans counts as use",
      find: "[from, to, usedBefore + usedAfter]",
      replace: "[from, to, usedBefore + usedAfter > 0 ? to - from : 0]",
    },
    {
      name: "Spans are kept without a limit",
      find: "return all.length > MAX_USE_SPANS ? withoutShortestGap(all) : all;",
      replace: "return all.length > MAX_USE_SPANS * 1_000 ? withoutShortestGap(all) : all;",
    },
    {
      name: "A period that cuts a span counts all of its use",
      find: "if (usedMs === to - from) return at - from;",
      replace: "if (usedMs === to - from) return usedMs;",
    },
  ],
);

const SEEING: readonly Mutant[] = [
  {
    name: "A GPU whose memory cannot be read counts as unused",
    file: "src/core/decisions/observe/observe.ts",
    find: "usedMib === null ? null :",
    replace: "usedMib === null ? false :",
    tests: [USE, IDLE],
  },
  {
    name: "Every reading of a GPU in use is an event",
    file: "src/core/decisions/observe/observe.ts",
    find: "if (inUse === true && use.since === null) write(",
    replace:
      'if (inUse === true && use.since !== null) write({ type: "use-gone", uuid: gpu.uuid, allocationId, at: now });\n' +
      "      if (inUse === true) write(",
    tests: [USE],
  },
  {
    name: "Readings hours apart prove that nobody used the GPU in between",
    file: "src/core/decisions/observe/sight.ts",
    find: "startedAt - before.until <= staleAfterMs",
    replace: "startedAt - before.until <= 1_000 * staleAfterMs",
    tests: [IDLE],
  },
  {
    name: "Use that goes on when the lease ends is not in its record",
    file: "src/core/host/evolve.ts",
    find: "spans: spansUntil(use, at) }",
    replace: "spans: at < 0 ? spansUntil(use, at) : use.spans }",
    tests: [USE],
  },
  {
    name: "A renewal takes the idle flag away",
    file: "src/core/host/evolve.ts",
    find: 'return before.status === "leased" ? before :',
    replace: 'return before.status === "leased" && before.idleSince === null ? before :',
    tests: [IDLE],
  },
];

const IDLENESS = planted(
  "src/core/decisions/observe/idle.ts",
  [IDLE],
  [
    {
      name: "One unused GPU makes a lease idle whose other GPUs work",
      find: "if (use === null || use.since !== null) return null;",
      replace: "if (use === null || use.since !== null) continue;",
    },
    {
      name: "Leases that end by their TTL are flagged as idle too",
      find: '?.status !== "leased" || allocation.request.ttlMs !== null) continue;',
      replace: '?.status !== "leased") continue;',
    },
    {
      name: "Idle leases are ended although no setting says so",
      find: "reclaimIdleAfterMs !== null && unusedMs >= idleAfterMs + reclaimIdleAfterMs",
      replace: "unusedMs >= idleAfterMs + (reclaimIdleAfterMs ?? idleAfterMs)",
    },
    {
      name: "The time in which nobody looked counts as idle",
      find: "Math.max(latest, sight.watch.since, lastUseEnd(use) ?? latest)",
      replace: "Math.max(latest, lastUseEnd(use) ?? latest)",
    },
    {
      name: "A reading that does not tell proves what the one before it told",
      find: "sight.watch.until < seenAt",
      replace: "sight.watch.until < seenAt - 60_000",
    },
    {
      name: "A lease is found idle anew at every reading",
      find: "allocation.idleSince === null && unusedMs >= idleAfterMs",
      replace: "unusedMs >= idleAfterMs",
    },
    {
      name: "A lease that works again stays flagged",
      find: 'changes.push({ kind: "busy", allocation });',
      replace: "",
    },
  ],
);

const REPORTING = planted(
  "src/scheduler/usage.ts",
  [REPORTS],
  [
    {
      name: "A lease whose end is on disk before it is acknowledged counts twice",
      find: "fencingToken < state.nextFencingToken && !running.has(id)",
      replace: "fencingToken < state.nextFencingToken && (id !== '' || !running.has(id))",
    },
    {
      name: "What begins and ends while a report is made is in it",
      find: "fencingToken < state.nextFencingToken && !running.has(id)",
      replace: "fencingToken > 0 && !running.has(id)",
    },
    {
      name: "A report keeps everybody waiting until it is done",
      find: "await othersFirst();",
      replace: "if (read < 0) await othersFirst();",
    },
    {
      name: "After two reports that failed there are no more",
      find: "this.#underWay--;",
      replace: "",
    },
    {
      name: "Offers hold GPUs that nobody accounts for",
      find: 'if (allocation === undefined || allocation.status === "queued") continue;',
      replace: 'if (allocation?.status !== "leased") continue;',
    },
    {
      name: "A lease counts whole in every period that it touches",
      find: "const from = Math.max(lease.from, this.#period.from);",
      replace: "const from = Math.min(lease.from, this.#period.from + 1e15);",
    },
  ],
);

const KEEPING: readonly Mutant[] = [
  {
    name: "What a lease used is forgotten when it ends",
    file: "src/store/ledger.ts",
    find: "encodeUsed(allocation.used)",
    replace: "encodeUsed(allocation.used.slice(0, 0))",
    tests: [RESTARTS, LEASES],
  },
  {
    name: "A restart forgets which leases are idle, and they are told again",
    file: "src/store/ledger.ts",
    find: 'status === "leased" ? allocation.idleSince : null,',
    replace: 'status === "leased" && allocation.idleSince === 0 ? allocation.idleSince : null,',
    tests: [RESTARTS, LEASES],
  },
  {
    name: "A clock that was set leaves behind when a GPU was in use",
    file: "src/store/start-time.ts",
    find: "json_array((value ->> 0) + ?1, (value ->> 1) + ?1, value ->> 2)",
    replace: "json_array(value ->> 0, value ->> 1, value ->> 2)",
    tests: ["test/store/start-time.test.ts"],
  },
  {
    name: "Leases that ended in the same instant as the last of a page are lost",
    file: "src/store/statements.ts",
    find: "(ended_at, rowid) > (?, ?)",
    replace: "ended_at > ? AND ? > 0",
    tests: [LEASES],
  },
  {
    name: "Reports over periods whose records were dropped say that they are complete",
    file: "src/store/prune.ts",
    find: "if (allocations > 0) pruning.noteDropped.run(keepAfter);",
    replace: "if (allocations < 0) pruning.noteDropped.run(keepAfter);",
    tests: [LEASES],
  },
];

const TELLING: readonly Mutant[] = [
  {
    name: "A spreadsheet runs the name of a service or principal",
    file: "src/http/usage/usage.ts",
    find: "/^[=+\\-@\\t\\r\\n\\uff1d\\uff0b\\uff0d\\uff20]/",
    replace: "/^[+@\\t\\r\\n\\uff1d\\uff0b\\uff0d\\uff20]/",
    tests: [HTTP],
  },
  {
    name: "A quote mark in a name breaks the CSV",
    file: "src/http/usage/usage.ts",
    find: "text.replaceAll('\"', '\"\"')",
    replace: "text",
    tests: [HTTP],
  },
  {
    name: "The owner of an idle lease is not told",
    file: "src/wire/webhooks/bodies.ts",
    find: 'if (event.type === "went-idle") return "idle";',
    replace: "",
    tests: [RESTARTS],
  },
  {
    name: "A service whose leases work again is still shown as idle",
    file: "src/metrics/host.ts",
    find: "for (const service of leases.keys()) leases.set(service, 0);",
    replace: "",
    tests: ["test/metrics/metrics.test.ts"],
  },
];

export const USAGE_MUTANTS: readonly Mutant[] = [
  ...SPANS,
  ...SEEING,
  ...IDLENESS,
  ...REPORTING,
  ...KEEPING,
  ...TELLING,
];
