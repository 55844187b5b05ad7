/** Bugs of the rooms around the decisions. */
import { type Mutant, planted } from "./mutant.ts";

const SCHEDULER = "test/scheduler/scheduler.test.ts";
const DURABILITY = "test/scheduler/durability.test.ts";
const PAGE = "test/http/allocations/page.test.ts";
const BODIES = "test/wire/webhooks/bodies.test.ts";

const TURNS = planted(
  "src/scheduler/turns.ts",
  [DURABILITY, SCHEDULER],
  [
    {
      name: "Callers are answered before the commit",
      find: "await this.#commit(draft, now);",
      replace: "for (const answer of answers) answer();\n        await this.#commit(draft, now);",
    },
    {
      name: "The commit is not waited for",
      find: "await this.#commit(draft, now);",
      replace: "this.#commit(draft, now).catch(() => undefined);",
    },
    {
      name: "The new state is shown before it is committed",
      find: "await this.#commit(draft, now);",
      replace: "this.#state = draft.state;\n        await this.#commit(draft, now);",
    },
    {
      name: "A failed commit keeps the new state",
      find: "this.#undo(envelopes, before, error);",
      replace: "this.#undo(envelopes, draft.state, error);",
    },
    {
      name: "Waiters, webhooks and metrics hear of a turn that the store refused",
      find: "this.#undo(envelopes, before, error);\n        return NOTHING_TO_TELL;",
      replace:
        "this.#undo(envelopes, before, error);\n        return () => this.#tell(draft, { at: now, before, lastSeq: this.#lastSeq });",
    },
    {
      name: "Another thread waits with a turn until all have heard of the last",
      find: "if (!this.#parts.store.commitsAside) {",
      replace: "if (this.#parts.store.commitsAside !== null) {",
    },
    {
      name: "With a full disk the figures of the readings stand still too",
      find: 'if (command.type === "observe") return withObservation(',
      replace: 'if (command.type === "observe" && state.gpus.size > 1e9) return withObservation(',
    },
    {
      name: "With a full disk a key's and a quota's old limits live on",
      find: 'if (command.type !== "reconfigure") return state;',
      replace: 'if (command.type !== "reconfigure" || this.#storageFailed) return state;',
    },
    {
      name: "A command that is refused undoes those before it in its turn",
      find: "return () => envelope.reject(error);",
      replace:
        "draft.add(envelope.command, { events: [], ended: [], state: draft.begun }, {});\n      return () => envelope.reject(error);",
    },
    {
      name: "A release of what has ended is an error",
      file: "src/scheduler/scheduler.ts",
      find: "return [archived];",
      replace: "throw error;",
    },
    {
      name: "Anybody may ask to release what has ended, and learns its record",
      file: "src/scheduler/scheduler.ts",
      find: "if (!owns(actor, archived)) throw",
      replace: 'if (actor.principal === "") throw',
    },
    {
      name: "A renewal of what has ended is answered as if it had never been",
      file: "src/scheduler/scheduler.ts",
      find: "if (archived === undefined) throw error;\n      throw owns(actor, archived)",
      replace: "if (archived === undefined || archived.lease !== null) throw error;\n      throw owns(actor, archived)",
    },
    {
      name: "An unclaimed offer keeps its webhook, which is still sent",
      file: "src/scheduler/turn-draft.ts",
      find: "this.#withdrawn.push(id);",
      replace: "{}",
    },
    {
      name: "A webhook that failed claims its grant all the same",
      file: "src/scheduler/scheduler.ts",
      find: 'outcome === "delivered" && status === "allocated" && id !== null',
      replace: 'status === "allocated" && id !== null && outcome.length > 0',
    },
    {
      name: "A deadline is met by the safety net alone, an interval late",
      file: "src/scheduler/pulse.ts",
      find: "clock.after(at - clock.now(), () => {",
      replace: "clock.after(at - clock.now() + this.#intervalMs, () => {",
    },
    {
      name: "A client that has gone away counts as alive for as long as it meant to wait",
      file: "src/scheduler/reads.ts",
      find: 'end === "aborted" ? await this.#touch(id, actor).catch(() => first) : await this.read(id, actor)',
      replace: 'end === "aborted" ? first : await this.read(id, actor)',
    },
  ],
);

