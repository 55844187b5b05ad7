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
      name: "Refusals that could not be written are forgotten",
      find: "this.#lost += count;",
      replace: "this.#lost += 0;",
    },
    {
      name: "Addresses are counted apart without bound",
      find: "isNew && this.#minutes.size >= MOST_NAMES ? OTHERS : own",
      replace: "isNew && this.#minutes.size < 0 ? OTHERS : own",
    },
  ],
);

export const DOOR_MUTANTS: readonly Mutant[] = [...AUDIT, ...REFUSALS];
