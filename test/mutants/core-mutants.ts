/** Bugs of the decisions. */
import { type Mutant, planted } from "./mutant.ts";

const LEASE = "test/core/decisions/lease.test.ts";
const QUEUE = "test/core/queue/queue.test.ts";
const OWNERSHIP = "test/core/decisions/observe/ownership.test.ts";
const ADMIN = "test/core/decisions/admin.test.ts";
const TRUTH = "test/core/decisions/observe/driver-truth.test.ts";

const LEASES = planted(
  "src/core/decisions/decide.ts",
  [LEASE],
  [
    {
      name: "A lease ends a second before its time",
      file: "src/core/decisions/due.ts",
      find: "due === undefined || due.at > now) return;",
      replace: "due === undefined || due.at > now + 1_000) return;",
    },
    {
      name: "What fell due while the daemon was away ends at its return, without a grace",
      find: 'if (command.type !== "resume") expireDue(draft, now);',
      replace: "expireDue(draft, now);",
    },
    {
      name: "The grace after an absence is longer than the lease's own TTL",
      file: "src/core/decisions/resume.ts",
      find: "Math.min(request.ttlMs ?? GRACE_AFTER_ABSENCE_MS, GRACE_AFTER_ABSENCE_MS)",
      replace: "GRACE_AFTER_ABSENCE_MS",
    },
    {
      name: "A command acts before what is due by then: a claim that comes too late revives the offer",
      find: 'if (command.type !== "resume") expireDue(draft, now);',
      replace: 'if (command.type !== "resume" && command.type !== "claim") expireDue(draft, now);',
    },
    {
      name: "Leases without an end outlive a new boot of the host",
      file: "src/core/decisions/resume.ts",
      find: "const rebooted = bootId !== null && bootId !== command.bootId;",
      replace: "const rebooted = bootId === undefined;",
    },
    {
      name: "A client that hung up before its answer keeps the lease that it never heard of",
      find: 'draft.write({ type: "reoffered", id: command.id, at: now, claimBy });',
      replace: 'draft.write({ type: "claimed", id: command.id, at: claimBy });',
    },
    {
      name: "A renewal moves the hard end of max_duration too",
      file: "src/core/decisions/lifecycle.ts",
      find: "endOf(allocation.request, allocation.lease.grantedAt, now)",
      replace: "endOf(allocation.request, now, now)",
    },
    {
      name: "Anybody may release and renew anybody's lease by its id",
      file: "src/core/decisions/lifecycle.ts",
      find: "if (!owns(actor, allocation)) throw",
      replace: 'if (actor.principal === "") throw',
    },
    {
      name: "A release by service ends the leases of other principals too",
      file: "src/core/decisions/lifecycle.ts",
      find: ".filter((allocation) => owns(actor, allocation));",
      replace: ";",
    },
    {
      name: "A release by service also ends services whose name begins alike",
      file: "src/core/decisions/lifecycle.ts",
      find: "if (allocation.request.serviceName === serviceName) found.push(allocation);",
      replace: "found.push(allocation);",
    },
    {
      name: "A stale fencing token is accepted",
      file: "src/core/decisions/lifecycle.ts",
      find: "if (right !== given) throw",
      replace: "if (right === null || right < given) throw",
    },
    {
      name: "An admin who looks at an offer claims it for its client",
      find: "if (command.actor.principal !== allocation.request.principal) return;",
      replace: "if (!command.actor.admin && command.actor.principal !== allocation.request.principal) return;",
    },
    {
      name: "A client that waits on an open connection counts as silent meanwhile",
      find: "seenAt: now + command.waitMs",
      replace: "seenAt: now",
    },
  ],
);

const SUBMISSIONS = planted(
  "src/core/decisions/submit.ts",
  [QUEUE],
  [
    {
      name: "The queue holds one request less than its limit",
      find: "after.line.order.size > submitted.policy.maxQueueSize",
      replace: "after.line.order.size >= submitted.policy.maxQueueSize",
    },
    {
      name: "The queue holds one request more than its limit",
      find: "after.line.order.size > submitted.policy.maxQueueSize",
      replace: "after.line.order.size > submitted.policy.maxQueueSize + 1",
    },
    {
      name: "What can be served at once is refused for a full queue, or for not wanting to wait",
      find: 'if (newcomer?.status !== "queued") return;',
      replace: "if (newcomer === undefined) return;",
    },
    {
      name: "A request that does not want to wait is queued",
      find: "if (!command.ask.queue)",
      replace: "if (command.ask.queue === undefined)",
    },
  ],
);

