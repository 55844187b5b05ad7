/** Bugs of running work: in the books, and in the programs around them. */
import { type Mutant, planted } from "./mutant.ts";

const JOBS = "test/work/jobs.test.ts";
const HISTORIES = "test/work/simulation.test.ts";
const DOCUMENTS = "test/work/documents.test.ts";

const GPUS = planted(
  "src/work/runs.ts",
  ["test/work/gpus.test.ts", "test/daemon/leased-gpus.test.ts", "test/work-service/exposition.test.ts"],
  [
    {
      name: "A GPU that has failed stops no run",
      find: 'stopRunsOf(draft, allocationId, "gpu-failed", detail);',
      replace: "",
    },
    {
      name: "A lease of a GPU that has failed is kept for the next run",
      find: "detail);\n  forgetKept(draft, allocationId);",
      replace: "detail);",
    },
    {
      name: "A run after another on its lease waits for no empty GPU",
      find: "{ ...held, leftAt: draft.now }",
      replace: "held",
    },
    {
      name: "A GPU that does not get empty keeps its lease",
      find: '  "gpu-not-clean",\n]);',
      replace: "]);",
    },
    {
      file: "src/work/workers.ts",
      name: "A run is handed out though its GPUs are not empty",
      find: "run.node !== node || awaitsGpus(run)) continue;",
      replace: "run.node !== node) continue;",
    },
    {
      file: "src/work/retries.ts",
      name: "A GPU that was not empty counts against the service",
      find: 'reason !== "lease-ended" && startedAt !== null;',
      replace: 'reason !== "lease-ended";',
    },
    {
      file: "src/daemon/leased-gpus.ts",
      name: "A GPU counts as empty by a reading from before the run's end",
      find: "if (sight.startedAt >= since) return true;",
      replace: "if (sight.startedAt >= since || sight.startedAt >= 0) return true;",
    },
    {
      file: "src/daemon/leased-gpus.ts",
      name: "What runs on an unhealthy GPU is stopped",
      find: "{ isFatal: false, detail:",
      replace: "{ isFatal: true, detail:",
    },
    {
      file: "src/work-service/exposition.ts",
      name: "Ends of runs are counted without their executor",
      find: 'run === undefined ? "" : executorOf(state, run)',
      replace: 'run === undefined ? "" : run.id',
    },
  ],
);

