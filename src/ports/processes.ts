import type { BoundProcess } from "../core/model/allocation.ts";
import { DomainError } from "../core/model/errors.ts";

/** The processes of this host, as far as the daemon sees them. */
export interface Processes {
  /**
   * A process that runs now; `null`: none of that number is seen, or it is a thread.
   *
   * @param uid whose it must be; `null`, and root: anybody's.
   */
  find(pid: number, uid: number | null): BoundProcess | null;
}

export const NO_PROCESSES: Processes = { find: () => null };

/** A lease cannot be bound to a process that is not seen: nobody would learn of its end. */
export class PidNotVisibleError extends DomainError {
  readonly code = "pid-not-visible";
  constructor(pid: number) {
    super(
      `the daemon sees no process ${pid} of yours: it is gone, another user's, a thread, or of another host or container`,
    );
  }
}
