/**
 * Which clients have been told of their grants. A grant whose client was not told is offered again.
 *
 *  1. An answer is lost when its connection was seen to close before the system had taken it. A lease that was granted or
 *     claimed in a lost answer is offered again: this is a hang-up.
 *  2. There is no hang-up if another answer has told of the lease: the client may have asked again on a new connection
 *     before the end of the old one was seen. As long as such an answer is under way, the decision waits for it.
 *  3. If a record was leased already when it was asked for, the answer tells of the lease, but losing it is no hang-up.
 *  4. While a hang-up is being stored, whoever asks for the record waits for that, and then claims the offer anew.
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

  /** @param onFailure hears of hang-ups that could not be stored. Those leases stay: their clients may know of them. */
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