const BOOKS = planted(
  "src/work/runs.ts",
  [JOBS, HISTORIES],
  [
    {
      name: "A run that its node has been told of ends without its worker",
      find: 'if (isOnNode(run)) draft.write({ type: "run-stopping"',
      replace: 'if (isOnNode(run) && run.known) draft.write({ type: "run-stopping"',
    },
    {
      name: "An answer about an earlier attempt counts for the present one",
      find: 'if (run?.phase !== "waiting" || run.attempt !== attempt) return;',
      replace: 'if (run?.phase !== "waiting") return;',
    },
    {
      name: "A lease that was taken away is handed on to the next run",
      find: 'const isOverWith = LEASE_TAKEN.has(reason) || (run.phase === "stopping" && LEASE_TAKEN.has(run.why));',
      replace: "const isOverWith = LEASE_TAKEN.size === 0;",
    },
    {
      name: "A run may take for ever to become ready",
      find: "if (!hasStarted && draft.now - run.handedOutAt >= startTimeoutMs) {",
      replace: "if (!hasStarted && draft.now - run.handedOutAt >= startTimeoutMs * 1e6) {",
    },
    {
      name: "A run may run longer than its timeout",
      find: "run.startedAt !== null && draft.now - run.startedAt >= longestMs",
      replace: "run.startedAt === null && draft.now - run.handedOutAt >= longestMs",
    },
    {
      name: "The end of a lease stops no run",
      find: "if (leaseOf(run)?.allocationId === allocationId) stopRun(",
      replace: "if (run.id === allocationId) stopRun(",
    },
    {
      name: "What no host could hold waits like the rest",
      find: 'if (run.job.kind === "task") failSlot(',
      replace: 'if (run.job.kind !== "task") failSlot(',
    },
    ...[
      {
        file: "src/work/workers.ts",
        name: "An older process of a worker is listened to",
        find: "if (known !== undefined && known.instance > instance) {",
        replace: "if (known !== undefined && known.instance < instance - 1e9) {",
      },
      {
        file: "src/work/workers.ts",
        name: "A run that its worker no longer knows runs on in the books",
        find: "const reason: EndReason = before !== undefined",
        replace: "if (run.epoch > 0) continue;\n    const reason: EndReason = before !== undefined",
      },
      {
        file: "src/work/workers.ts",
        name: "What the worker before it began while a new one looked counts as lost",
        find: "return isUnanswered || before.instance !== worker.instance;",
        replace: "return isUnanswered && before.instance === worker.instance + 0.5;",
      },
      {
        file: "src/work/workers.ts",
        name: "A run that was never seen counts as lost",
        find: "!run.known || seen.has(run.id)) continue;",
        replace: "seen.has(run.id)) continue;",
      },
      {
        file: "src/work/workers.ts",
        name: "What is handed out is not written down first",
        find: 'run.phase !== "assigned" || run.node !== node',
        replace: 'run.phase !== "assigned" || run.node !== node || run.epoch > 0',
      },
      {
        file: "src/work/retries.ts",
        name: "A task is tried again without a rule that says so",
        find: "if (failures > retry.max || !isWorthIt",
        replace: "if (failures > retry.max + 1 || !isWorthIt",
      },
      {
        file: "src/work/retries.ts",
        name: "A task that may still run somewhere is started a second time",
        find: "const allowed = endsSurely ? retry.lost : 0;",
        replace: "const allowed = endsSurely || retry.lost > 0 ? retry.lost : 0;",
      },
      {
        file: "src/work/retries.ts",
        name: "A task that kills its nodes is tried for ever",
        find: "deaths >= POISON_DEATHS",
        replace: "deaths >= POISON_DEATHS * 100",
      },
      {
        file: "src/work/retries.ts",
        name: "A result that says ok: false counts as done",
        find: 'if (reason === "exited" && resultOk !== false)',
        replace: 'if (reason === "exited")',
      },
      {
        file: "src/work/retries.ts",
        name: "Back-off does not grow",
        find: "firstMs * 2 ** Math.min(30, Math.max(0, failures - 1))",
        replace: "firstMs * 2 ** Math.min(0, Math.max(0, failures - 1))",
      },
      {
        file: "src/work/retries.ts",
        name: "A service that never becomes ready is restarted for ever",
        find: "if (inARow >= restart.giveUpAfter) {",
        replace: "if (inARow >= restart.giveUpAfter * 100) {",
      },
      {
        file: "src/work/wanted.ts",
        name: "The lease of a run that is being stopped is released",
        find: "    const lease = leaseOf(run);\n    if (lease !== null) held.add(lease.allocationId);",
        replace:
          '    const lease = run.phase === "stopping" ? null : leaseOf(run);\n    if (lease !== null) held.add(lease.allocationId);',
      },
      {
        file: "src/work/wanted.ts",
        name: "A lease that was asked for just before the daemon died is kept by nobody and never given back",
        find: 'return run?.phase !== "waiting" || run.attempt !== attempt;',
        replace: 'return run?.phase !== "waiting" && run?.phase !== "ended";',
      },
      {
        file: "src/work/wanted.ts",
        name: "One owner's runs fill the line",
        find: "if (next === undefined || (queued.get(run.owner) ?? 0) < (queued.get(next.owner) ?? 0)) next = run;",
        replace: "next ??= run;",
      },
      {
        file: "src/work/workloads.ts",
        name: "A restart takes all replicas at once",
        find: 'if (allServe) stopRun(draft, next, "cancelled", "restart");',
        replace: 'for (const run of old) stopRun(draft, run, "cancelled", "restart");',
      },
      {
        file: "src/work/tasks.ts",
        name: "A task starts before those that it depends on are done",
        find: 'if (!dependencies.every((other) => other?.status === "DONE")) return;',
        replace: "",
      },
      {
        file: "src/work/tasks.ts",
        name: "A task is done before its result is in place",
        find: 'outcome?.kind === "done" && live === null',
        replace: 'outcome?.kind === "done"',
      },
      {
        file: "src/work/state.ts",
        name: "Results that are still to be put in place are forgotten at a restart",
        find: 'return run.phase === "ended" && run.publish !== "wanted";',
        replace: 'return run.phase === "ended";',
      },
    ],
  ],
);

const READING = planted(
  "src/work/documents/keys.ts",
  [DOCUMENTS],
  [
    {
      name: "A model's name may lead out of its folder or be taken for a flag",
      find: "/^(?!.*\\.\\.)[A-Za-z0-9][A-Za-z0-9._-]{0,127}(?:\\/[A-Za-z0-9][A-Za-z0-9._-]{0,127})?$/",
      replace: "/^[A-Za-z0-9._-]{1,128}(?:\\/[A-Za-z0-9._-]{1,128})*$/",
    },
    {
      file: "src/work/documents/task.ts",
      name: "Every replica gets all prompts",
      find: "index % replicas === replica",
      replace: "index >= 0",
    },
  ],
);