const WAITING = planted(
  "src/scheduler/turns.ts",
  [DURABILITY],
  [
    {
      name: "Those who wait for a change are not woken by it",
      find: "for (const id of draft.changedIds) waiters.wake(id);",
      replace: "",
    },
  ],
);

const PAUSES = "test/scheduler/pauses.test.ts";
const RESTART = "test/scheduler/restart.test.ts";
const CLOCK = "test/platform/clock.test.ts";
const START_TIME = "test/store/start-time.test.ts";

const ABSENCE = planted(
  "src/scheduler/pulse.ts",
  [PAUSES],
  [
    {
      name: "A pause of the daemon is not noticed, and what fell due in it ends at once",
      find: "if (now - last <= PAUSE_MS) return false;",
      replace: "if (now - last <= PAUSE_MS || now > 0) return false;",
    },
    {
      name: "A pause is noticed by the beat alone, and what is decided before it ends leases",
      find: "    this.#sees(now);\n    const wasAbsent",
      replace: "    const wasAbsent",
    },
    {
      name: "What fell due while the disk was full ends as soon as it is not",
      file: "src/scheduler/turns.ts",
      find: "wasAbsent || (this.#storageFailed && isDue(this.#state, now))",
      replace: "wasAbsent",
    },
    {
      name: "A full disk is tried again only when a client asks for something",
      find: "if (storageFailed()) this.#wasAbsent = true;",
      replace: "",
    },
    {
      name: "Between its end and the writing down of it a lease is unknown",
      file: "src/scheduler/reads.ts",
      find: 'if (this.#live(id) !== undefined) await this.#parts.turns.send({ type: "tick" });',
      replace: "",
    },
  ],
);

const TIME: readonly Mutant[] = [
  {
    name: "After a pause a client that waits on its connection counts as silent from then on",
    file: "src/core/host/evolve.ts",
    find: "seenAt: Math.max(allocation.seenAt, event.at)",
    replace: "seenAt: event.at",
    tests: [PAUSES],
  },
  {
    name: "A GPU is quarantined for a time in which nobody could see whether it came back",
    file: "src/core/host/evolve.ts",
    find: 'if (hold.kind === "reclaiming") watchedAnew.push',
    replace: 'if (hold.kind === "reclaiming" && event.at < 0) watchedAnew.push',
    tests: [PAUSES],
  },
  {
    name: "A reading whose probe the host slept through counts as fresh",
    file: "src/core/host/condition.ts",
    find: "finishedAt - startedAt > staleAfterMs ? startedAt",
    replace: "finishedAt < startedAt ? startedAt",
    tests: [PAUSES],
  },
  {
    name: "In the first second after a sleep everything is as before it",
    file: "src/platform/clock.ts",
    find: "Math.abs(wallLead - this.#wallLead) >= LEAST_SLEEP_MS ||",
    replace: "",
    tests: [CLOCK],
  },
  {
    name: "Timers do not count the sleep of the host",
    file: "src/platform/clock.ts",
    find: "for (const timer of this.#timers) this.#set(timer, this.#origin + monotonic);",
    replace: "",
    tests: [CLOCK],
  },
  {
    name: "The time away is measured by a wall clock that was set meanwhile",
    file: "src/platform/clock.ts",
    find: "last.bootId === bootId) {",
    replace: "last.bootId === bootId && uptime < 0) {",
    tests: [RESTART],
  },
  {
    name: "The uptime of another boot measures the time away",
    file: "src/platform/clock.ts",
    find: "last.bootId === bootId) {",
    replace: "last.bootId !== null) {",
    tests: [RESTART],
  },
  {
    name: "When the clock was set, waiting webhooks keep the time of before",
    file: "src/store/start-time.ts",
    find: "next_attempt_at = next_attempt_at + ?1,",
    replace: "next_attempt_at = next_attempt_at + 0 * ?1,",
    tests: [RESTART, START_TIME],
  },
  {
    name: "When the clock was set, the journal from its last snapshot on does not fold to the state",
    file: "src/store/start-time.ts",
    find: "INSERT OR REPLACE INTO snapshots",
    replace: "INSERT OR IGNORE INTO snapshots",
    tests: [START_TIME],
  },
];

