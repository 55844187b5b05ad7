import { type Mutant, planted } from "./mutant.ts";

const QUEUE = "test/core/queue.test.ts";
const LINES = "test/core/queue/line.test.ts";
const BACKFILL = "test/core/queue/backfill.test.ts";
const LEASE = "test/core/lease.test.ts";

const LINE = planted(
  "src/core/queue/line.ts",
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
      find: "return a.sequence < b.sequence ? -1 : 1;",
      replace: "return a.id < b.id ? -1 : 1;",
    },
    {
      name: "Waiting never raises a request's priority",
      find: "rank: request.submittedAt - request.requirement.priority * policy.agingIntervalMs,",
      replace: "rank: -request.requirement.priority,",
    },
    {
      name: "Positions begin at 0",
      find: "return line.order.rank(queueKey(request, policy)) + 1;",
      replace: "return line.order.rank(queueKey(request, policy));",
    },
    {
      name: "How long a request may last does not count",
      find: "ask.memoryMib <= limit.memoryMib && ask.durationMs <= limit.durationMs",
      replace: "ask.memoryMib <= limit.memoryMib",
    },
    {
      name: "Of those who could be served, the last in line is",
      find: "compareKeys(found.key, best.key) < 0",
      replace: "compareKeys(found.key, best.key) > 0",
    },
  ],
);

const SERVING = planted(
  "src/core/queue/schedule.ts",
  [QUEUE],
  [
    {
      name: "A newcomer that fits overtakes those who wait",
      find: "if (head !== undefined && (fits",
      replace: "if (newcomer === null && head !== undefined && (fits",
    },
    {
      name: "Nothing is ever held for the head of the line",
      find: ">= state.policy.reserveAfterMs",
      replace: ">= Number.POSITIVE_INFINITY",
    },
    {
      name: "GPUs are held for the head of the line from the start, whatever reserve_after says",
      find: ">= state.policy.reserveAfterMs",
      replace: ">= 0",
    },
    {
      name: "GPUs are kept idle for a request that a sick GPU keeps from starting",
      find: "const later = free.length === 0 ? [] : coming(before, free, now);",
      replace:
        "const later = state.gpus.values().map((gpu) => ({ gpu, memoryMib: gpu.memoryTotalMib ?? 0, isolated: false, now: null }));",
    },
    {
      name: "A GPU held for the head of the line goes to one behind it",
      find: "free = besides(reservation, free);",
      replace: "",
    },
    {
      name: "GPUs that are held for others are taken before those that are not",
      find: "(a, b) => b - a",
      replace: "(a, b) => a - b",
    },
    {
      name: "A grant from the queue is a lease at once, whether or not its client is there",
      find: "claimBy: atOnce ? null : now + claimPatience(request, state.policy),",
      replace: "claimBy: atOnce ? null : null,",
    },
    {
      name: "A max_duration longer than the TTL extends the lease",
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
      find: "const wanted = usable(head, gpus, state.gpus.values());",
      replace: "const wanted = gpus;",
    },
    {
      name: "A TTL is counted on as the end of a lease, though it can be renewed",
      find: "return hardEndOf(holder);",
      replace: "return holder.lease.expiresAt;",
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

export const QUEUE_MUTANTS: readonly Mutant[] = [...LINE, ...SERVING, ...HOLDING];