const ELSEWHERE = planted(
  "src/work/nodes.ts",
  ["test/work/nodes.test.ts"],
  [
    {
      name: "A run without a deadline on its silent node starts elsewhere all the same",
      find: "fence !== null && now - worker.lastSeen >= fence.ttlMs + SILENT_MS",
      replace: "now - worker.lastSeen >= 125_000",
    },
    {
      name: "The deadline on a node leaves out the grace",
      find: "return ttlMs - graceMs - FENCE_MARGIN_MS;",
      replace: "return ttlMs - FENCE_MARGIN_MS;",
    },
    {
      name: "What a node has not said to have is not wanted of it again",
      find: 'run.phase === "stopping" || run.known || seen.has(run.id)) continue;',
      replace: 'run.phase === "stopping" || run.handedOutAt > 0 || seen.has(run.id)) continue;',
    },
    {
      name: "A node that comes back keeps what has started elsewhere",
      find: 'else if (ended === null && (isOver || run.phase === "stopping"))',
      replace: 'else if (ended === null && run?.phase === "stopping")',
    },
    {
      name: "A result is settled before it is here",
      find: 'if (run?.phase === "ended" && run.publish === "wanted") deliver.push(id);',
      replace: 'if (run?.phase === "ended" && run.publish === "done") deliver.push(id);',
    },
    {
      file: "src/work/workers.ts",
      name: "An old report of a node counts like a new one",
      find: "(worker.link?.seq ?? 0) <= (before?.link?.seq ?? 0)",
      replace: "(worker.link?.seq ?? 0) < 0",
    },
    {
      file: "src/work/wanted.ts",
      name: "The lease of another node is looked after here, and taken for ended",
      find: "elsewhere !== true",
      replace: "elsewhere === undefined || elsewhere",
    },
    {
      file: "src/work/retries.ts",
      name: "A node tries again by itself what a controller has given it",
      find: "ending.isOnce === true || reason",
      replace: "reason",
    },
  ],
);

const FENCE = planted(
  "src/worker/fence.ts",
  ["test/worker/fence.test.ts"],
  [
    {
      file: "src/platform/uptime.ts",
      name: "What was heard before the host was started anew lets a run begin",
      find: 'bootId === readBootId() && typeof at === "number"',
      replace: 'typeof bootId === "string" && typeof at === "number"',
    },
    {
      name: "A run begins on a host that has heard nothing",
      find: "heardAt === null || uptimeMs()",
      replace: "heardAt !== null && uptimeMs()",
    },
    {
      name: "The grace counts from when the deadline is noticed",
      find: "deadline = heardAt + fence.withinMs;",
      replace: "deadline = uptimeMs();",
    },
  ],
);

const LEFT_BEHIND = [
  ...planted(
    "src/worker/worker.ts",
    ["test/worker/homeless.test.ts", "test/worker/takeover.test.ts"],
    [
      {
        name: "A worker whose folder is gone leaves its runs to nobody",
        find: "    if (lives) return false;\n",
        replace: "",
      },
      {
        name: "A worker whose folder is gone asks for ever",
        find: 'if (this.#isHomeless()) return "homeless";',
        replace: "",
      },
      {
        name: "The groups of a start that was given up stay",
        find: "void removeGroups(groupsNamed(this.#cage, run));",
        replace: "",
      },
    ],
  ),
  ...planted(
    "src/work/argv.ts",
    ["test/worker/vllm.test.ts", "test/work/argv.test.ts"],
    [
      {
        name: "A service goes by what it loads, whatever its workload calls it",
        find: 'return typeof named === "string" && named !== "" ? named : identifier;',
        replace: "return named === identifier ? null : identifier;",
      },
      {
        file: "src/worker/executors/vllm-task.ts",
        name: "A task asks its service by a name that this does not know",
        find: "names.includes(model) ? model : (names[0] ?? model)",
        replace: "names.includes(model) ? names[0] ?? model : model",
      },
    ],
  ),
  ...planted(
    "src/worker/worker.ts",
    ["test/worker/no-results.test.ts"],
    [
      {
        name: "A result is given up while there is no folder for it",
        find: "if (isFull || !isWritableFolder(this.#settings.resultsDir)) return false;",
        replace: "if (isFull && !isWritableFolder(this.#settings.resultsDir)) return false;",
      },
    ],
  ),
  ...planted(
    "src/worker/folder.ts",
    ["test/worker/folder.test.ts"],
    [
      {
        name: "The name of an order does not wait for the disk",
        find: "  await flushedNames(folder);\n",
        replace: "",
      },
    ],
  ),
];