const NOTIFICATIONS = planted(
  "src/wire/webhooks/bodies.ts",
  [BODIES],
  [
    {
      name: "A grant from the queue is not told to its webhook",
      find: 'return event.type === "granted" && event.claimBy !== null ? "allocated" : null;',
      replace: "return null;",
    },
    {
      name: "A grant at once is told twice, by its answer and by a webhook",
      find: 'return event.type === "granted" && event.claimBy !== null ? "allocated" : null;',
      replace: 'return event.type === "granted" ? "allocated" : null;',
    },
    {
      name: "A client that hung up is not told of its lease",
      find: 'if (event.type === "reoffered") return "allocated";',
      replace: "",
    },
    {
      name: "A client whose offer was taken back is not told",
      find: 'unclaimed: "unclaimed",',
      replace: "unclaimed: null,",
    },
    {
      name: "The wait is told in milliseconds",
      find: "wait_time_seconds: (lease.grantedAt - request.submittedAt) / 1_000,",
      replace: "wait_time_seconds: lease.grantedAt - request.submittedAt,",
    },
  ],
);

const GRANTED = "test/wire/allocations/granted-text.test.ts";

const RECORDS = planted(
  "src/wire/allocations/bodies.ts",
  [BODIES, "test/http/allocations/calls.test.ts", GRANTED],
  [
    {
      name: "Clients are given the GPUs' places in their lease instead of nvidia-smi's indices",
      find: "gpu_ids: present,",
      replace: "gpu_ids: uuids.map((_, index) => index),",
    },
    {
      name: "CUDA_VISIBLE_DEVICES names GPUs by index, which a reboot may change",
      find: 'CUDA_VISIBLE_DEVICES: gpus.map(({ uuid }) => uuid).join(","),',
      replace: 'CUDA_VISIBLE_DEVICES: gpus.map(({ index }) => index).join(","),',
    },
    {
      name: "A grant carries a fencing token that is not its lease's",
      find: "fencing_token: lease.fencingToken,",
      replace: "fencing_token: lease.fencingToken + 1,",
    },
    {
      name: "A lease without an end is given one at 1970",
      find: "...(expiresAt === null ? {} : { expires_at: timestamp(expiresAt) }),",
      replace: "expires_at: timestamp(expiresAt ?? 0),",
    },
    {
      name: "A grant tells the index that its GPU had at an earlier grant",
      file: "src/wire/allocations/granted-text.ts",
      find: "known.index === index && ",
      replace: "",
    },
    {
      name: "A grant tells the CPUs that its GPU was next to at an earlier grant",
      file: "src/wire/allocations/granted-text.ts",
      find: "a.cpuAffinity !== b.cpuAffinity || ",
      replace: "",
    },
  ],
);

const FAILURE = "test/store/failure.test.ts";
const OUTBOX = "test/store/outbox.test.ts";
const OPEN = "test/store/open.test.ts";
const BACKUP = "test/store/backup.test.ts";