const DRAINED = planted(
  "src/core/explain/explain.ts",
  ["test/core/explain/explain.test.ts"],
  [
    {
      name: "Who waits is not told that the host is drained",
      // biome-ignore lint/suspicious/noTemplateCurlyInString: it is the program's.
      find: "isHead(request), state)}${drainWords(state)}`;",
      replace: "isHead(request), state)}`;",
    },
  ],
);

const RECLAIMING = planted(
  "src/core/decisions/drafting.ts",
  [TRUTH],
  [
    {
      name: "A GPU that was used is free at the end of its lease, without being seen empty",
      find: "if (use !== null && wasUsed(use)) return true;",
      replace: "if (use !== null && wasUsed(use)) return false;",
    },
    {
      name: "A lease that nobody watched leaves its GPU free at once",
      find: "return now - sight.finishedAt > refreshIntervalMs;",
      replace: "return false;",
    },
    {
      name: "A reading from before the grant proves that the lease used nothing",
      find: "if (sight === undefined || sight.startedAt < lease.grantedAt) return true;",
      replace: "if (sight === undefined) return true;",
    },
    {
      name: "Requests are granted on readings of long ago while no GPU can be seen",
      file: "src/core/decisions/submit.ts",
      find: "if (!anyCurrentReading(draft.state, now)) {",
      replace: "if (draft.state.gpus.size === 0) {",
    },
  ],
);

const BOOKS: readonly Mutant[] = [
  {
    name: "Two leases get the same fencing token",
    file: "src/core/host/evolve.ts",
    find: "Math.max(state.nextFencingToken, lease.fencingToken + 1)",
    replace: "Math.max(state.nextFencingToken, lease.fencingToken)",
    tests: [LEASE],
  },
  {
    name: "Fencing tokens fall back after a start whose clock is behind",
    file: "src/core/host/evolve.ts",
    find: "Math.max(state.nextFencingToken, event.fencingFloor)",
    replace: "event.fencingFloor",
    tests: [LEASE],
  },
  {
    name: "Fencing tokens do not begin at the wall clock, so that a restored backup repeats them",
    file: "src/core/host/evolve.ts",
    find: "Math.max(state.nextFencingToken, event.fencingFloor)",
    replace: "state.nextFencingToken",
    tests: [LEASE],
  },
  {
    name: "That a GPU was used is forgotten before its lease ends",
    file: "src/core/host/evolve.ts",
    find: "hold: { ...hold, use: change(hold.use) }",
    replace: "hold: { ...hold, use: change({ ...hold.use }) && NO_USE }",
    tests: [TRUTH],
  },
  {
    name: "A GPU that must be seen empty is free in the books",
    file: "src/core/host/evolve.ts",
    find: "const verify = event.verify.includes(gpu.uuid);",
    replace: 'const verify = event.verify.includes("all");',
    tests: [TRUTH],
  },
  {
    name: "A new index lifts a cordon",
    file: "src/core/host/evolve.ts",
    find: "[{ ...event.gpu, hold, cordon, fault, answeredUpTo, lostSince, foreignSince }]",
    replace:
      "[{ ...event.gpu, hold, cordon: state.gpus.get(event.gpu.uuid)?.index === event.gpu.index ? cordon : null, fault, answeredUpTo, lostSince, foreignSince }]",
    tests: [ADMIN],
  },
  {
    name: "A cordoned GPU is granted",
    file: "src/core/host/condition.ts",
    find: "if (cordon !== undefined) return",
    replace: 'if (cordon !== undefined && gpu.hold.kind !== "free") return',
    tests: [ADMIN],
  },
  {
    name: "A leased GPU is struck off",
    file: "src/core/decisions/admin.ts",
    find: 'if (holdersOf(hold).length > 0 || hold.kind === "reclaiming") throw',
    replace: 'if (hold.kind === "reclaiming") throw',
    tests: [ADMIN],
  },
  {
    name: "A pid that was given again names a lease",
    file: "src/core/decisions/observe/ownership.ts",
    find: "lessee !== undefined && forebear.startedAt <= lessee.submittedAt + START_SLACK_MS",
    replace: "lessee !== undefined",
    tests: [OWNERSHIP],
  },
  {
    name: "A group of two leases is the last one's",
    file: "src/core/decisions/observe/ownership.ts",
    find: "(groups.get(group) ?? id) === id ? id : null",
    replace: "id",
    tests: [OWNERSHIP],
  },
  {
    name: "A group outlives its lease",
    file: "src/core/decisions/observe/ownership.ts",
    find: "id !== null && holding.has(id)",
    replace: "id !== null",
    tests: [OWNERSHIP],
  },
  {
    name: "A process that hides its memory does not occupy its GPU",
    file: "src/core/readings/use.ts",
    find: "process.usedMemoryMib ?? Infinity",
    replace: "process.usedMemoryMib ?? 0",
    tests: [OWNERSHIP],
  },
  {
    name: "A small process explains any memory in use",
    file: "src/core/readings/health.ts",
    find: "processes.some((process) => !computes(process.type))",
    replace: "processes.length > 0",
    tests: [OWNERSHIP],
  },
  {
    name: "A change of its index frees a leased GPU",
    file: "src/core/host/evolve.ts",
    find: "[{ ...event.gpu, hold, cordon, fault, answeredUpTo, lostSince, foreignSince }]",
    replace:
      "[{ ...event.gpu, hold: state.gpus.get(event.gpu.uuid)?.index === event.gpu.index ? hold : FREE, cordon, fault, answeredUpTo, lostSince, foreignSince }]",
    tests: [TRUTH],
  },
  {
    name: "Silence while the daemon was away counts against those who wait",
    file: "src/core/host/evolve.ts",
    find: "{ ...allocation, seenAt: Math.max(allocation.seenAt, event.at) }",
    replace: "allocation",
    tests: [LEASE],
  },
  {
    name: "A lease with a TTL never ends",
    file: "src/core/host/deadlines.ts",
    find: "return heldUntil(allocation);",
    replace: "return null;",
    tests: [LEASE],
  },
  {
    name: "An offer waits for its client for ever",
    file: "src/core/host/deadlines.ts",
    find: "return Math.min(allocation.claimBy, heldUntil(allocation) ?? Infinity);",
    replace: "return heldUntil(allocation);",
    tests: [LEASE],
  },
  {
    name: "An offer outlives the TTL of its lease",
    file: "src/core/host/deadlines.ts",
    find: "return Math.min(allocation.claimBy, heldUntil(allocation) ?? Infinity);",
    replace: "return allocation.claimBy;",
    tests: [LEASE],
  },
  {
    name: "A silent request without a webhook is never abandoned",
    file: "src/core/host/deadlines.ts",
    find: "request.webhookUrl === null ? allocation.seenAt + policy.abandonAfterMs : Infinity",
    replace: "request.webhookUrl === null && policy.abandonAfterMs < 0 ? allocation.seenAt : Infinity",
    tests: [LEASE],
  },
  {
    name: "A GPU that stays busy after its lease is never quarantined",
    file: "src/core/host/deadlines.ts",
    find: 'if (hold.kind === "reclaiming") return hold.since',
    replace: 'if (hold.kind === "reclaiming" && hold.since < 0) return hold.since',
    tests: [TRUTH],
  },
];