const TAKEOVER = planted(
  "src/worker/worker.ts",
  ["test/worker/takeover.test.ts", "test/work-service/gate.test.ts"],
  [
    {
      name: "A worker that takes over never looks again",
      find: "if (!this.#isAnswered) this.#adopt();",
      replace: "",
    },
    {
      name: "What another worker has begun is followed by nobody",
      find: "if (this.#starting.has(run) || this.#takeUp(run) !== null) return;",
      replace: 'if (this.#starting.has(run) || readIn(join(this.#runsDir, run), "order") !== null) return;',
    },
    {
      file: "src/worker/start.ts",
      name: "Whoever comes second writes a container's environment anew",
      find: 'if (!(await claimDurably(folder, "order", order))) return false;',
      replace:
        'const isFirst = await claimDurably(folder, "order", order);\n  if (!isFirst) writesForRun(folder, place, spec.document, envFileOf(env));\n  if (!isFirst) return false;',
    },
    {
      name: "What is to stop and was begun by another worker counts as over",
      find: "const watch = this.#takeUp(run);\n    if (watch !== null) {",
      replace: "const watch = this.#watches.get(run);\n    if (watch !== undefined) {",
    },
    {
      file: "src/worker/start.ts",
      name: "A run is started although another worker has started it",
      find: 'if (!(await claimDurably(folder, "order", order))) return false;',
      replace: 'await claimDurably(folder, "order", order);',
    },
    {
      file: "src/work-service/gate.ts",
      name: "A worker that takes over is given work before it has looked again",
      find: "if (isFirst) return",
      replace: "if (isFirst && runs.length > 0) return",
    },
    {
      file: "src/work/workers.ts",
      name: "A worker whose first answer was lost counts as one that has looked again",
      find: "return isUnanswered || before.instance !== worker.instance;",
      replace: "return before.instance !== worker.instance;",
    },
  ],
);

const SPARE = planted(
  "src/worker/spare.ts",
  ["test/worker/spare.test.ts"],
  [
    {
      name: "A holder that waited is told of no run",
      find: "holder.stdin?.end(`",
      replace: "holder.stdin?.end(`/nowhere",
    },
    {
      name: "A run is given to a holder that is dead",
      find: "if (holder === null || holder.exitCode !== null || holder.signalCode !== null) return false;",
      replace: "if (holder === null) return this.#timer !== null;",
    },
    {
      name: "After the first run no holder waits for the next",
      find: "this.#waiting = null;\n    this.#startIn(AFTER_MS);",
      replace: "this.#waiting = null;",
    },
    {
      file: "src/worker/holder.ts",
      name: "Nothing says whose holder it is",
      find: "process.title = `",
      replace: "void `",
    },
  ],
);

const MEMBER = planted(
  "src/work-service/elsewhere/member.ts",
  ["test/work-service/member.test.ts"],
  [
    {
      name: "An assignment that its controller may have given up is taken",
      find: "heardAt !== null && this.#files.uptimeMs() - heardAt < fenceMs",
      replace: "heardAt !== null || fenceMs > 0",
    },
    {
      name: "A copy of what was declined is taken",
      find: "const over = { ...task, cancelling: true };",
      replace: 'const over = { ...task, id: "another", cancelling: true };',
    },
  ],
);

const SERVICES = planted(
  "src/work/offers.ts",
  ["test/work/services.test.ts"],
  [
    {
      name: "A task that uses a service goes where that is not",
      find: "const left = offers.filter(({ worker }) => serving.has(worker.node));",
      replace: "const left = offers;",
    },
    {
      file: "src/work/wanted.ts",
      name: "A task of a controller's is sent to a port that its service has left",
      find: "return openRunsOf(state).some(serves) ? { service } : {};",
      replace: "return { service };",
    },
  ],
);

const TOLD = planted(
  "src/work-service/deliveries.ts",
  ["test/work-service/deliveries.test.ts"],
  [
    {
      name: "A task that a controller has given is told of by its node too",
      find: "if (task === undefined || task.origin !== undefined) return [];",
      replace: "if (task === undefined) return [];",
    },
    {
      name: "What came of a failed task is uploaded as its result",
      find: 'if (destination !== null && task.status === "DONE" && ',
      replace: "if (destination !== null && ",
    },
    {
      name: "A task's webhook holds the document that was sent",
      find: "const { raw_yaml: _raw, parsed: _parsed, ...record } = taskView(state, task, false);",
      replace: "const record = taskView(state, task, true);",
    },
    {
      name: "What has failed to be told is told again at once",
      find: "FROM deliveries WHERE state = 'pending' AND next_attempt_at <= ?",
      replace: "FROM deliveries WHERE state = 'pending' AND created_at <= ?",
    },
    {
      name: "One principal's many webhooks of tasks hide another's one",
      find: ") ORDER BY place, created_at, id LIMIT ?",
      replace: ") ORDER BY created_at, id LIMIT ?",
    },
    {
      name: "A result is signed as a run has written it, and says what it likes",
      find: "result: JSON.parse(bytes.toString()) })",
      replace: 'result: 0 }).replace("0", bytes.toString())',
    },
    {
      file: "src/work/documents/keys.ts",
      name: "Whoever submits may say whom an upload is for",
      find: "(?!(?:host|connection|",
      replace: "(?!(?:connection|",
    },
  ],
);