const STORE: readonly Mutant[] = [
  {
    name: "The database lets one GPU be in two exclusive leases",
    file: "src/store/migrations.ts",
    find: "CREATE UNIQUE INDEX live_leases_exclusive ON live_leases (gpu_uuid) WHERE shared_mib IS NULL;\n  CREATE TRIGGER live_leases_do_not_mix BEFORE INSERT ON live_leases\n  WHEN EXISTS (",
    replace: "CREATE TRIGGER live_leases_do_not_mix BEFORE INSERT ON live_leases\n  WHEN FALSE AND EXISTS (",
    tests: [FAILURE],
  },
  {
    name: "A turn is written without a transaction around it",
    file: "src/store/writer.ts",
    find: "this.#begin.run();\n      const result = this.#work(job);\n      this.#commit.run();",
    replace: "const result = this.#work(job);",
    tests: [FAILURE],
  },
  {
    name: "A turn that fails half-way leaves behind what it had written",
    file: "src/store/writer.ts",
    find: "this.#rollBack();\n      throw error;",
    replace: "if (this.#database.isTransaction) this.#commit.run();\n      throw error;",
    tests: [FAILURE],
  },
  {
    name: "A turn is acknowledged before it is on disk",
    file: "src/store/store.ts",
    find: 'await this.#writer.run({ type: "write", writes });',
    replace: 'this.#writer.run({ type: "write", writes }).catch(() => undefined);',
    tests: [FAILURE],
  },
  {
    name: "A failed turn moves on what the store remembers of its rows",
    file: "src/store/store.ts",
    find: "} catch (error) {\n        if (!(error instanceof WriterDiedError",
    replace: "} catch (error) {\n        acknowledge();\n        if (!(error instanceof WriterDiedError",
    tests: [FAILURE],
  },
  {
    name: "The webhook of a grant is not written with it",
    file: "src/store/ledger.ts",
    find: 'writes.push(["insertDelivery",',
    replace: 'if (status !== "allocated") writes.push(["insertDelivery",',
    tests: [OUTBOX],
  },
  {
    name: "A withdrawn webhook stays in the outbox",
    file: "src/store/ledger.ts",
    find: 'for (const id of turn.withdrawn) writes.push(["withdrawGrant", turn.at, id]);',
    replace: "",
    tests: [OUTBOX],
  },
  {
    name: "A key is forgotten although its change was made",
    file: "src/store/ledger.ts",
    find: 'writes.push(["keepKey",',
    replace: 'if (ids.length > 1) writes.push(["keepKey",',
    tests: ["test/store/keys.test.ts"],
  },
  {
    name: "A living key is given to a second request",
    file: "src/store/ledger.ts",
    find: "at - KEY_LIFE_MS]",
    replace: "at]",
    tests: ["test/store/keys.test.ts"],
  },
  {
    name: "A key that is withdrawn still acts by the body under way",
    file: "src/http/exchange/serving.ts",
    find: 'if (operation.body !== "ignored") demandStill(mayGoOn);',
    replace: "",
    tests: ["test/http/exchange/auth.test.ts"],
  },
  {
    name: "A call that has no parameters passes over those that are given",
    file: "src/http/exchange/serving.ts",
    find: "operation.takesQuery !== true) demandNoQuery",
    replace: "operation.takesQuery === null) demandNoQuery",
    tests: ["test/http/allocations/exact-asks.test.ts"],
  },
  {
    name: "A webhook is sent with the indices of when its event happened",
    file: "src/wire/webhooks/bodies.ts",
    find: "...indicesBody(uuids, devices, env, indexOf)",
    replace: "...allocation",
    tests: ["test/wire/webhooks/bodies.test.ts"],
  },
  {
    name: "A window that names an index means the GPU that was last seen with it",
    file: "src/core/host/window-plan.ts",
    find: "String(indexOf(gpu.uuid))",
    replace: "String(gpu.index)",
    tests: ["test/http/windows/windows.test.ts"],
  },
  {
    name: "A key that was refused once is refused for a day",
    file: "src/http/exchange/idempotency.ts",
    find: "this.#underWay.delete(name);",
    replace: "",
    tests: ["test/http/exchange/idempotency.test.ts"],
  },
  {
    name: "Two calls with one key at once are two requests",
    file: "src/http/exchange/idempotency.ts",
    find: "this.#underWay.add(name);",
    replace: "",
    tests: ["test/http/exchange/idempotency.test.ts"],
  },
  {
    name: "The body of a repeated request is not looked at",
    file: "src/http/exchange/idempotency.ts",
    find: "[operation, id, body ?? null]",
    replace: "[operation, id]",
    tests: ["test/http/exchange/idempotency.test.ts"],
  },
  {
    name: "Withdrawing a grant's webhook also withdraws that of its end",
    file: "src/store/statements.ts",
    find: "WHERE allocation_id = ? AND status = 'allocated' AND state = 'pending'",
    replace: "WHERE allocation_id = ? AND state = 'pending'",
    tests: [OUTBOX],
  },
  {
    name: "An attempt that ends after its webhook was withdrawn revives it",
    file: "src/store/statements.ts",
    find: "WHERE delivery_id = ? AND state = 'pending'",
    replace: "WHERE delivery_id = ?",
    tests: [OUTBOX],
  },
  {
    name: "The next fencing token is not stored",
    file: "src/store/ledger.ts",
    find: "turn.at, turn.nextFencingToken, turn.bootId]",
    replace: "turn.at, 1, turn.bootId]",
    tests: [FAILURE],
  },
  {
    name: "A restart forgets that a leased GPU was used",
    file: "src/store/records.ts",
    find: "hold.since === holder.grantedAt && !wasUsed(hold.use);",
    replace: "hold.since === holder.grantedAt;",
    tests: [DURABILITY],
  },
  {
    name: "Commits do not reach the disk",
    file: "src/store/open.ts",
    find: "PRAGMA synchronous = FULL",
    replace: "PRAGMA synchronous = OFF",
    tests: [OPEN],
  },
  {
    name: "A second instance may serve the same database",
    file: "src/store/open.ts",
    find: "BEGIN EXCLUSIVE",
    replace: "BEGIN",
    tests: [OPEN],
  },
  {
    name: "A database that is refused is written to all the same",
    file: "src/store/open.ts",
    find: "const readOnly = !existsSync(",
    replace: "const readOnly = existsSync(",
    tests: [OPEN],
  },
  {
    name: "A backup replaces a file that nobody said to replace",
    file: "src/store/backup.ts",
    find: "if (there !== null && !overwrite)",
    replace: "if (there !== null && overwrite && false)",
    tests: [BACKUP],
  },
  {
    name: "A backup that fails leaves what it had copied",
    file: "src/store/backup.ts",
    find: "for (const name of namesOf(partial)) rmSync(name, { force: true });",
    replace: "",
    tests: [BACKUP],
  },
  {
    name: "Fencing tokens given since the backup come again after the restore",
    file: "src/store/restore.ts",
    find: "Math.max(state.nextFencingToken, nextFencingToken)",
    replace: "Math.max(state.nextFencingToken, 0 * nextFencingToken)",
    tests: [BACKUP],
  },
  {
    name: "The log of the replaced database is left beside the backup",
    file: "src/store/restore.ts",
    find: "rmSync(name, { force: true });\n  syncPath(",
    replace: "existsSync(name);\n  syncPath(",
    tests: [BACKUP],
  },
  {
    name: "A database is replaced under the daemon that serves it",
    file: "src/store/restore.ts",
    find: "lock = takeLock(file);",
    replace: 'lock = new DatabaseSync(":memory:");',
    tests: [BACKUP],
  },
];

