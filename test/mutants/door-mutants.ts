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

export const DOOR_MUTANTS: readonly Mutant[] = [...AUDIT, ...REFUSALS, ...KEYS];