const RESTORED = planted(
  "src/work-service/restored.ts",
  ["test/work-service/restored.test.ts"],
  [
    {
      name: "A task out of a backup goes on as if nothing had happened since",
      find: "{ ...task, restored: true, slots: slotsOf(task.slots) }",
      replace: "{ ...task, slots: slotsOf(task.slots) }",
    },
    {
      name: "A run after a restore has the name of one from before it",
      find: "tries: now > slot.tries ? now : slot.tries + TRIES_SKIPPED",
      replace: "tries: now > slot.tries ? slot.tries : slot.tries + TRIES_SKIPPED",
    },
    {
      file: "src/work/tasks.ts",
      name: "A restored task has failed while it still runs",
      find: 'for (const run of liveRuns(draft, task)) stopRun(draft, run, "cancelled", detail);',
      replace:
        'if (task.restored !== true) for (const run of liveRuns(draft, task)) stopRun(draft, run, "cancelled", detail);',
    },
  ],
);

const SERVED = planted(
  "src/work/state.ts",
  ["test/work/services.test.ts"],
  [
    {
      name: "A task may send its prompts to somebody else's service",
      find: "const own = servicesOf(workloads).get(owner);",
      replace: "const own = [...servicesOf(workloads).values()][0];",
    },
    {
      name: "A task is sent to a port of another node",
      find: "(node !== undefined && run.node !== node)) continue;",
      replace: "(node !== undefined && run.node === undefined)) continue;",
    },
    {
      file: "src/work/tasks.ts",
      name: "A task that uses a service starts before that serves",
      find: "return service !== undefined && readyRun(state, service) !== null;",
      replace: "return service !== undefined;",
    },
  ],
);

const BESIDE = planted(
  "src/store/restore.ts",
  ["test/store/beside.test.ts"],
  [
    {
      name: "A restore throws the books of work away that it replaces",
      find: "if (kept !== null) keep(file, kept);",
      replace: "",
    },
    {
      file: "src/store/beside.ts",
      name: "A restored database carries the copy of the other one along",
      find: "database.exec(`DROP TABLE",
      replace: "console.debug(`DROP TABLE",
    },
    {
      file: "src/store/backup.ts",
      name: "A backup leaves the books of work out",
      find: "if (beside !== undefined && look(beside)?.isFile())",
      replace: "if (beside !== undefined && beside === from && look(beside)?.isFile())",
    },
  ],
);

const DURABLE = planted(
  "src/work-service/books.ts",
  ["test/work-service/books.test.ts", "test/worker/parts.test.ts"],
  [
    {
      name: "A run that is about to be told does not wait for the disk",
      find: '  "run-assigned",\n  "gpus-emptied",',
      replace: '  "run-assigned",\n  "run-handed-out",\n  "gpus-emptied",',
    },
    {
      name: "What other hosts told does not wait for the disk",
      find: "if (link !== undefined) return true;",
      replace: "if (link === null) return true;",
    },
    {
      file: "src/worker/watch.ts",
      name: "A run of which a power cut left the order alone counts as never begun",
      find: '(this.end?.reason === "rebooted" ? this.order.orderedAt : null)',
      replace: "null",
    },
    {
      file: "src/worker/folder.ts",
      name: "A file that a power cut has emptied keeps the worker from starting",
      find: "error instanceof SyntaxError ||",
      replace: "",
    },
    {
      file: "src/worker/watch.ts",
      name: "The secrets of a run stay on the disk when its worker died at its end",
      find: "if (this.end !== null && Object.keys(order.env).length > 0) this.#tidyUp();",
      replace: "",
    },
  ],
);

const AFTER_LOSS = [
  ...planted(
    "src/work/adopt.ts",
    ["test/work/adopt.test.ts"],
    [
      {
        name: "A service is adopted as its oldest run knew it",
        find: "left.sort(byNewest)",
        replace: "left",
      },
      {
        name: "A run that is left out makes its service a second time",
        find: "if (made === undefined) {",
        replace: "if (made === undefined || made.deleted) {",
      },
    ],
  ),
  ...planted(
    "src/work-service/books-time.ts",
    ["test/work-service/books-time.test.ts"],
    [
      {
        name: "Books that were moved once are moved at every start",
        find: 'runs.filter(({ phase }) => phase !== "ended").map(',
        replace: "runs.map(",
      },
    ],
  ),
  ...planted(
    "src/worker/results.ts",
    ["test/worker/parts.test.ts"],
    [
      {
        name: "Results that another worker still copies are told to be in place",
        find: 'if (holder.lives) return "another\'s";',
        replace: "if (holder.lives) return null;",
      },
    ],
  ),
  ...planted(
    "src/worker/watch.ts",
    ["test/worker/parts.test.ts"],
    [
      {
        name: "Of a session only those who were there at its leader's end are known",
        find: "this.#ownAt = table.takenAtMs;",
        replace: "this.#ownAt = undefined;",
      },
      {
        name: "An adopted run that ends before the books know it is forgotten",
        find: "const isKnown = this.#adopted === null || this.settled;",
        replace: "const isKnown = true;",
      },
    ],
  ),
];

