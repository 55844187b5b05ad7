/**
 * The memory for bodies that are being read or served, and for answers that nobody has taken yet.
 *
 *  1. One client has a part of it, so that nobody can take it all from the others.
 *  2. What gives GPUs back or keeps a lease alive may have twice as much of both, and so is served when nothing else is.
 *  3. An answer out of a buffer that is held anyway takes none.
 */
import { HttpError } from "./problems.ts";

const MIB = 1_024 * 1_024;
/** Of all clients. */
const MAX_BODY_BYTES = 64 * MIB;
const MAX_UNTAKEN_BYTES = 64 * MIB;
/** Of one client, bodies and answers together. */
const MAX_BYTES_OF_CLIENT = 4 * MIB;
const ESSENTIAL_FACTOR = 2;

/** A request that takes room until it is over. */
export interface Occupant {
  /** Whose part it takes; `null`: nobody's. */
  readonly client: { roomBytes: number } | null;
  bodyBytes: number;
  untakenBytes: number;
  /** It is counted among those that are under way. */
  isUnderWay: boolean;
}

export class ByteRoom {
  readonly #maxRequests: number;
  #underWay = 0;
  #bodyBytes = 0;
  #untakenBytes = 0;

  /** @param maxRequests under way at once. */
  constructor(maxRequests = Number.POSITIVE_INFINITY) {
    this.#maxRequests = maxRequests;
  }

  /**
   * Makes room for a request's body, until it {@link leave}s.
   *
   * @throws HttpError 503 when all that it may have of the memory is taken.
   */
  enter(occupant: Occupant, bodyBytes: number, isEssential: boolean): void {
    if (!isEssential && this.#underWay >= this.#maxRequests) {
      throw new HttpError("too-busy", `${this.#maxRequests} requests are under way, as many as may be`);
    }
    const factor = isEssential ? ESSENTIAL_FACTOR : 1;
    if ((occupant.client?.roomBytes ?? 0) + bodyBytes > MAX_BYTES_OF_CLIENT * factor) {
      throw new HttpError(
        "too-busy",
        "too many bodies of this client, and answers that it does not take, are under way",
      );
    }
    if (this.#bodyBytes + bodyBytes > MAX_BODY_BYTES * factor || this.#untakenBytes > MAX_UNTAKEN_BYTES * factor) {
      throw new HttpError("too-busy", "too many bodies and answers are under way");
    }
    if (!occupant.isUnderWay) this.#underWay++;
    occupant.isUnderWay = true;
    this.#take(occupant, bodyBytes, 0);
  }

  /** A body has come whole, and is no larger than this. */
  came(occupant: Occupant, bodyBytes: number): void {
    if (bodyBytes < occupant.bodyBytes) this.#take(occupant, bodyBytes - occupant.bodyBytes, 0);
  }

  /** The answer is written, and its client has not taken it yet. */
  untaken(occupant: Occupant, bytes: number): void {
    this.#take(occupant, 0, bytes);
  }

  leave(occupant: Occupant): void {
    if (occupant.isUnderWay) this.#underWay--;
    occupant.isUnderWay = false;
    this.#take(occupant, -occupant.bodyBytes, -occupant.untakenBytes);
  }

  #take(occupant: Occupant, bodyBytes: number, untakenBytes: number): void {
    occupant.bodyBytes += bodyBytes;
    occupant.untakenBytes += untakenBytes;
    this.#bodyBytes += bodyBytes;
    this.#untakenBytes += untakenBytes;
    if (occupant.client !== null) occupant.client.roomBytes += bodyBytes + untakenBytes;
  }
}