const PLACING: readonly Mutant[] = [
  {
    name: "The model that a request asks for is ignored",
    file: "src/core/allocator/fit.ts",
    find: 'if (shape.names !== null && !shape.names.has(gpu.name)) return "model";',
    replace: "",
    tests: [QUEUE],
  },
  {
    name: "A request counts as impossible while too many GPUs are lost",
    file: "src/core/allocator/never-fits.ts",
    find: "if (large >= count) return null;",
    replace:
      "if (large - state.gpus.values().filter(({ lostSince }) => lostSince !== null).length >= count) return null;",
    tests: [QUEUE],
  },
  {
    name: "What could never fit is queued for ever",
    file: "src/core/allocator/never-fits.ts",
    find: "if (large >= count) return null;",
    replace: "if (cards.length > 0) return null;",
    tests: [QUEUE],
  },
  {
    name: "A GPU without a utilisation reading is passed over by everybody",
    file: "src/core/allocator/fit.ts",
    find: 'return shape.maxUtilizationExplicit ? "utilization" : null;',
    replace: 'return "utilization";',
    tests: [TRUTH],
  },
  {
    name: "A missing utilisation reading counts as 0 %, even against a stated limit",
    file: "src/core/allocator/fit.ts",
    find: 'return shape.maxUtilizationExplicit ? "utilization" : null;',
    replace: "return null;",
    tests: [TRUTH],
  },
  {
    name: "The largest GPU that fits is taken, so that no large one stays whole",
    file: "src/core/allocator/place.ts",
    find: "a.availableMib - b.availableMib ||",
    replace: "b.availableMib - a.availableMib ||",
    tests: [QUEUE],
  },
  {
    name: "Equal GPUs go by the order in which they were seen",
    file: "src/core/allocator/place.ts",
    find: "            compareText(boardOf(a.gpu), boardOf(b.gpu)) ||\n            compareText(a.gpu.uuid, b.gpu.uuid),",
    replace: "            compareText(boardOf(a.gpu), boardOf(a.gpu)),",
    tests: ["test/core/allocator/topology.test.ts"],
  },
];