const LEASES = planted(
  "src/work/wanted.ts",
  [HISTORIES],
  [
    {
      name: "A lease that no run wants is never given back",
      find: "if (held.has(allocationId)) return false;",
      replace: "if (held.has(allocationId) || attempt > 0) return false;",
    },
    {
      name: "A lease that has ended under its run is not looked after",
      find: "return [...openRunsOf(state).map(leaseOf), ...kept]",
      replace: "return [...kept]",
    },
  ],
);

const STRANGERS = planted(
  "src/work-service/look.ts",
  ["test/work-service/look.test.ts"],
  [
    {
      name: "The lease of an adopted run is released as one of lost books",
      find: "of ofOthers.filter((one) => !isAdopted(one)))",
      replace: "of ofOthers)",
    },
    {
      name: "The lease of a run that its restored books do not know is released under it",
      find: "if (!mayBeInUse(state, lease, living)) this.#release(lease.allocationId, owner);",
      replace: "this.#release(lease.allocationId, owner);",
    },
    {
      name: "The lease of an adopted run stays when it is over",
      find: "...ofOthers.filter(isAdopted)]",
      replace: "...ofOthers.filter(() => false)]",
    },
    {
      file: "src/work/wanted.ts",
      name: "Before a worker has said what lives, leases of lost books are released",
      find: "if (run === undefined) return true;",
      replace: "if (run === undefined) return false;",
    },
    {
      name: "The lease of a run of lost books is released under it",
      find: "if (!mayBeInUse(state, lease, living)) this.#release(lease.allocationId, lease.owner);",
      replace: "this.#release(lease.allocationId, lease.owner);",
    },
    {
      file: "src/work/wanted.ts",
      name: "A lease that was kept over a restart is released under the run that has it, when its books are lost",
      find: "living.runs.has(lease.run) || living.leases.has(lease.allocationId)",
      replace: "living.runs.has(lease.run)",
    },
    {
      name: "A lease that was kept over a restart is released under the adopted run that has it",
      find: "counted.has(allocationId) || state",
      replace: "state",
    },
  ],
);

const ADOPTED = planted(
  "src/work/adopt.ts",
  ["test/work/adopt.test.ts"],
  [
    {
      name: "A task of which nobody knows how often it was tried is tried again",
      find: "retry: { max: 0, lost: 0, on: null",
      replace: "retry: { max: 1, lost: 1, on: null",
    },
    {
      name: "A run is adopted a second time",
      find: "draft.state.runs.get(assignment.run) === undefined",
      replace: "assignment.run !== undefined",
    },
    {
      name: "The replicas of an adopted task have one id",
      find: "assignment.replicas === 1 && state",
      replace: "assignment.replicas >= 1 && state",
    },
    {
      name: "An adopted service takes the name of another",
      find: "workloadNamed(draft.state, record.id) === undefined ? record.id",
      replace: "record.id !== undefined ? record.id",
    },
  ],
);

const GUARDS = [
  ...planted(
    "src/work/workloads.ts",
    [JOBS],
    [
      {
        name: "Runs of a service that is wanted go when they are old",
        find: "place >= keep || (!isWanted && endedAt < before)",
        replace: "place >= keep || endedAt < before",
      },
      {
        name: "The oldest runs of a service stay",
        find: "b.endedAt - a.endedAt || b.epoch - a.epoch",
        replace: "a.endedAt - b.endedAt || a.epoch - b.epoch",
      },
    ],
  ),
  ...planted(
    "src/worker/watch.ts",
    ["test/worker/parts.test.ts"],
    [
      {
        name: "Nobody is told which lease a run has",
        find: "return allocationId === undefined || this.end !== null ? {} : { allocationId };",
        replace: "return {};",
      },
    ],
  ),
  ...planted(
    "src/work/evolve.ts",
    ["test/work/cages.test.ts"],
    [
      {
        name: "Of a run that has ended nobody knows which limits held",
        find: "...(isOnNode(before) && before.cage !== undefined ? { cage: before.cage } : {}),",
        replace: "...{},",
      },
    ],
  ),
  ...planted(
    "src/worker/results.ts",
    ["test/worker/parts.test.ts"],
    [
      {
        name: "What a run has moved to its output is shown as its own",
        find: "const isOwn = owners?.has(stat.uid) !== false;",
        replace: "const isOwn = owners?.has(-1) !== true;",
      },
      {
        name: "What a worker cleaned before it died is taken for another user's",
        find: "isResumed ? [uid,",
        replace: "!isResumed ? [uid,",
      },
    ],
  ),
  ...planted(
    "src/work/argv.ts",
    ["test/work-service/judged.test.ts", "test/work/argv.test.ts"],
    [
      {
        name: "A vLLM that others reach has any secret and no key",
        find: 'type === "vllm" ? secrets.includes(VLLM_KEY)',
        replace: 'type === "vllm" ? secrets.length > 0',
      },
      {
        name: "Nobody is told that trust_remote_code was dropped",
        find: "return commandOf(kind, spec, settings, NOWHERE).warnings;",
        replace: "return commandOf(kind, spec, settings, NOWHERE).warnings.slice(9);",
      },
    ],
  ),
  ...planted(
    "src/work-service/opened.ts",
    ["test/work-service/opened.test.ts"],
    [
      {
        name: "A program is opened by its link's name alone",
        find: "return [program, real, ...(links.get(real) ?? [])].flatMap",
        replace: "return [program, ...(links.get(real) ?? [])].flatMap",
      },
      {
        name: "A program goes by no link that only its caller names",
        find: "...(links.get(real) ?? [])",
        replace: "...(links.get(program + real) ?? [])",
      },
    ],
  ),
];

