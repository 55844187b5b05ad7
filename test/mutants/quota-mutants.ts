/** Bugs of quotas and fair shares. */
import { type Mutant, planted } from "./mutant.ts";

const EXAMPLES = "test/core/queue/quotas.test.ts";
const PROPERTIES = "test/core/queue/quota-properties.test.ts";
const SHARES = "test/core/host/fair-share.test.ts";
const COUNTING = "test/scheduler/counting.test.ts";

const BUDGETS = planted(
  "src/core/queue/budgets.ts",
  [EXAMPLES],
  [
    {
      name: "Grants of one pass do not use the quota up",
      find: "if (state.accounts !== this.#state.accounts) {",
      replace: "if (this.#first === undefined) {",
    },
    {
      name: "What is held for a head leaves its quota to those behind it",
      find: "this.#aside.set(key, { gpus: gpus + head.requirement.gpus, gpuMs: gpuMs + needMs });",
      replace: "this.#aside.set(key, { gpus, gpuMs });",
    },
    {
      name: "Small requests of an account may keep a large one waiting for ever",
      find: "if (first !== undefined && compareKeys(first, place) < 0) return key;",
      replace: "if (first !== undefined && compareKeys(first, place) < -Infinity) return key;",
    },
    {
      name: "A request that a quota can never allow again keeps its account waiting",
      find: "this.#isTight(shape) ? longestWithin(shape, everything) : null",
      replace: "this.#isTight(shape) ? Infinity : null",
    },
    {
      name: "A max_duration for which too few GPU-hours are left is granted",
      find: "if (quotas?.endless === false && eachMs < quota.gpuTime.periodMs)",
      replace: "if (quotas?.endless === true && eachMs < quota.gpuTime.periodMs)",
    },
  ],
);

const ACCOUNTS = planted(
  "src/core/host/accounts.ts",
  [EXAMPLES, PROPERTIES],
  [
    {
      name: "An ended lease counts whole in the period in which it ended",
      find: "Math.min(to, since + periodMs) - Math.max(from, since)",
      replace: "Math.min(to, since + periodMs) - from",
    },
    {
      name: "Nobody looks at who waits when a period begins",
      find: "return renewals.set(renewal, renewal);",
      replace: "return renewals.size > 1_000 ? renewals.set(renewal, renewal) : renewals;",
    },
  ],
);

const OTHERS: readonly Mutant[] = [
  {
    name: "What was counted takes the place of what has ended since",
    file: "src/core/host/accounts.ts",
    find: "spent: { since, ms: ms + ended }",
    replace: "spent: { since, ms }",
    tests: [COUNTING],
  },
  {
    name: "A running lease is charged for what it has taken so far, whatever it may take",
    file: "src/core/queue/quotas.ts",
    find: "hardEnd === null ? now : Math.max(now, hardEnd)",
    replace: "hardEnd === null ? now : Math.min(now, hardEnd)",
    tests: [EXAMPLES],
  },
  {
    name: "A later request of a principal whose share has sunk passes an earlier one",
    file: "src/core/host/fair-share.ts",
    find: "return Math.max(delayMs, latest - now);",
    replace: "return Math.max(delayMs, 0 * latest);",
    tests: [SHARES],
  },
  {
    name: "What was used lately does not fade",
    file: "src/core/host/fair-share.ts",
    find: "return ms * 2 **",
    replace: "return ms * 1 **",
    tests: [SHARES],
  },
  {
    name: "A lease that ends while the archive is read is counted twice",
    file: "src/scheduler/counting.ts",
    find: "if (hadEnded(lease, state, running)) sums.add(lease)",
    replace: "sums.add(lease)",
    tests: [COUNTING],
  },
];

export const QUOTA_MUTANTS: readonly Mutant[] = [...BUDGETS, ...ACCOUNTS, ...OTHERS];
