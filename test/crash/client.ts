/** A client that outlives its daemon: it writes down all that it was told, and asks again what was not answered. */
import type { Random } from "../../src/monitor/simulated/random.ts";
import type { Answer, TestDaemon } from "../e2e/daemon.ts";
import type { Action, AnswerSeen, Ask, Call } from "./history.ts";

/** Beyond this a client gives something back rather than ask for more. */
const MOST_LIVE = 6;
const REMEMBERED = 20;
/** The share of requests that carry an `Idempotency-Key`. */
const KEYED = 0.5;

/** The connection broke: the daemon is dead, or dies. */
export class BrokenError extends Error {
  override readonly name = "BrokenError";
}

/** Makes one call and writes down what came of it. */
export async function recorded(daemon: TestDaemon, client: string, action: Action, calls: Call[]): Promise<AnswerSeen> {
  const invokedAt = performance.now();
  let answer: Answer;
  try {
    answer = await send(daemon, action);
  } catch (error) {
    // What fetch() throws when the connection is refused, breaks, or ends in the middle of an answer.
    if (!(error instanceof TypeError)) throw error;
    calls.push({ client, action, invokedAt, answer: null });
    throw new BrokenError(`${client}: ${action.what}`, { cause: error });
  }
  const { status, body } = answer;
  const seen = { at: performance.now(), status, body };
  calls.push({ client, action, invokedAt, answer: seen });
  return seen;
}

function send(daemon: TestDaemon, action: Action): Promise<Answer> {
  switch (action.what) {
    case "allocate": {
      const { key } = action;
      return daemon.call(
        "POST",
        "/gpu/allocate",
        allocateBody(action.ask),
        key === null ? {} : { "idempotency-key": key },
      );
    }
    case "release":
      return daemon.call("POST", "/gpu/release", { allocation_id: action.id, fencing_token: action.token });
    case "release-service":
      return daemon.call("POST", "/gpu/release", { service_name: action.service });
    case "renew":
      return daemon.call("POST", `/gpu/allocations/${action.id}/renew`, { fencing_token: action.token });
    case "read":
      return daemon.call("GET", `/gpu/allocations/${action.id}`);
    case "list":
      return daemon.call("GET", "/gpu/list");
    default:
      return action satisfies never;
  }
}

function allocateBody({ mark, service, gpus, ttlSeconds, queue, webhookUrl }: Ask): object {
  return {
    service_name: service,
    required_gpus: gpus,
    priority: 5,
    ttl: ttlSeconds,
    queue,
    webhook_url: webhookUrl,
    workload_data: { mark },
  };
}

interface Wish {
  readonly ask: Ask;
  readonly key: string | null;
}

export class CrashClient {
  readonly #name: string;
  readonly #calls: Call[];
  readonly #random: Random;
  readonly #webhookUrl: string;
  #asked = 0;
  /** What it has been told of and not ended yet, with the tokens of its leases. */
  readonly #live = new Map<string, number | null>();
  #ended: string[] = [];
  /** Sent, and never answered. */
  #unanswered: Wish | null = null;
  /** Keys that were answered: asking again must change nothing. */
  #answered: Wish[] = [];

  constructor(name: string, calls: Call[], random: Random, webhookUrl: string) {
    this.#name = name;
    this.#calls = calls;
    this.#random = random;
    this.#webhookUrl = webhookUrl;
  }

  /** Goes on until the connection breaks. */
  async useUntilItDies(daemon: TestDaemon): Promise<void> {
    try {
      for (;;) await this.#step(daemon);
    } catch (error) {
      if (!(error instanceof BrokenError)) throw error;
    }
  }

  /** Ends all that it has, known or not, whatever it takes. */
  async giveAllBack(daemon: TestDaemon): Promise<void> {
    await recorded(daemon, this.#name, { what: "release-service", service: this.#name }, this.#calls);
  }

  async #step(daemon: TestDaemon): Promise<void> {
    const chance = this.#random();
    if (this.#unanswered !== null) await this.#doubt(daemon, this.#unanswered);
    else if (chance < 0.02) await this.#endService(daemon);
    else if (chance < 0.08) await this.#askAgain(daemon);
    else if (chance < 0.14) await this.#touchEnded(daemon);
    else if (this.#live.size > MOST_LIVE || chance < 0.55) await this.#useOne(daemon);
    else await this.#allocate(daemon, this.#newWish());
  }

  #pick<T>(from: readonly T[]): T | undefined {
    return from[Math.floor(this.#random() * from.length)];
  }

  #newWish(): Wish {
    const mark = `${this.#name}-${++this.#asked}`;
    const ask: Ask = {
      mark,
      service: this.#name,
      gpus: this.#pick([1, 1, 1, 1, 2, 3]) ?? 1,
      ttlSeconds: this.#pick([null, null, null, 1, 2]) ?? null,
      queue: this.#random() < 0.9,
      webhookUrl: this.#random() < 0.6 ? this.#webhookUrl : null,
    };
    return { ask, key: this.#random() < KEYED ? `key-${mark}` : null };
  }

  async #allocate(daemon: TestDaemon, wish: Wish): Promise<void> {
    this.#unanswered = wish;
    const { status, body } = await recorded(daemon, this.#name, { what: "allocate", ...wish }, this.#calls);
    this.#unanswered = null;
    if (status !== 200 && status !== 202) return;
    if (!this.#ended.includes(body.id)) this.#live.set(body.id, body.fencing_token ?? null);
    if (wish.key !== null) this.#answered = [...this.#answered, wish].slice(-REMEMBERED);
  }

  /** With a key it asks again; without one it can only end whatever there may be, or forget it. */
  async #doubt(daemon: TestDaemon, wish: Wish): Promise<void> {
    if (wish.key !== null) return this.#allocate(daemon, wish);
    this.#unanswered = null;
    if (this.#random() < 0.7) await this.#endService(daemon);
  }

  async #askAgain(daemon: TestDaemon): Promise<void> {
    const wish = this.#pick(this.#answered);
    if (wish !== undefined) await this.#allocate(daemon, wish);
  }

  async #endService(daemon: TestDaemon): Promise<void> {
    await recorded(daemon, this.#name, { what: "release-service", service: this.#name }, this.#calls);
    this.#remember([...this.#live.keys()]);
    this.#live.clear();
  }

  #remember(ended: readonly string[]): void {
    this.#ended = [...this.#ended, ...ended].slice(-REMEMBERED);
  }

  /** What has ended stays so, whatever is done to it. */
  async #touchEnded(daemon: TestDaemon): Promise<void> {
    const id = this.#pick(this.#ended);
    if (id === undefined) return;
    const what = this.#pick(["release", "renew", "read"] as const) ?? "read";
    await recorded(daemon, this.#name, { what, id, token: null }, this.#calls);
  }

  async #useOne(daemon: TestDaemon): Promise<void> {
    const [id, known] = this.#pick([...this.#live]) ?? [];
    if (id === undefined) return;
    const token = this.#random() < 0.5 ? (known ?? null) : null;
    const what = this.#pick(["release", "release", "release", "renew", "read"] as const) ?? "read";
    const { status, body } = await recorded(daemon, this.#name, { what, id, token }, this.#calls);
    if (what !== "release" && status === 200 && body.status !== "ended") {
      this.#live.set(id, body.fencing_token ?? null);
      return;
    }
    this.#live.delete(id);
    this.#remember([id]);
  }
}
