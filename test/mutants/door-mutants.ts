/** Bugs of what is kept of who did what, and of who is let in. */
import { type Mutant, planted } from "./mutant.ts";

const AUDIT = planted(
  "src/store/ledger.ts",
  ["test/store/audit.test.ts"],
  [
    {
      name: "The audit of a turn is not written with it",
      find: "for (const entry of turn.audit) writes.push(auditWrite(entry));",
      replace: "",
    },
    {
      name: "The audit drops what is young behind what is old",
      file: "src/store/statements.ts",
      find: "ifnull(min(seq) FILTER (WHERE at >= ?1) - 1, max(seq))",
      replace: "max(seq) FILTER (WHERE at < ?1)",
    },
    {
      name: "A filtered page of the audit ends where it found nothing",
      file: "src/store/audit.ts",
      find: "next: last === undefined || last <= oldest ? null : last",
      replace: "next: last === undefined || entries.length < limit ? null : last",
    },
  ],
);

const REFUSALS = planted(
  "src/http/exchange/auditing.ts",
  ["test/http/exchange/auditing.test.ts"],
  [
    {
      name: "Every refusal is written down, however many there are",
      find: "if (minute.written < MOST_A_MINUTE) {",
      replace: "if (minute.written < Number.POSITIVE_INFINITY) {",
    },
    {
      name: "Strangers with many addresses fill the audit",
      find: "all.written >= MOST_OF_STRANGERS || own",
      replace: "all.written < 0 || own",
    },
    {
      name: "Refused changes hide that somebody tried what it may not",
      find: 'if (FORBIDDEN.has(result)) return "forbidden";',
      replace: "",
    },
    {
      name: "Refusals that could not be written are forgotten",
      find: "this.#lost += count;",
      replace: "this.#lost += 0;",
    },
    {
      name: "Principals are counted apart without bound",
      find: "isNew && this.#minutes.size >= MOST_NAMES ? OTHERS : own",
      replace: "isNew && this.#minutes.size < 0 ? OTHERS : own",
    },
  ],
);

const KEYS = planted(
  "src/daemon/key-book.ts",
  ["test/daemon/key-book.test.ts"],
  [
    {
      name: "A revoked key is in force until the database has let go of it",
      find: "this.#stored.delete(found.sha256);\n    this.#madeOf = null;\n    this.#owed",
      replace: "this.#owed",
    },
    {
      name: "A key that is revoked on a full disk comes back with a restart",
      find: "const isMarked = revocations.mark([...this.#owed.keys()]);",
      replace: "const isMarked = true;",
    },
    {
      name: "The ballast stays where it is when a revocation needs it",
      find: "!revocations.letBallastGo()) throw error;",
      replace: "error instanceof Error) throw error;",
    },
    {
      name: "An expired key counts as one of the two that a principal may have",
      find: "(expiresAt ?? Number.POSITIVE_INFINITY) > now",
      replace: "(expiresAt ?? Number.POSITIVE_INFINITY) > 0",
    },
  ],
);

const ROUTES = planted(
  "src/work-service/routes/runs.ts",
  ["test/http/exchange/route-matrix.test.ts"],
  [
    {
      name: "Any key may stop runs",
      find: 'const running = { role: "run", body: "ignored" } as const;',
      replace: 'const running = { role: "read", body: "ignored" } as const;',
    },
    {
      name: "A key with the role allocate may do what only admins may",
      file: "src/http/exchange/auth.ts",
      find: "ROLES.indexOf(role) >= ROLES.indexOf(needed)",
      replace: "ROLES.indexOf(role) >= Math.min(1, ROLES.indexOf(needed))",
    },
    {
      name: "A key goes on after its expiry",
      file: "src/http/exchange/auth.ts",
      find: 'found = Date.now() < expiresAt ? caller : "wrong-key"',
      replace: 'found = expiresAt > 0 ? caller : "wrong-key"',
    },
  ],
);

const PAGES = planted(
  "src/http/exchange/admission.ts",
  ["test/http/exchange/foreign-pages.test.ts"],
  [
    {
      name: "An origin that only begins like an allowed one is let in",
      find: "origin !== undefined && allowedOrigins.includes(origin)",
      replace: "origin !== undefined && allowedOrigins.some((one) => origin.startsWith(one))",
    },
  ],
);

const DELEGATES = planted(
  "src/http/allocations/on-behalf.ts",
  ["test/http/allocations/on-behalf.test.ts"],
  [
    {
      name: "Any key may ask on behalf of others",
      find: "if (!call.delegate) throw",
      replace: "if (!call.keyed) throw",
    },
    {
      name: "Any key speaks for the owner of a lease",
      find: "const owner = call.delegate && id !== null ?",
      replace: "const owner = call.keyed && id !== null ?",
    },
  ],
);

const OF_WORK = planted(
  "src/work-service/views.ts",
  ["test/e2e/work-canaries.test.ts"],
  [
    {
      name: "Everybody sees the last lines that a failed service wrote",
      find: "failed === undefined || !whole ? message",
      replace: "failed === undefined || (!whole && message === null) ? message",
    },
    {
      name: "Everybody sees the document of a task",
      find: "raw_yaml: whole ? task.rawYaml : null",
      replace: "raw_yaml: whole || task.rawYaml !== null ? task.rawYaml : null",
    },
  ],
).map((mutant) => ({ ...mutant, built: true as const }));

const FUZZED = planted(
  "src/http/exchange/checks.ts",
  ["test/http/fuzz/fuzz.test.ts"],
  [
    {
      name: "A parameter that is given twice fails",
      find: 'throw invalid([{ path: name, message: "given twice" }]);',
      replace: 'throw new Error("given twice");',
    },
    {
      name: "The document does not say that an ended lease cannot be revoked",
      file: "src/http/allocations/docs.ts",
      find: 'codes: [...ONE_RECORD, "allocation-ended"],',
      replace: "codes: ONE_RECORD,",
    },
  ],
);

export const DOOR_MUTANTS: readonly Mutant[] = [
  ...AUDIT,
  ...REFUSALS,
  ...KEYS,
  ...ROUTES,
  ...PAGES,
  ...DELEGATES,
  ...OF_WORK,
  ...FUZZED,
];
