/**
 * The answers that tell clients of their grants: a grant whose client was not told of it is offered again.
 *
 *  1. A lease that an answer made or claimed is hung up when that answer was lost: its connection was seen to close
 *     before the system had taken it.
 *  2. Not so when another answer has told of the lease meanwhile: a client that asks again, on a new connection, before
 *     the end of the old one is seen has its lease. While such an answer is under way, what becomes of it decides.
 *  3. An answer whose record was leased before it was asked for tells of the lease, but its loss says nothing.
 *  4. While a hang-up is under way nobody is told of the lease; the next to ask claims it anew.
 */
import type { AllocationId } from "../../core/model/ids.ts";
import type { Reply, Scheduler } from "../../scheduler/scheduler.ts";
import type { Answer } from "../exchange/answers.ts";

/** The answers about one allocation that are under way together. */
interface Telling {
  underWay: number;
  told: boolean;
  lost: boolean;
  /** Settles, never rejecting, when the hang-up has been decided. */
  hangingUp: Promise<void> | null;
}

export class GrantAnswers {
  readonly #scheduler: Scheduler;
  readonly #onFailure: (error: unknown, id: AllocationId) => void;
  readonly #tellings = new Map<AllocationId, Telling>();

  /** @param onFailure hears of hang-ups that could not be stored: those leases stay, for doubt favours the client. */
  constructor(scheduler: Scheduler, onFailure: (error: unknown, id: AllocationId) => void) {
    this.#scheduler = scheduler;
    this.#onFailure = onFailure;
  }

  /** The answer to a request that was granted at once. */
  ofNew(id: AllocationId, answer: Answer): Answer {
    const telling = this.#begun(id);
    return { ...answer, onSent: (written) => this.#ended(id, telling, written ? "told" : "lost") };
  }

  /**
   * The answer made of a record that is asked for, on behalf of `principal`.
   *
   * @param ask may claim the grant.
   */
  async ofKnown(
    id: AllocationId,
    principal: string,
    ask: () => Promise<Reply>,
    answer: (reply: Reply) => Answer,
  ): Promise<Answer> {
    const hangingUp = this.#tellings.get(id)?.hangingUp;
    if (hangingUp) await hangingUp;
    const mayClaim = this.#scheduler.state.allocations.get(id)?.status !== "leased";
    const telling = this.#begun(id);
    try {
      const reply = await ask();
      const { status, request } = reply.allocation;
      const made = answer(reply);
      if (status === "leased" && request.principal === principal) {
        const onSent = (written: boolean) =>
          this.#ended(id, telling, written ? "told" : mayClaim ? "lost" : "no-telling");
        return { ...made, onSent };
      }
      this.#ended(id, telling, "no-telling");
      return made;
    } catch (error) {
      this.#ended(id, telling, "no-telling");
      throw error;
    }
  }

  #begun(id: AllocationId): Telling {
    const telling = this.#tellings.get(id) ?? { underWay: 0, told: false, lost: false, hangingUp: null };
    telling.underWay++;
    this.#tellings.set(id, telling);
    return telling;
  }

  #ended(id: AllocationId, telling: Telling, how: "told" | "lost" | "no-telling"): void {
    telling.underWay--;
    if (how === "told") telling.told = true;
    else if (how === "lost") telling.lost = true;
    if (telling.underWay > 0) return;
    if (telling.told || !telling.lost) this.#tellings.delete(id);
    else telling.hangingUp = this.#hangUp(id);
  }

  async #hangUp(id: AllocationId): Promise<void> {
    try {
      await this.#scheduler.hangUp(id);
    } catch (error) {
      this.#onFailure(error, id);
    }
    this.#tellings.delete(id);
  }
}