const DELIVERER = "test/webhooks/deliverer.test.ts";

const WEBHOOKS: readonly Mutant[] = [
  {
    name: "A redirect counts as delivered, and claims the grant",
    file: "src/webhooks/attempt.ts",
    find: "httpStatus <= 299",
    replace: "httpStatus <= 399",
    tests: [DELIVERER],
  },
  {
    name: "A webhook is given up after its first failure",
    file: "src/webhooks/attempt.ts",
    find: 'outcome: retryAt === null ? "gave-up" : "retry"',
    replace: 'outcome: "gave-up"',
    tests: [DELIVERER],
  },
  {
    name: "A name that leads to a refused address gets its webhook",
    file: "src/webhooks/resolve.ts",
    find: "return reason === null;",
    replace: "return true;",
    tests: [DELIVERER],
  },
  {
    name: "An address is judged when it is given, and not again when the webhook leaves",
    file: "src/webhooks/resolve.ts",
    find: "if (refusal !== null) throw",
    replace: 'if (refusal === "") throw',
    tests: [DELIVERER],
  },
  {
    name: "A name may lead to a cloud's metadata service",
    file: "src/webhooks/address-policy.ts",
    find: "&& !NEVER_BY_NAME.has(kind)",
    replace: "",
    tests: ["test/webhooks/address-policy.test.ts"],
  },
  {
    name: "The signature leaves the time out, so that a webhook can be replayed",
    file: "src/webhooks/sign.ts",
    // biome-ignore lint/suspicious/noTemplateCurlyInString: it is the text of a template.
    find: ".update(`${id}.${timestamp}.`)",
    // biome-ignore lint/suspicious/noTemplateCurlyInString: it is the text of a template.
    replace: ".update(`${id}.`)",
    tests: ["test/webhooks/sign.test.ts"],
  },
  {
    name: "A failing receiver is asked every second for ever",
    file: "src/webhooks/backoff.ts",
    find: "Math.min(failed.attempts, RETRY_DELAYS_MS.length) - 1;",
    replace: "Math.min(failed.attempts, 1) - 1;",
    tests: ["test/webhooks/backoff.test.ts"],
  },
  {
    name: "An allocation's webhooks overtake each other",
    file: "src/webhooks/slots.ts",
    find: "if (first.get(subjectOf(delivery)) !== delivery) continue;",
    replace: "",
    tests: [DELIVERER],
  },
];

