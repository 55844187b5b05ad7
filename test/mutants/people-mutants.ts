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

const NUDGES = planted(
  "src/core/decisions/nudge.ts",
  [
    "test/core/decisions/nudge.test.ts",
    "test/http/allocations/nudge.test.ts",
    "test/http/events/events.test.ts",
    "test/store/start-time.test.ts",
  ],
  [
    {
      name: "A holder is written to as often as anybody likes",
      find: "if (waitMs > 0)",
      replace: "if (waitMs > NUDGE_PAUSE_MS)",
    },
    {
      name: "What a holder was asked is shown to all who read",
      file: "src/http/allocations/views.ts",
      find: "const { fencing_token, nudge, ...open } = body;",
      replace: "const { fencing_token, ...open } = body;",
    },
    {
      name: "What a holder was asked stands in everybody's event stream",
      file: "src/http/events/stream.ts",
      find: "new PageTexts(({ body }) => body)",
      replace: "new PageTexts((event) => withOwner({ ...event, owner: null }))",
    },
    {
      name: "The time of a message stays behind when the clock was set",
      file: "src/store/start-time.ts",
      find: ", '$.nudge.at', (lease ->> '$.nudge.at') + ?1)",
      replace: ")",
    },
  ],
);

const HOOK_TESTS = planted(
  "src/http/deliveries/routes.ts",
  ["test/http/deliveries/testing.test.ts", "test/webhooks/testing.test.ts"],
  [
    {
      name: "A test of a webhook goes where webhooks may not go",
      find: "if (objection !== null) throw",
      replace: "if (objection === url) throw",
    },
    {
      name: "A test of a webhook tells everybody which ports of other hosts are open",
      find: "httpStatus === null && !actor.admin ?",
      replace: "httpStatus === 0 ?",
    },
    {
      name: "One principal has all the tests of webhooks under way",
      file: "src/webhooks/deliverer.ts",
      find: " || this.#testing.has(principal)) return null;",
      replace: ") return null;",
    },
  ],
);

