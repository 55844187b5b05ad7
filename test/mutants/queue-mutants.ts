import { type Mutant, planted } from "./mutant.ts";

const QUEUE = "test/core/queue/queue.test.ts";
const LINES = "test/core/host/line.test.ts";
const BACKFILL = "test/core/queue/backfill.test.ts";
const FORECAST = "test/core/explain/forecast.test.ts";
const SLOTS = "test/core/explain/slots.test.ts";
const PATIENCE = "test/core/queue/patience.test.ts";
const PATIENCE_PROPERTIES = "test/core/queue/patience-properties.test.ts";
const LEASE = "test/core/decisions/lease.test.ts";

const ORDERED_MAP = planted(
  "src/core/base/ordered-map.ts",
  ["test/core/base/ordered-map.test.ts"],
  [
    {
      name: "Who leaves as the first of a tree takes those behind it along",
      find: "if (tree.left === undefined) return tree.right;\n  return withLeft(",
      replace: "if (tree.left === undefined) return undefined;\n  return withLeft(",
    },
    {
      name: "A tree that grows on one side is not balanced, and becomes a list",
      find: "if (right?.height !== tree.right?.height) return balanced(ordering, key, value, left, right);",
      replace: "",
    },
    {
      name: "What grows at a height that stays is not counted",
      find: "tree.size + (right?.size ?? 0) - (tree.right?.size ?? 0)",
      replace: "tree.size",
    },
  ],
);

const ALLOCATIONS = planted(
  "src/core/host/allocations.ts",
  ["test/core/host/allocations.test.ts"],
  [
    {
      name: "What holds GPUs goes on waiting too",
      find: 'before?.status === "queued" ? this.#waiting.delete(id) : this.#waiting',
      replace: "this.#waiting",
    },
    {
      name: "Those that wait come after all that hold something, whatever their ids",
      find: "if (b.done || (!a.done && a.value.request.id < b.value.request.id)) {",
      replace: "if (!a.done) {",
    },
  ],
);

const LINE = planted(
  "src/core/host/line.ts",
  [QUEUE, LINES],
  [
    {
      name: "The least urgent is served first",
      find: "return a.rank - b.rank;",
      replace: "return b.rank - a.rank;",
    },
    {
      name: "Of two that stand level, the one submitted later is served first",
      find: "return a.submittedAt - b.submittedAt;",
      replace: "return b.submittedAt - a.submittedAt;",
    },
    {
      name: "Within a millisecond the service's name decides instead of the order of submission",
      find: "if (a.sequence < b.sequence) return -1;\n  if (a.sequence > b.sequence) return 1;",
      replace: "",
    },
    {
      name: "The first of a class is served whatever it asks for",
      find: "if (first === undefined || isWithin(first.ask, limits)) return first;",
      replace: "if (first !== undefined) return first;",
    },
    {
      name: "Waiting never raises a request's priority",
      find: "rank: request.submittedAt + request.fairShareDelayMs - request.requirement.priority * policy.agingIntervalMs,",
      replace: "rank: -request.requirement.priority,",
    },
    {
      name: "Positions begin at 0",
      find: "return line.order.rank(queueKey(request, policy)) + 1;",
      replace: "return line.order.rank(queueKey(request, policy));",
    },
    {
      name: "How long a request may last does not count",
      file: "src/core/host/demand.ts",
      find: "memoryMib <= limit.memoryMib && durationMs <= limit.durationMs",
      replace: "memoryMib <= limit.memoryMib",
    },
    {
      name: "Of those who could be served, the last in line is",
      find: "compareKeys(one.key, best.key) < 0",
      replace: "compareKeys(one.key, best.key) > 0",
    },
  ],
);

const LONG_SEARCH = planted(
  "src/core/host/smallest-asks.ts",
  ["test/core/host/smallest-asks.test.ts"],
  [
    {
      name: "A long search skips a part in which a corner was merged away",
      find: "const { durationMs } = corners[nearest + 1] as Ask;",
      replace: "const { durationMs } = corners[nearest] as Ask;",
    },
    {
      name: "A part's corners leave out one of its right side",
      find: "...(this.#right?.corners ?? [])",
      replace: "...(this.#right?.corners.slice(1) ?? [])",
    },
    {
      name: "A long search goes on looking at each",
      find: "this.#looks <= PLAIN_LOOKS ||",
      replace: "true ||",
    },
  ],
);