const AUTH = "test/http/exchange/auth.test.ts";

const HTTP: readonly Mutant[] = [
  {
    name: "Any key is accepted",
    file: "src/http/exchange/auth.ts",
    find: "if (timingSafeEqual(digest, given)) found =",
    replace: "if (timingSafeEqual(digest, given) || given.length > 0) found =",
    tests: [AUTH],
  },
  {
    name: "A key's SHA-256 is as good as the key",
    file: "src/http/exchange/auth.ts",
    find: "if (timingSafeEqual(digest, given)) found =",
    replace: 'if (timingSafeEqual(digest, given) || digest.toString("hex") === key) found =',
    tests: [AUTH],
  },
  {
    name: "A key that may only read may allocate",
    file: "src/http/exchange/auth.ts",
    find: "return ROLES.indexOf(role) >= ROLES.indexOf(needed);",
    replace: 'return needed !== "admin" || role === "admin";',
    tests: [AUTH],
  },
  {
    name: "Every key that may allocate is an admin's",
    file: "src/http/exchange/auth.ts",
    find: 'admin: role === "admin" }',
    replace: 'admin: role !== "read" }',
    tests: [AUTH],
  },
  {
    name: "Keys that a reload took away still count",
    file: "src/http/exchange/auth.ts",
    find: "if (keys() !== listed) {",
    replace: "if (listed.length === 0) {",
    tests: [AUTH],
  },
  {
    name: "Everybody sees what a workload is made of and where its webhooks go",
    file: "src/http/allocations/views.ts",
    find: "const isOwn = owns(actor, allocation);",
    replace: "const isOwn = owns(actor, allocation) || request.principal.length > 0;",
    tests: [AUTH],
  },
  {
    name: "A page finds out for each of its records anew why it waits",
    file: "src/http/allocations/views.ts",
    find: "viewOf(allocation, outlook, state, now, actor));",
    replace: "viewOf(allocation, new Outlook(state, now), state, now, actor));",
    tests: [PAGE],
  },
  {
    name: "Those who wait for other GPUs are told the reason of whoever was asked about first",
    file: "src/http/allocations/outlook.ts",
    find: "const family = this.#state.line.order.get(queueKey(request, this.#state.policy))?.familyKey;",
    replace: 'const family = "";',
    tests: [PAGE],
  },
  {
    name: "A page of any origin may send requests",
    file: "src/http/exchange/admission.ts",
    find: "if (origin !== undefined && !isSameOrigin(",
    replace: 'if (origin === "null" && !isSameOrigin(',
    tests: ["test/http/exchange/foreign-pages.test.ts"],
  },
  {
    name: "A request whose webhook is refused is queued before it is refused",
    file: "src/http/allocations/routes.ts",
    find: "const ask = checkedAsk(body, checkWebhookUrl);",
    replace:
      'if (checkWebhookUrl(body.webhook_url ?? "") !== null) void scheduler.allocate(checkedAsk(body, () => null), actor);\n      const ask = checkedAsk(body, checkWebhookUrl);',
    tests: ["test/http/allocations/calls.test.ts"],
  },
];