const EXTENDING = planted(
  "src/core/decisions/extend.ts",
  ["test/core/decisions/extend.test.ts"],
  [
    {
      name: "An admin gives a TTL that ends another's lease at its next renewal",
      find: "    isLess(ttlMs, before.request.ttlMs) ||\n",
      replace: "",
    },
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
      name: "An admin ends a lease earlier than its client was told",
      find: "if (isCut && actor.principal !== before.request.principal) {",
      replace: "if (isCut && actor.admin !== actor.admin) {",
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

const BINDING = planted(
  "src/monitor/bound-processes.ts",
  [
    "test/monitor/bound-processes.test.ts",
    "test/core/decisions/process-gone.test.ts",
    "test/http/allocations/bind-pid.test.ts",
  ],
  [
    {
      name: "A number that is given again counts as the process that had it",
      find: "if (entry === HIDDEN || entry?.startTicks === member.startTicks)",
      replace: "if (entry !== undefined)",
    },
    {
      name: "One look that does not show a process ends its lease",
      find: "else if (member.isMissed) members.delete(pid);",
      replace: "else if (!member.isMissed) members.delete(pid);",
    },
    {
      name: "A zombie holds its lease",
      find: 'const isGone = state === "Z" || state === "X";',
      replace: "const isGone = false;",
    },
    {
      name: "Children whose parent has ended are forgotten",
      find: "const members = this.#members.get(id) ?? new Map([[pid, { startTicks, isMissed: false }]]);",
      replace: "const members = new Map([[pid, { startTicks, isMissed: this.#members.has(id) }]]);",
    },
    {
      name: "A lease is bound to a stranger of the same number",
      file: "src/http/allocations/asks.ts",
      find: "boundTo === null || (ticks ?? boundTo.startTicks) !== boundTo.startTicks",
      replace: "boundTo === null",
    },
    {
      name: "A lease that is bound to no process ends as if its process had",
      file: "src/core/decisions/decide.ts",
      find: "if (allocation?.request.boundTo === undefined) return;",
      replace:
        'if (allocation === undefined) return;\n      if (allocation.request.boundTo === undefined) return end(draft, allocation, "process-gone", now, "");',
    },
  ],
);

const OWNING = planted(
  "src/http/gpus/views.ts",
  ["test/http/host/owners.test.ts"],
  [
    {
      name: "Everybody is told who holds a GPU",
      find: "...(actor !== null && owns(actor, holder) ?",
      replace: "...(actor !== null ?",
    },
    {
      name: "Everybody is told in events whose a request is",
      file: "src/http/events/stream.ts",
      find: "(events.some(({ owner }) => owner === principal) ? own : this.#without)",
      replace: "(events.length > 0 ? this.#withOwners : own)",
    },
    {
      name: "Everybody is told who waits",
      file: "src/http/host/views.ts",
      find: "...(isOwn ? { principal: request.principal } : {}),",
      replace: "principal: request.principal,",
    },
  ],
);

const PROOFS = planted(
  "src/http/exchange/proofs.ts",
  ["test/http/exchange/proofs.test.ts"],
  [
    {
      name: "A nonce proves again and again who calls",
      find: "    this.#used.set(nonce, { over: now + NONCE_MS, uid });\n",
      replace: "",
    },
    {
      name: "A nonce is good for ever",
      find: "this.#now() - said.readDoubleBE() < NONCE_MS && !this.#used.has(nonce)",
      replace: "!this.#used.has(nonce)",
    },
    {
      name: "Anybody makes nonces",
      find: "if (!timingSafeEqual(said.subarray(-MAC_BYTES), this.#mac(said))) return false;",
      replace: "",
    },
    {
      name: "Whoever may write to somebody's directory may be that user",
      find: " && (found.mode & 0o077) === 0",
      replace: "",
    },
    {
      name: "A proof for another socket's daemon is one here",
      find: "nameBy(nonce, this.#socketPath)",
      replace: 'nameBy(nonce, "")',
    },
    {
      name: "A folder that took the place of the daemon's own is believed",
      find: "return `/proc/self/fd/",
      replace: "return join(this.#folder, name) || `/proc/self/fd/",
    },
    {
      name: "Somebody else's folder is taken for the daemon's own",
      find: "if (own.uid !== process.geteuid?.())",
      replace: "if (own.uid === -1)",
    },
    {
      name: "Others move what lies in the folder",
      find: "const FOLDER_MODE = 0o1733;",
      replace: "const FOLDER_MODE = 0o0777;",
    },
    {
      name: "Who has proved nothing is everybody",
      file: "src/http/exchange/peers.ts",
      find: "return this.#known.get(socket) ?? null;",
      replace: 'const known = this.#known.get(socket);\n    return typeof known === "object" ? known : null;',
    },
    {
      name: "A user who has the number of several proves to be one of them",
      file: "src/http/exchange/peers.ts",
      find: "if (this.isToProve(socket) && !this.#isNobody(peer))",
      replace: "if (this.isToProve(socket))",
    },
    {
      name: "A file system that somebody mounted holds up the daemon",
      find: "mountOf(fd) === this.#mount ? fstatSync(fd) : null",
      replace: "fstatSync(fd)",
    },
    {
      name: "One user uses up the proofs of all",
      find: "this.#usedBy.get(uid) ?? 0",
      replace: "this.#used.size",
    },
    {
      name: "A sweep begins at the front each time",
      find: "this.#swept ??= opendirSync",
      replace: "this.#swept?.closeSync();\n      this.#swept = opendirSync",
    },
    {
      name: "One failure of perl at the start changes how callers are known",
      file: "src/http/exchange/peers.ts",
      find: "tries < 2",
      replace: "tries < 1",
    },
    {
      name: "A user who cannot be looked up now is refused for good",
      file: "src/http/exchange/peers.ts",
      find: 'if (this.isToProve(socket)) this.#known.set(socket, "not-now");\n    }',
      replace: "}",
    },
    {
      name: "A book of users that is missing ends the lookup",
      file: "src/http/exchange/users.ts",
      find: '=== "ENOENT") return "";',
      replace: '=== "NONE") return "";',
    },
    {
      name: "Whoever is in some group is an admin",
      file: "src/http/exchange/users.ts",
      find: 'const isMember = name !== "" && members.split(",").includes(name);',
      replace: 'const isMember = name !== "";',
    },
    {
      name: "Each question who calls is in the audit",
      file: "src/http/exchange/admission.ts",
      find: "error.headers[0] === PROVE && !hasProof",
      replace: "false && !hasProof",
    },
  ],
);

const KNOWING = planted(
  "src/http/exchange/peers.ts",
  ["test/http/exchange/unix-socket.test.ts"],
  [
    {
      name: "Whoever comes by the socket is an admin",
      find: "const admin = uid === 0 || isAdmin;",
      replace: "const admin = true;",
    },
    {
      name: "A connection of which nobody knows whose it is is served",
      file: "src/http/exchange/unix-socket.ts",
      find: "if (!isKnown || socket.destroyed) {",
      replace: "if (socket.destroyed) {",
    },
    {
      name: "A user who has the number of several is served",
      find: "if (uid !== this.#nobody) return false;",
      replace: "if (uid !== Number.NaN) return false;",
    },
    {
      name: "Who does not read holds up everybody",
      find: 'stdio: ["ignore", "pipe", "ignore", socket],',
      replace: 'stdio: [socket, "pipe", "ignore", socket],',
    },
    {
      name: "A request over the socket may come for ever",
      file: "src/http/exchange/unix-socket.ts",
      find: 'this.#server.emit("listening");',
      replace: "",
    },
    {
      name: "A wrong key over the socket counts as none",
      file: "src/http/exchange/serving.ts",
      find: 'return found === "no-key" ? peer : found;',
      replace: 'return typeof found === "string" ? peer : found;',
    },
  ],
);

export const PEOPLE_MUTANTS: readonly Mutant[] = [
  ...EXPLAINING,
  ...NUDGES,
  ...HOOK_TESTS,
  ...EXTENDING,
  ...NAMING,
  ...BINDING,
  ...OWNING,
  ...KNOWING,
  ...PROOFS,
];