const SEEING: readonly Mutant[] = [
  {
    name: "A GPU with a process of no lease is granted",
    file: "src/core/readings/health.ts",
    find: "occupation(reading, owners) ?? business(reading, processesHidden)",
    replace: "owners.size < 0 ? occupation(reading, owners) : business(reading, processesHidden)",
    tests: [TRUTH],
  },
  {
    name: "A GPU that the driver calls lost is granted as long as its memory can be read",
    file: "src/core/readings/health.ts",
    find: "if (isLoss(path, words)) return",
    replace: "if (isLoss(path, words) && reading.memoryUsedMib === null) return",
    tests: [TRUTH],
  },
  {
    name: "A degraded GPU is granted",
    file: "src/core/readings/health.ts",
    find: "if ((health.eccUncorrectedVolatile ?? 0) > 0) {",
    replace: "if ((health.eccUncorrectedVolatile ?? 0) < 0) {",
    tests: [TRUTH],
  },
  {
    name: "A GPU whose memory cannot be read is granted",
    file: "src/core/readings/health.ts",
    find: "if (reading.memoryTotalMib === null || memoryInUseMib(reading) === null) {",
    replace: "if (reading.memoryTotalMib === null) {",
    tests: [TRUTH],
  },
  {
    name: "A GPU whose reading is stale is granted",
    file: "src/core/host/condition.ts",
    find: "if (now - readAt > staleAfterMs) {",
    replace: "if (now - sight.finishedAt < 0) {",
    tests: [TRUTH],
  },
  {
    name: "A quarantined GPU is granted",
    file: "src/core/host/candidates.ts",
    find: 'if (hold.kind !== "shared") return',
    replace:
      'if (hold.kind === "quarantined") return ailing(gpu, state, AT_ONCE) === null;\n  if (hold.kind !== "shared") return',
    tests: [TRUTH],
  },
  {
    name: "GPUs are granted although the driver is gone",
    file: "src/core/host/condition.ts",
    find: "if (failure !== null && BLINDING.has(failure.kind)) {",
    replace: "if (failure !== null && sight === undefined && BLINDING.has(failure.kind)) {",
    tests: [TRUTH],
  },
  {
    name: "Memory that others use is offered",
    file: "src/core/host/candidates.ts",
    find: "const taken = isAsGoodAsEmpty(used, total) ? 0 : used;",
    replace: "const taken = isAsGoodAsEmpty(used, total) ? 0 : Math.min(used, 0);",
    tests: [TRUTH],
  },
  {
    name: "A GPU that is missing from a good reading keeps its last one, and is granted",
    file: "src/core/decisions/observe/sight.ts",
    find: "const gpus = new Map<GpuUuid, GpuSight>();",
    replace: "const gpus = new Map<GpuUuid, GpuSight>(state.sight.gpus);",
    tests: [TRUTH, QUEUE],
  },
  {
    name: "A reading that began before the lease's end frees its GPU",
    file: "src/core/decisions/observe/observe.ts",
    find: "observation.startedAt >= hold.since && isEmpty(",
    replace: "isEmpty(",
    tests: [TRUTH],
  },
  {
    name: "Memory that cannot be read counts as 0, and frees the GPU of an ended lease",
    file: "src/core/decisions/observe/observe.ts",
    find: "if (usedMib === null || reading.memoryTotalMib === null || isGhost(reading)) return false;",
    replace: "if (usedMib === null || reading.memoryTotalMib === null || isGhost(reading)) return true;",
    tests: [TRUTH],
  },
  {
    name: "Memory in use without a process is no use of a lease",
    file: "src/core/decisions/observe/observe.ts",
    find: "null : usedMib > baselineMib + SETTLED_SLACK_MIB;",
    replace: "null : false;",
    tests: [TRUTH],
  },
  {
    name: "A sick GPU that does not tell its size has shrunk to nothing",
    file: "src/core/decisions/observe/observe.ts",
    find: "memoryTotalMib: reading.memoryTotalMib ?? known?.memoryTotalMib ?? null,",
    replace: "memoryTotalMib: reading.memoryTotalMib,",
    tests: [QUEUE],
  },
];

export const CORE_MUTANTS: readonly Mutant[] = [
  ...LEASES,
  ...SUBMISSIONS,
  ...DRAINED,
  ...RECLAIMING,
  ...BOOKS,
  ...PLACING,
  ...SEEING,
];