const FIGURES: readonly Mutant[] = [
  {
    name: "A count that the driver does not give is read as 0",
    file: "src/monitor/nvidia-smi/fields.ts",
    find: "return word !== null && INTEGER.test(word) ? Number(word) : null;",
    replace: "return word !== null && INTEGER.test(word) ? Number(word) : 0;",
    tests: ["test/monitor/nvidia-smi/parse.test.ts"],
  },
  {
    name: "A measure that the driver does not give is read as 0",
    file: "src/monitor/nvidia-smi/fields.ts",
    find: "units.includes(found[2] as string) ? Number(found[1]) : null;",
    replace: "units.includes(found[2] as string) ? Number(found[1]) : 0;",
    tests: ["test/monitor/nvidia-smi/parse.test.ts"],
  },
  {
    name: "A process that calls itself lost makes its GPU lost",
    file: "src/monitor/nvidia-smi/fields.ts",
    find: 'if (tag !== "process_info") collect(',
    replace: "collect(",
    tests: ["test/monitor/nvidia-smi/parse.test.ts"],
  },
  {
    name: "A utilisation that the driver does not give is shown as 0",
    file: "src/http/gpus/views.ts",
    find: "utilization: reading?.utilizationPercent ?? null,",
    replace: "utilization: reading?.utilizationPercent ?? 0,",
    tests: ["test/http/gpus/views.test.ts"],
  },
  {
    name: "A temperature that the driver does not give is exposed as 0",
    file: "src/metrics/host.ts",
    find: "(gpu) => gpu.temperatureC]",
    replace: "(gpu) => gpu.temperatureC ?? 0]",
    tests: ["test/metrics/metrics.test.ts"],
  },
];

const FEED = "test/scheduler/event-feed.test.ts";
const BODIES_OF_EVENTS = "test/wire/events/bodies.test.ts";
const STREAM = "test/http/events/events.test.ts";