const SERVING = planted(
  "src/core/queue/schedule.ts",
  [QUEUE],
  [
    {
      name: "A newcomer that fits overtakes those who wait",
      find: ".filter((one) => fits === undefined || isBefore(one, fits))",
      replace: ".filter((one) => newcomer === null && (fits === undefined || isBefore(one, fits)))",
    },
    {
      name: "Nothing is ever held for the head of the line",
      find: ">= this.state.policy.reserveAfterMs",
      replace: ">= Number.POSITIVE_INFINITY",
    },
    {
      name: "GPUs are held for the head of the line from the start, whatever reserve_after says",
      find: ">= this.state.policy.reserveAfterMs",
      replace: ">= 0",
    },
    {
      name: "GPUs are kept idle for a request that a sick GPU keeps from starting",
      find: "(line.order.size === 0 ? [] : futureCandidates(before, free.all(), now))",
      replace:
        "before.gpus.values().map((gpu) => ({ gpu, memoryMib: gpu.memoryTotalMib ?? 0, shareableMib: 0, isolated: false, now: null }))",
    },
    {
      name: "A GPU held for the head of the line goes to one behind it",
      find: "this.#free = FreeGpus.of(besides({ ...reservation, gpus: held }, this.#free.all()));",
      replace: "",
    },
    {
      name: "GPUs that are held for others are taken before those that are not",
      file: "src/core/queue/grant.ts",
      find: "(a, b) => b - a",
      replace: "(a, b) => a - b",
    },
    {
      name: "A grant from the queue is a lease at once, whether or not its client is there",
      file: "src/core/queue/grant.ts",
      find: "claimBy: atOnce ? null : now + claimPatience(request, state.policy),",
      replace: "claimBy: atOnce ? null : null,",
    },
    {
      name: "A max_duration longer than the TTL extends the lease",
      file: "src/core/model/leases.ts",
      find: "const end = Math.min(byTtl, hardEnd);",
      replace: "const end = request.maxDurationMs === null ? byTtl : hardEnd;",
    },
  ],
).map((mutant) => ({ ...mutant, tests: [QUEUE, BACKFILL, LEASE] }));

const HOLDING = planted(
  "src/core/queue/reservation.ts",
  [QUEUE, BACKFILL],
  [
    {
      name: "GPUs that the head of the line could never use are held for it",
      find: "const wanted = usable(head, coming, state.gpus.models());",
      replace: "const wanted = coming;",
    },
    {
      name: "A TTL is counted on as the end of a lease, though it can be renewed",
      find: "hardEndOf(holderOf(allocationId, state))",
      replace: "holderOf(allocationId, state).lease.expiresAt",
    },
    {
      name: "The head of the line is taken to wait for every GPU that it could use",
      find: "[head.requirement.gpus - 1] ?? Infinity",
      replace: ".at(-1) ?? Infinity",
    },
    {
      name: "A lent GPU may come back too late by the time that it takes to be seen empty",
      find: " - settlingMs(state.policy));",
      replace: ");",
    },
  ],
);

const FORESEEN = planted(
  "src/core/explain/forecast.ts",
  [FORECAST, SLOTS],
  [
    {
      name: "Who waits is promised a GPU as soon as those before it have begun, not when they have ended",
      file: "src/core/explain/slots.ts",
      find: "return isEnd ? taken : keeps - taken;",
      replace: "return isEnd ? 0 : keeps;",
    },
    {
      name: "A promise leaves out the time that a GPU takes to be seen empty",
      find: "last + claimant.durationMs + settlingMs(state.policy)",
      replace: "last + claimant.durationMs",
    },
    {
      name: "The earliest instant goes by the long ones of the leases that ended of late",
      find: "Math.floor(lasted.length * SHORT_PART)",
      replace: "Math.floor(lasted.length * (1 - SHORT_PART))",
    },
    {
      name: "Nobody is ever thought to be passed by those behind him who ask for less",
      file: "src/core/explain/passing.ts",
      find: "if (gpus > claimant.gpus) return false;",
      replace: "",
    },
    {
      name: "A short one that may pass is thought to wait for whoever of its kind stands before it",
      file: "src/core/explain/passing.ts",
      find: "if (firmFrom > claimant.durationMs) continue;",
      replace: "",
    },
    {
      name: "Of a kind only the shortest is thought to stand in the way of who is longer",
      file: "src/core/explain/passing.ts",
      find: "firmFrom <= step.firmFrom && begin >= step.begin",
      replace: "firmFrom <= step.firmFrom",
    },
    {
      name: "Who cannot be passed is thought to give its GPUs back as soon as the last of them has begun",
      file: "src/core/explain/passing.ts",
      find: "free -= slot.kind.gpus;",
      replace: "",
    },
    {
      name: "A start that was found once stays, although somebody else has been given those GPUs since",
      file: "src/core/explain/slots.ts",
      find: "if (front.at < begin) front.free -= both;\n      else front.free -= Math.min(both, claimant.gpus);",
      replace: "if (front.at < begin) front.free -= both;",
    },
  ],
);

