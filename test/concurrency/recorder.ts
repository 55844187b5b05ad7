/** Clients that write down what they asked of a daemon, what it answered, and when. */
import { type Dispatcher, request } from "undici";
import type { Random } from "../../src/monitor/simulated/random.ts";
import type { Operation } from "./linearizability.ts";
import type { Lease, Shown, Step, Wanted } from "./steps.ts";

interface Answer {
  readonly status: number;
  // biome-ignore lint/suspicious/noExplicitAny: answers are looked into freely by tests.
  readonly body: any;
}

/** An answer that the contract does not know for what was asked. */
export class UnexpectedAnswerError extends Error {
  override readonly name = "UnexpectedAnswerError";
}

const SERVICES = ["ocr", "embedder", "trainer", "chat"] as const;

export class Recorder {
  readonly history: Operation<Step>[] = [];
  /** Every request that some client has been told of; any client may go on with it. */
  readonly #ids: string[] = [];
  readonly #url: string;
  readonly #dispatcher: Dispatcher;
  readonly #random: Random;

  constructor(url: string, dispatcher: Dispatcher, random: Random) {
    this.#url = url;
    this.#dispatcher = dispatcher;
    this.#random = random;
  }

  /** What one client does, one after the other. */
  async act(times: number): Promise<void> {
    for (let i = 0; i < times; i++) {
      const id = this.#pick(this.#ids);
      const chance = this.#random();
      if (id === undefined || chance < 0.36) await this.#allocate();
      else if (chance < 0.64) await this.#release(id);
      else if (chance < 0.78) await this.#read(id);
      else if (chance < 0.86) await this.#renew(id);
      else if (chance < 0.92) await this.#list();
      else if (chance < 0.98) await this.#status();
      else await this.#releaseService();
    }
  }

  /** Ends all that is left, and reads every record, as so many clients: after this every grant is known. */
  async settle(clients: number): Promise<void> {
    const inTurn = async (act: (id: string) => Promise<void>) => {
      const ids = this.#ids.values();
      const one = async () => {
        for (const id of ids) await act(id);
      };
      await Promise.all(Array.from({ length: clients }, one));
    };
    await inTurn((id) => this.#release(id));
    await inTurn((id) => this.#read(id));
    await this.#list();
  }

  #pick<T>(from: readonly T[]): T | undefined {
    return from[Math.floor(this.#random() * from.length)];
  }

  async #record(method: "GET" | "POST", path: string, body: object | null, stepOf: (answer: Answer) => Step | null) {
    const invokedAt = performance.now();
    const { statusCode: status, body: stream } = await request(this.#url + path, {
      method,
      dispatcher: this.#dispatcher,
      ...(body === null ? {} : { headers: { "content-type": "application/json" }, body: JSON.stringify(body) }),
    });
    const answer: Answer = { status, body: await stream.json() };
    const answeredAt = performance.now();
    const step = stepOf(answer);
    if (step === null) throw new UnexpectedAnswerError(`${method} ${path}: ${status} ${JSON.stringify(answer.body)}`);
    this.history.push({ step, invokedAt, answeredAt });
  }

  async #allocate(): Promise<void> {
    const wanted: Wanted = {
      service: this.#pick(SERVICES) ?? "ocr",
      gpus: this.#pick([1, 1, 1, 1, 2, 2, 3]) ?? 1,
      priority: this.#pick([5, 5, 5, 8]) ?? 5,
    };
    const queue = this.#random() < 0.8;
    const { service, gpus, priority } = wanted;
    const ask = { service_name: service, required_gpus: gpus, priority, queue };
    await this.#record("POST", "/gpu/allocate", ask, ({ status, body }) => {
      if (status === 503 && body.code === "no-gpu-free" && !queue) return { call: "refused", wanted };
      if (status !== 200 && (status !== 202 || !queue)) return null;
      this.#ids.push(body.id);
      return { call: "allocate", wanted, shown: shownIn(body) };
    });
  }

  async #release(id: string): Promise<void> {
    await this.#record("POST", "/gpu/release", { allocation_id: id }, ({ status, body }) =>
      status === 200 && body.status === "released" ? { call: "release", id } : null,
    );
  }

  async #releaseService(): Promise<void> {
    const service = this.#pick(SERVICES) ?? "ocr";
    await this.#record("POST", "/gpu/release", { service_name: service }, ({ status, body }) =>
      status === 200 ? { call: "release-service", service, released: body.released } : null,
    );
  }

  async #read(id: string): Promise<void> {
    await this.#record("GET", `/gpu/allocations/${id}`, null, ({ status, body }) =>
      status === 200 ? { call: "read", shown: shownIn(body) } : null,
    );
  }

  async #renew(id: string): Promise<void> {
    await this.#record("POST", `/gpu/allocations/${id}/renew`, {}, ({ status, body }) => {
      if (status === 200) return { call: "renew", shown: shownIn(body) };
      return status === 409 && body.code === "allocation-ended" ? { call: "renew-ended", id } : null;
    });
  }

  async #list(): Promise<void> {
    await this.#record("GET", "/gpu/list", null, ({ status, body }) =>
      status === 200
        ? { call: "list", held: body.allocations.map(shownIn), queue: body.queue.map(({ id }: Shown) => id) }
        : null,
    );
  }

  async #status(): Promise<void> {
    await this.#record("GET", "/gpu/status", null, ({ status, body }) => {
      if (status !== 200) return null;
      const holders = new Map<string, string | null>();
      for (const gpu of body.gpus) holders.set(gpu.uuid, gpu.holders[0]?.allocation_id ?? null);
      return { call: "status", holders };
    });
  }
}

// biome-ignore lint/suspicious/noExplicitAny: an answer.
function shownIn(body: any): Shown {
  const lease: Lease | null =
    body.gpu_uuids === undefined ? null : { gpus: body.gpu_uuids.toSorted(), token: body.fencing_token };
  return {
    id: body.id,
    status: body.status,
    lease,
    position: body.position ?? null,
    endReason: body.end_reason ?? null,
  };
}