/** Of books out of a backup: what the generated histories find by themselves, and what is too rare for three hundred. */
const RESTORES = [
  ...planted(
    "src/work-service/restored.ts",
    [HISTORIES],
    [
      {
        name: "What no worker was known to have when the backup was made is taken for what never began",
        find: 'run.phase === "ended" || (isOnNode(run) && run.known)',
        replace: 'run.phase !== "waiting" || isOnNode(run)',
      },
      {
        name: "A second restore of one backup gives the names of the first again",
        find: "now > slot.tries ? now : slot",
        replace: "now < slot.tries ? now : slot",
      },
      {
        file: "src/work/workers.ts",
        name: "A replica begins while one that was begun since the backup still lives",
        find: "if (alive.some((other) => isInPlaceOf(run, other))) continue;",
        replace: "if (alive.some((other) => isInPlaceOf(run, other)) && room < 0) continue;",
      },
      {
        file: "src/work/wanted.ts",
        name: "A kept lease is given back before a worker has said what lives on it",
        find: 'return run.phase === "ended" && run.handedOut === true &&',
        replace: 'return run.phase === "ended" && run.owner === "" &&',
      },
    ],
  ),
  ...planted(
    "src/work/workers.ts",
    ["test/work/restores.test.ts", "test/work/adopt.test.ts"],
    [
      {
        name: "A run has a lease on which another still lives",
        find: "if (lease !== null && lease.allocationId === other.allocationId) return true;",
        replace: "if (lease !== null && lease.allocationId === other.run) return true;",
      },
      {
        file: "src/work/wanted.ts",
        name: "What is over by the books and lives goes on for ever",
        find: ' || (run.phase === "ended" && ended === null)',
        replace: ' || (run.phase === "waiting" && ended === null)',
      },
      {
        file: "src/work/runs.ts",
        name: "A run that is lost while it is stopped for its lease hands that on",
        find: '(run.phase === "stopping" && LEASE_TAKEN.has(run.why))',
        replace: '(run.phase === "stopping" && run.why === "gpu-not-clean")',
      },
      {
        file: "src/work/adopt.ts",
        name: "A service that the books have themselves is adopted beside it",
        find: "one.uid === job || one.adoptedFrom === job",
        replace: "one.adoptedFrom === job",
      },
    ],
  ),
];

/** What the generated histories find by themselves. */
const LOST = planted(
  "src/work/adopt.ts",
  [HISTORIES, "test/work-service/strangers.test.ts", "test/work/adopt.test.ts"],
  [
    {
      name: "An adopted task is tried again in a history",
      find: "retry: { max: 0, lost: 0, on: null, neverOn: [], backoffMs: 1_000",
      replace: "retry: { max: 2, lost: 2, on: null, neverOn: [], backoffMs: 1_000",
    },
    {
      file: "src/work/runs.ts",
      name: "An adopted task that had not begun is tried again",
      find: "(job.origin !== undefined || job.adopted === true)",
      replace: "job.origin !== undefined",
    },
    {
      name: "An adopted run is in the books without its lease",
      find: "generation, node, lease, startedAt: began",
      replace: "generation, node, lease: null, startedAt: began",
    },
    {
      file: "src/work-service/strangers.ts",
      name: "What a worker saw before it was obeyed is taken for all that lives",
      find: "this.#seen === null || !this.#isWhole",
      replace: "this.#seen === null",
    },
    {
      file: "src/work-service/strangers.ts",
      name: "What other lost books have adopted is taken for adopted by these",
      find: "(seen.books ?? ours) === ours ? { ...seen, adopted }",
      replace: "seen.run !== ours ? { ...seen, adopted }",
    },
    {
      file: "src/work-service/strangers.ts",
      name: "A run that an admin has adopted is reported by nobody until it is in the books",
      find: "books === ours && (adopted === undefined || isKnown(run));",
      replace: "books === ours && adopted === undefined;",
    },
  ],
);

