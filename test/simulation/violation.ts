/**
 * The twelve invariants of design.md, and where the simulation checks each. Whoever finds one broken says so with
 * {@link breach}.
 */
export const INVARIANTS = {
  /**
   * Each grant against books of the simulation's own, and the stored leases, GPUs and guarding rows as a whole. Of MIG:
   * no GPU is leased whole and in part, and no instance's memory is promised twice.
   */
  1: "no GPU is in two exclusive leases",
  /** From the clients' books: when they are answered, after every crash, and as a whole. */
  2: "what was acknowledged exists after a restart, in a state reachable from the acknowledged one",
  /** A request begins once, is live until it ends, and what ends was live; every end has a cause. */
  3: "every request ends exactly once",
  /** Against the highest token ever granted, restarts, crashes, clock jumps and restored backups included. */
  4: "fencing tokens only grow",
  /**
   * Each end, renewal and extension against the TTL in true time and on the daemon's clock; what is overdue is late by
   * no more than the safety net's interval.
   */
  5: "a lease with a TTL ends no earlier than its TTL, and no later than a bound",
  /** Each grant against what the simulated driver had shown, what an admin had said and what had not been seen empty. */
  6: "no grant on a GPU that anything speaks against at decision time",
  /**
   * Here: of two requests that differ in nothing but their time, the earlier is served first. Order among unlike ones,
   * reservations and the bound on waiting: test/core/queue/queue.test.ts and, over generated histories, histories.test.ts.
   * Nobody is let into what a reserved window keeps for others: judge-windows.ts.
   */
  7: "equal priority is first come, first served",
  /** The events folded one by one, and anew from the latest snapshot: both give the stored state, to the byte. */
  8: "the journal, from its last snapshot on, folds to the state",
  /** Each keyed request carries its key into the journal: none is there twice within the life of a key. */
  9: "one idempotency key, one lease",
  /** Each turn's events against the rows that came with it; no undelivered row is ever lost. */
  10: "every notifiable change has its outbox row, written with it",
  /** A failed or missing reading is no cause for any event: see the causes in 3 and 6. */
  11: "losing the monitor revokes nothing and loses nothing",
  /** A refused command: the file's version, its digest now and then, and the state in memory. */
  12: "a refused command changes nothing",
} as const;
export type Invariant = keyof typeof INVARIANTS;

/** The program did what it must never do. */
export class Violation extends Error {
  override readonly name = "Violation";
}

export function breach(invariant: Invariant, what: string): never {
  throw new Violation(`invariant ${invariant} (${INVARIANTS[invariant]}): ${what}`);
}

/** Not one of the twelve, but never to be seen either. */
export function fault(what: string, cause?: unknown): never {
  throw new Violation(what, { cause });
}