const EVENTS: readonly Mutant[] = [
  ...planted(
    "src/scheduler/event-feed.ts",
    [FEED],
    [
      {
        name: "A reader is shown events whose turn is not known to be committed",
        find: ".filter(({ seq }) => seq <= this.#lastSeq);",
        replace: ";",
      },
      {
        name: "A reader whose next events were pruned goes on as if there had been none",
        find: "const needsReset = this.#position > 0;",
        replace: "const needsReset = this.#position < 0;",
      },
      {
        name: "A reader that is too slow for what is kept in memory is given what stands in its place",
        find: "if (event?.seq !== seq) break;",
        replace: "if (event === undefined) break;",
      },
      {
        name: "A reader from before a restored backup is not told that its events never were",
        find: "this.#isAhead = position > feed.lastSeq;",
        replace: "this.#isAhead = position > 2 ** 40;",
      },
      {
        name: "All readers' pages of the journal are read in one turn of the event loop",
        find: "this.#lastPage = read;",
        replace: "",
      },
      {
        name: "News that come while readers are left alone are never told",
        find: "setTimeout(() => this.#spread(), restMs).unref();",
        replace: "setTimeout(() => { this.#isQuiet = false; }, restMs).unref();",
      },
    ],
  ),
  {
    name: "The numbers of events begin anew at each start",
    file: "src/scheduler/turns.ts",
    find: "parts.policy);\n    this.#lastSeq = stored.lastSeq;",
    replace: "parts.policy);\n    this.#lastSeq = 0;",
    tests: [FEED],
  },
  {
    name: "Everybody who may read is told what a workload is made of",
    file: "src/wire/events/bodies.ts",
    find: 'return { status: "queued", ...requestBody(event.request) };',
    replace: 'return { status: "queued", ...requestBody(event.request), workload_data: event.request.workloadData };',
    tests: [BODIES_OF_EVENTS],
  },
  {
    name: "A reader that does not read is never dropped",
    file: "src/http/exchange/streaming.ts",
    find: 'const timer = setTimeout(() => end("stalled"), stallMs);',
    replace: 'const timer = setTimeout(() => end("stalled"), 1e6 * stallMs);',
    tests: [STREAM],
  },
  {
    name: "Events are written whether or not their reader takes them",
    file: "src/http/exchange/streaming.ts",
    find: 'if (!res.write(piece) && (await drained(res, signal, stallMs)) === "stalled") return "stalled";',
    replace: "res.write(piece);",
    tests: [STREAM],
  },
  {
    name: "A key that is withdrawn goes on reading the stream",
    file: "src/http/exchange/streaming.ts",
    find: "if (signal.aborted || !mayGoOn()) break;",
    replace: "if (signal.aborted) break;",
    tests: [STREAM],
  },
  {
    name: "One client's bodies take the room of all",
    file: "src/http/exchange/byte-room.ts",
    find: "> MAX_BYTES_OF_CLIENT * factor) {",
    replace: "> MAX_BODY_BYTES * factor) {",
    tests: ["test/http/exchange/limits.test.ts"],
  },
  {
    name: "Releases are refused with everything else when the memory for bodies is taken",
    file: "src/http/exchange/byte-room.ts",
    find: "const ESSENTIAL_FACTOR = 2;",
    replace: "const ESSENTIAL_FACTOR = 1;",
    tests: ["test/http/exchange/limits.test.ts"],
  },
  {
    name: "Once bounded, the young generation shrinks and never grows again",
    file: "src/platform/heap.ts",
    find: "if (isLarge === isBounded) return;",
    replace: "if (isLarge === isBounded || isBounded) return;",
    tests: ["test/platform/heap.test.ts"],
  },
  {
    name: "A connection counts as idle from its first request on, whatever it asks",
    file: "src/http/exchange/crowd.ts",
    find: "place.idleSince = null;",
    replace: "place.idleSince ??= null;",
    tests: ["test/http/exchange/limits.test.ts"],
  },
  {
    name: "What is asked behind a stream is done, for a client that cannot be told",
    file: "src/http/exchange/connections.ts",
    find: "return this.#streams.has(socket);",
    replace: "return this.#streams.size > 1e9;",
    tests: [STREAM],
  },
];

export const ROOM_MUTANTS: readonly Mutant[] = [
  ...TURNS,
  ...WAITING,
  ...ABSENCE,
  ...TIME,
  ...NOTIFICATIONS,
  ...RECORDS,
  ...STORE,
  ...WEBHOOKS,
  ...HTTP,
  ...EVENTS,
  ...FIGURES,
];
