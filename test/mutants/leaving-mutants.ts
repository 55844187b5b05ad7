import { type Mutant, planted } from "./mutant.ts";

const PREEMPTION = "test/core/queue/preemption.test.ts";
const DRAIN = "test/core/decisions/drain.test.ts";
const TOLD = "test/http/allocations/preemption.test.ts";
const OUTBOX = "test/store/outbox.test.ts";
const MOVED = "test/store/start-time.test.ts";

const VICTIMS = planted(
  "src/core/queue/preemption.ts",
  [PREEMPTION],
  [
    {
      name: "A lease that did not agree is preempted",
      find: "return request.preemptible && gap >= minPriorityGap",
      replace: "return gap >= minPriorityGap",
    },
    {
      name: "A lease of the same priority is preempted",
      find: "gap >= minPriorityGap &&",
      replace: "gap >= minPriorityGap - 1 &&",
    },
    {
      name: "A lease is preempted however young it is",
      find: " && now - lease.grantedAt >= minRuntimeMs",
      replace: "",
    },
    {
      name: "The oldest are preempted first",
      find: "a.allocation.lease.fencingToken - b.allocation.lease.fencingToken",
      replace: "b.allocation.lease.fencingToken - a.allocation.lease.fencingToken",
    },
    {
      name: "More are preempted than are needed",
      find: "while (count <= victims.length && most(count) < need) count++;",
      replace: "while (count < victims.length && most(count) <= need) count++;",
    },
    {
      name: "Who was told is told again, and has a new grace",
      find: 'if (notice?.kind === "preempt" && notice.for === request.id) continue;',
      replace: "",
    },
    {
      name: "Who is not needed any more has to leave all the same",
      find: "if (beneficiary === request.id && !leaving.has(id)) events.push",
      replace: "if (beneficiary === request.id && leaving.size < 0) events.push",
    },
    {
      name: "Somebody leaves although a lease ends by itself in time",
      find: "isLeaving || (hardEndOf(allocation) ?? Infinity) <= now + policy.graceMs",
      replace: "isLeaving",
    },
    {
      name: "When the request has gone, its victims leave all the same",
      find: 'if (state.allocations.get(beneficiary)?.status === "queued") continue;',
      replace: "continue;",
    },
    {
      name: "Losing the monitor calls a preemption off",
      find: "if (state.policy.preemption === null) return false;",
      replace: "return false;",
    },
  ],
);

const HELD = planted(
  "src/core/queue/schedule.ts",
  [PREEMPTION],
  [
    {
      name: "The GPUs of victims go to whoever asks first",
      find: "this.#hold(request, { head: request.id, gpus, longestMs: 0 });",
      replace: "this.#hold(request, { head: request.id, gpus: new Set(), longestMs: 0 });",
    },
  ],
);

const DEADLINES = planted(
  "src/core/decisions/due.ts",
  [PREEMPTION, DRAIN],
  [
    {
      name: "A victim whose request ends at the same instant leaves for nobody",
      find: 'return waiting?.status !== "queued" || (allocationDeadline(waiting, state.policy) ?? Infinity) <= now;',
      replace: "return false;",
    },
    {
      name: "A restart takes the grace away",
      file: "src/core/decisions/resume.ts",
      find: "const until = Math.max(notice.until, now + notice.until - notice.at);",
      replace: "const until = notice.until;",
    },
    {
      name: "A victim is ended for nobody's good while its GPU is unknown",
      find: 'if (gpus.every(({ uuid }) => staleness(uuid, state, now)?.block !== "unknown")) return null;',
      replace: "if (gpus.every(() => true)) return null;",
    },
  ],
);

const DRAINED = planted(
  "src/core/host/cordons.ts",
  [DRAIN],
  [
    {
      name: "A GPU counts as drained while it is being reclaimed",
      find: 'hold.kind === "free" || (hold.kind === "quarantined" && hold.cause !== "overdue")',
      replace: 'hold.kind !== "leased" && (hold.kind !== "quarantined" || hold.cause !== "overdue")',
    },
    {
      name: "A GPU counts as drained where programs of an ended lease stay",
      find: ' && hold.cause !== "overdue")',
      replace: ")",
    },
    {
      name: "A GPU that was not given back in time is quarantined as a ghost",
      file: "src/core/host/evolve.ts",
      find: 'const cause = gpu.hold.kind === "reclaiming" ? "overdue" : "ghost";',
      replace: 'const cause = gpu.hold.kind === "reclaiming" ? "ghost" : "ghost";',
    },
    {
      name: "Of two drains the later counts",
      file: "src/core/decisions/drain.ts",
      find: "if (until !== null && until < (found?.until ?? Infinity))",
      replace: "if (until !== null && until > (found?.until ?? 0))",
    },
    {
      name: "A drain that was lifted ends leases all the same",
      file: "src/core/decisions/drain.ts",
      find: "if (told !== null)\n        events.push({",
      replace: "if (told === undefined)\n        events.push({",
    },
  ],
);

const RENEWED = planted(
  "src/core/model/leases.ts",
  [PREEMPTION, DRAIN],
  [
    {
      name: "Renewals put the end of a victim off",
      find: "return notice === null ? lease.expiresAt : Math.min(notice.until, lease.expiresAt ?? Infinity);",
      replace: "return lease.expiresAt ?? notice?.until ?? null;",
    },
  ],
);

const STORED: readonly Mutant[] = [
  {
    name: "What a victim was told goes out after it may stay",
    file: "src/store/ledger.ts",
    find: 'for (const id of turn.outdated) writes.push(["withdrawNotices", turn.at, id]);',
    replace: "",
    tests: [OUTBOX],
  },
  {
    name: "A preemption that was called off leaves its webhook in the outbox",
    file: "src/scheduler/turn-draft.ts",
    find: 'return type === "notice-withdrawn" || type === "preempting" || type === "draining";',
    replace: 'return type === "preempting" || type === "draining";',
    tests: [TOLD],
  },
  {
    name: "A clock that is set moves no notice",
    file: "src/store/start-time.ts",
    find: "notice = json_replace(notice, '$.at', (notice ->> '$.at') + ?1, '$.until', (notice ->> '$.until') + ?1),",
    replace: "notice = notice,",
    tests: [MOVED],
  },
];

export const LEAVING_MUTANTS: readonly Mutant[] = [
  ...VICTIMS,
  ...HELD,
  ...DEADLINES,
  ...DRAINED,
  ...RENEWED,
  ...STORED,
];