const ADOPTION = planted(
  "src/work-service/strangers.ts",
  ["test/work-service/gate.test.ts"],
  [
    {
      name: "An adopted run that is not in the books yet is stopped as an orphan",
      find: "books === ours && (adopted === undefined || isKnown(run))",
      replace: "books === ours && (adopted === undefined || run !== undefined)",
    },
    {
      name: "An adopted run that has ended before it was in the books is forgotten",
      find: "ended !== null && adopted === undefined",
      replace: "ended !== null",
    },
    {
      file: "src/work-service/gate.ts",
      name: "A worker that is refused has runs of its own adopted",
      find: "<= worker.instance;",
      replace: "<= worker.instance + 1e15;",
    },
  ],
);

const CLOCKS = planted(
  "src/work/moved.ts",
  ["test/work-service/books-time.test.ts"],
  [
    {
      name: "Back-off grows by what the clock was set back",
      find: "nextAt: nextAt === null ? null : nextAt + ms",
      replace: "nextAt",
    },
    {
      name: "A clock that was set ahead is taken for time that a run has had",
      find: "startedAt: moved(startedAt)",
      replace: "startedAt",
    },
    {
      name: "A node is heard of in the future",
      find: "lastSeen: worker.lastSeen + ms",
      replace: "lastSeen: worker.lastSeen",
    },
    {
      file: "src/work-service/books-time.ts",
      name: "The uptime of a container is taken for the host's",
      find: "row?.boot_id === bootId && continued > last - LEAST_SETTING_MS",
      replace: "row?.boot_id === bootId",
    },
    {
      file: "src/work-service/books-time.ts",
      name: "A clock that is ahead after a boot is not believed",
      find: "Math.min(0, at - last)",
      replace: "at - last",
    },
    {
      file: "src/work/workers.ts",
      name: "A run has begun by its worker's clock",
      find: "return run.startedAt ?? Math.min(draft.now, Math.max(startedAt, run.handedOutAt));",
      replace: "return startedAt;",
    },
  ],
);

const PARTS = planted(
  "src/worker/processes.ts",
  ["test/worker/parts.test.ts", "test/worker/leftovers.test.ts"],
  [
    {
      name: "A stranger's session that has come to a run's number is taken for the run's",
      find: "const isOwn = now !== undefined || members.some((member) => marked.has(member.pid) || wasThere(member));",
      replace: "const isOwn = now !== undefined || members.some((member) => marked.has(member.pid) || member.pid > 0);",
    },
    {
      name: "What a main process has left unmarked in its session is not found when that has ended",
      find: "marked.has(member.pid) || wasThere(member)",
      replace: "marked.has(member.pid)",
    },
    {
      file: "src/worker/cages.ts",
      name: "What a dead holder of a systemd unit has left is not found",
      find: "if (holder.group !== undefined) return [holder.group];",
      replace: "",
    },
    {
      file: "src/worker/watch.ts",
      name: "A clock that is set back makes the grace longer",
      find: "if (performance.now() - this.#graceFrom >= graceMs)",
      replace: "if (now - since >= graceMs)",
    },
    {
      file: "src/worker/results.ts",
      name: "A result is taken away from the worker that puts it in place",
      find: 'if (holder.lives) return "another\'s";',
      replace: "",
    },
    {
      file: "src/worker/results.ts",
      name: "A result of a worker that died over it is lost",
      find: "return isMoved(join(folder, name), own) ? { out: own, isResumed: true } : claimed(folder);",
      replace: "return null;",
    },
    {
      file: "src/worker/leftovers.ts",
      name: "Secrets of a start that was left half done stay",
      find: "return touchedAt !== null && now",
      replace: "return touchedAt !== null && touchedAt > now && now",
    },
  ],
);

export const WORK_MUTANTS: readonly Mutant[] = [
  ...BOOKS,
  ...GPUS,
  ...STRANGERS,
  ...ADOPTED,
  ...LOST,
  ...ADOPTION,
  ...GUARDS,
  ...CLOCKS,
  ...PARTS,
  ...LEASES,
  ...DURABLE,
  ...READING,
  ...ELSEWHERE,
  ...FENCE,
  ...LEFT_BEHIND,
  ...TAKEOVER,
  ...SPARE,
  ...AFTER_LOSS,
  ...MEMBER,
  ...SERVICES,
  ...TOLD,
  ...RESTORED,
  ...RESTORES,
  ...SERVED,
  ...BESIDE,
];
