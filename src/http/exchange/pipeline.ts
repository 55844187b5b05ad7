/**
 * The requests that one connection has sent and is still owed answers to. Node's parser hands over every request of
 * what was read at once, a thousand of them in 64 KB, and would keep all their answers.
 *
 *  1. So many are served side by side as before; the others wait, unserved, and nothing more is read meanwhile.
 *  2. While the answers that the client has not taken are larger than {@link MAX_OWED_BYTES}, none is begun.
 *  3. What is sent beyond {@link MAX_WAITING} is not served at all: the connection ends with the last answer before it, and
 *     its client may send the rest again (RFC 9112, section 9.3.2).
 */
import type { ServerResponse } from "node:http";
import type { Socket } from "node:net";

const MAX_SERVED = 16;
const MAX_WAITING = 256;
const MAX_OWED_BYTES = 256 * 1_024;
/** On all connections together. */
const MAX_WAITING_IN_ALL = 8_192;

interface Waiting {
  readonly res: ServerResponse;
  readonly serve: () => void;
}

/** Shared by all connections of a server. */
export class Waiters {
  count = 0;
}

export class Pipeline {
  readonly #socket: Socket;
  readonly #waiters: Waiters;
  readonly #waiting: Waiting[] = [];
  #served = 0;
  #owedBytes = 0;
  #isClosing = false;

  constructor(socket: Socket, waiters: Waiters) {
    this.#socket = socket;
    this.#waiters = waiters;
    socket.once("close", () => {
      this.#waiters.count -= this.#waiting.length;
      this.#waiting.length = 0;
    });
  }

  /** Whether no answer is owed. */
  get isIdle(): boolean {
    return this.#served === 0 && this.#waiting.length === 0;
  }

  /** Serves a request now, later, or not at all. */
  take(res: ServerResponse, serve: () => void): void {
    if (this.#isClosing) return;
    if (this.#waiting.length === 0 && this.#mayServe()) {
      this.#served++;
      serve();
      return;
    }
    if (this.#waiting.length >= MAX_WAITING || this.#waiters.count >= MAX_WAITING_IN_ALL) {
      this.#isClosing = true;
      const last = this.#waiting.at(-1);
      if (last === undefined) this.#socket.destroy();
      else last.res.shouldKeepAlive = false;
      return;
    }
    this.#waiting.push({ res, serve });
    this.#waiters.count++;
    this.#socket.pause();
  }

  /** An answer was given to the system, which has not taken all of it. */
  owes(bytes: number): void {
    this.#owedBytes += bytes;
  }

  /** The answer to a request that was served is over, one way or the other. */
  over(owed: number): void {
    this.#owedBytes -= owed;
    this.#served--;
    while (this.#waiting.length > 0 && this.#mayServe()) {
      const { serve } = this.#waiting.shift() as Waiting;
      this.#waiters.count--;
      this.#served++;
      serve();
    }
    if (this.#waiting.length === 0 && this.#socket.isPaused()) this.#socket.resume();
  }

  #mayServe(): boolean {
    return this.#served < MAX_SERVED && this.#owedBytes < MAX_OWED_BYTES;
  }
}