const WAITING_PATIENTLY = planted(
  "src/core/queue/patience.ts",
  [PATIENCE, PATIENCE_PROPERTIES],
  [
    {
      name: "A head whose start nobody knows has no patience",
      find: "headSince + patienceMs",
      replace: "headSince",
    },
    {
      name: "A head counts as let past it those that were there before its patience was over",
      find: "return grantedAt >= due && (",
      replace: "return (",
    },
    {
      name: "GPUs are held for a head as soon as it waits only for those let past it, patience or not",
      find: "if (due === null || now < (holdsFrom(head, state) ?? now)) return false;",
      replace: "if (due === null) return false;",
    },
    {
      name: "With `hold_late` too, GPUs are held for a head as soon as its patience is over",
      find: "return due + Math.min(known, policy.patienceMs);",
      replace: "return due;",
    },
    {
      name: "GPUs are held late for a head also where that is not set",
      find: "if (due === null || !policy.holdLate) return due;",
      replace: "if (due === null) return due;",
    },
    {
      name: "A head lends its GPUs again when a longer lease has ended meanwhile",
      find: "longest.findLast(({ endedAt }) => endedAt <= due)",
      replace: "longest.at(-1)",
    },
    {
      name: "Services tell how long leases last",
      file: "src/core/host/evolve.ts",
      find: "if (request.maxDurationMs === null && lastedMs > policy.endlessAfterMs) return longest;",
      replace: "",
    },
    {
      name: "GPUs are kept idle until a service ends that was let past the head",
      find: "|| now - grantedAt <= policy.endlessAfterMs",
      replace: "|| true",
    },
    {
      name: "A wide request passes one of another priority",
      find: " && request.requirement.priority === first.allocation.request.requirement.priority;",
      replace: ";",
    },
    {
      name: "A wide request passes one that states when it ends",
      find: "request.maxDurationMs === null && request",
      replace: "request",
    },
    {
      name: "A wide request passes one whose patience is over",
      find: "let limit = earliest(fittingHeads, ({ allocation }) => isOutOfPatience(allocation, policy, now));",
      replace: "let limit: Waiting | undefined;",
    },
    {
      name: "Of the wide ones the last in line goes first",
      find: "(more === 0 && compareKeys(one.key, widest.key) < 0)",
      replace: "(more === 0 && compareKeys(one.key, widest.key) > 0)",
    },
    {
      name: "A shared head counts on memory that an older lease keeps",
      find: "return shareableMib - kept >= requirement.memoryMib;",
      replace: "return true;",
    },
    {
      name: "A restart sets a head's patience back",
      file: "src/core/host/changes.ts",
      find: "for (const allocation of stored.allocations) state = withAllocation(state, allocation);",
      replace:
        'for (const allocation of stored.allocations) state = withAllocation(state, allocation.status === "queued" ? { ...allocation, headSince: null } : allocation);',
    },
    {
      name: "Patience begins anew whenever the head is the head again",
      file: "src/core/queue/schedule.ts",
      find: "if (allocation.headSince !== null) return;",
      replace: "",
    },
    {
      name: "Wider ones pass without end one that stands behind a head",
      file: "src/core/queue/schedule.ts",
      find: "if (next !== fits) this.#note(fits.allocation);",
      replace: "if (next !== fits && this.isFirst(fits)) this.#note(fits.allocation);",
    },
    {
      name: "Patience does not run while no GPU is free",
      file: "src/core/queue/schedule.ts",
      find: "  pass.noteHead();",
      replace: "",
    },
  ],
);

export const QUEUE_MUTANTS: readonly Mutant[] = [
  ...ORDERED_MAP,
  ...ALLOCATIONS,
  ...LINE,
  ...LONG_SEARCH,
  ...SERVING,
  ...HOLDING,
  ...FORESEEN,
  ...WAITING_PATIENTLY,
];
