/**
 * The API, typed.
 *
 *  1. A call that changes something is repeated only when that cannot do it twice: an allocate bears an
 *     Idempotency-Key, and renewing, releasing and cancelling come to the same however often they are asked for.
 *  2. What is repeated is what got no answer, and what the daemon refuses while it starts, stops or has no room; for no
 *     longer than `patienceMs`. Other refusals are thrown as {@link ApiProblem} at once.
 *  3. No call waits for ever: each has a deadline, and takes the caller's signal.
 */
import { ApiProblem, NotGranted, Unreachable } from "./errors.ts";
import { problemIn } from "./problem.ts";
import { messagesOf } from "./sse.ts";
import type { Transport } from "./transport.ts";
import type {
  AllocateBody,
  Allocation,
  AllocationPage,
  Audit,
  Deliveries,
  GpuWhy,
  Granted,
  HostDrain,
  Key,
  Keys,
  List,
  Me,
  NewKey,
  Plan,
  Queued,
  Quotas,
  Released,
  Reservation,
  ReservationBody,
  Reservations,
  Status,
  Usage,
  WebhookTest,
  Why,
  Windows,
  WorkloadAnalysis,
  WorkloadBody,
} from "./types.ts";

const CALL_TIMEOUT_MS = 30_000;
/** What the daemon may hold a long poll for; no longer is asked for. */
const LONG_POLL_MS = 30_000;
const FIRST_PAUSE_MS = 200;
const LONGEST_PAUSE_MS = 5_000;
/** Without a piece for so long a stream is dead: the daemon shows every 15 s that it lives. */
const STREAM_SILENCE_MS = 45_000;
/** Refusals that pass by themselves and have changed nothing. */
const PASSING: ReadonlySet<string> = new Set([
  "shutting-down",
  "not-ready",
  "overloaded",
  "storage-unavailable",
  "idempotency-key-in-use",
  "too-many-streams",
  "usage-busy",
]);

export interface ClientOptions {
  readonly transport: Transport;
  /** Asked for at each call, so that a key that is changed on disk is taken up. */
  readonly key?: () => string | null;
  /** How long what is safe to repeat is repeated (2); 0: not at all. */
  readonly patienceMs?: number;
}

export interface CallOptions {
  readonly signal?: AbortSignal;
}

/** What `GET /gpu/events` tells of; `docs/events.md` lists the types and what `data` has. */
export interface EventMessage {
  readonly id: number;
  readonly type: string;
  readonly data: Readonly<Record<string, unknown>>;
}

type Query = Readonly<Record<string, string | number | undefined>>;

export interface AuditQuery {
  readonly principal?: string;
  readonly action?: string;
  readonly object?: string;
  /** `done`, `refused`, or the code of a refusal. */
  readonly result?: string;
  /** RFC 3339 times. */
  readonly from?: string;
  readonly to?: string;
  /** The `next` of the page before. */
  readonly before?: string;
  readonly limit?: number;
}

interface Call extends CallOptions {
  readonly query?: Query;
  readonly body?: object;
  readonly headers?: Readonly<Record<string, string>>;
  /** Whether it may be done twice (1). */
  readonly repeatable: boolean;
  /** What the daemon may take its time for, beside {@link CALL_TIMEOUT_MS}. */
  readonly waitMs?: number;
}

export class Client {
  readonly #options: ClientOptions;

  constructor(options: ClientOptions) {
    this.#options = options;
  }

  status(options: CallOptions = {}): Promise<Status> {
    return this.#get("/gpu/status", options);
  }

  list(options: CallOptions = {}): Promise<List> {
    return this.#get("/gpu/list", options);
  }

  /** Who calls, and what is the caller's. */
  me(options: CallOptions = {}): Promise<Me> {
    return this.#get("/gpu/me", options);
  }

  quotas(options: CallOptions = {}): Promise<Quotas> {
    return this.#get("/gpu/quotas", options);
  }

  windows(options: CallOptions = {}): Promise<Windows> {
    return this.#get("/gpu/windows", options);
  }

  /** GPUs that are kept for somebody once, now or later. */
  reservations(options: CallOptions = {}): Promise<Reservations> {
    return this.#get("/gpu/reservations", options);
  }

  /** Keeps GPUs for a principal from a time for a while: 409 `reservation-refused` when that cannot hold. */
  reserve(body: ReservationBody, options: CallOptions = {}): Promise<Reservation> {
    return this.#post("/gpu/reservations", body, { ...options });
  }

  /** Gives up what is left of it; leases stay. */
  cancelReservation(id: string, options: CallOptions = {}): Promise<Reservation> {
    return this.#ask("DELETE", `/gpu/reservations/${encodeURIComponent(id)}`, { ...options, repeatable: false });
  }

  /** @param period RFC 3339 times; without them the last 24 h. */
  usage(period: { readonly from?: string; readonly to?: string } = {}, options: CallOptions = {}): Promise<Usage> {
    return this.#get("/gpu/usage", options, period);
  }

  deliveries(
    query: {
      readonly state?: string;
      readonly allocation_id?: string;
      readonly before?: string;
      readonly limit?: number;
    },
    options: CallOptions = {},
  ): Promise<Deliveries> {
    return this.#get("/gpu/webhooks/deliveries", options, query);
  }

  /** Who changed or was refused what, newest first; of admins. */
  audit(query: AuditQuery = {}, options: CallOptions = {}): Promise<Audit> {
    return this.#get("/gpu/audit", options, { ...query });
  }

  /** Who has keys; of admins. */
  keys(options: CallOptions = {}): Promise<Keys> {
    return this.#get("/gpu/keys", options);
  }

  /** A new key, which is shown this once. @param body `expires` is an RFC 3339 time. */
  createKey(
    body: { readonly principal: string; readonly role?: Key["role"]; readonly expires?: string },
    options: CallOptions = {},
  ): Promise<NewKey> {
    return this.#post("/gpu/keys", body, { ...options });
  }

  revokeKey(id: string, options: CallOptions = {}): Promise<Key> {
    return this.#ask("DELETE", `/gpu/keys/${encodeURIComponent(id)}`, { ...options, repeatable: false });
  }

  redeliver(id: string, options: CallOptions = {}): Promise<unknown> {
    return this.#post(`/gpu/webhooks/deliveries/${encodeURIComponent(id)}/redeliver`, {}, { ...options });
  }

  /** Sends a webhook that tells of nothing, once, and says what came of it. */
  testWebhook(url: string, options: CallOptions = {}): Promise<WebhookTest> {
    return this.#post("/gpu/webhooks/test", { url }, { ...options });
  }

  workload(body: WorkloadBody, options: CallOptions = {}): Promise<WorkloadAnalysis> {
    return this.#post("/gpu/workload", body, { ...options, repeatable: true });
  }

  /** What {@link allocate} would come to now; changes nothing. */
  plan(body: AllocateBody, options: CallOptions = {}): Promise<Plan> {
    return this.#post("/gpu/plan", body, { ...options, repeatable: true });
  }

  /** @param idempotencyKey one for each lease that is wanted: the same key never gets a second one. */
  allocate(body: AllocateBody, idempotencyKey: string, options: CallOptions = {}): Promise<Granted | Queued> {
    const headers = { "idempotency-key": idempotencyKey };
    return this.#post("/gpu/allocate", body, { ...options, headers, repeatable: true });
  }

  /** @param waitMs while it is queued, the answer is held until that changes, for so long at most. */
  record(id: string, { waitMs = 0, ...options }: CallOptions & { readonly waitMs?: number } = {}): Promise<Allocation> {
    const query = waitMs > 0 ? { wait: `${Math.min(waitMs, LONG_POLL_MS)}ms` } : {};
    return this.#ask("GET", allocationPath(id), { ...options, query, waitMs, repeatable: true });
  }

  records(
    query: {
      readonly status?: string;
      readonly service_name?: string;
      readonly mine?: "true" | "false";
      readonly before?: string;
      readonly limit?: number;
    },
    options: CallOptions = {},
  ): Promise<AllocationPage> {
    return this.#get("/gpu/allocations", options, query);
  }

  renew(id: string, fencingToken?: number, options: CallOptions = {}): Promise<Allocation> {
    const body = fencingToken === undefined ? {} : { fencing_token: fencingToken };
    return this.#post(`${allocationPath(id)}/renew`, body, { ...options, repeatable: true });
  }

  /** Moves a lease's end. */
  extend(
    id: string,
    to: { readonly ttl?: string; readonly max_duration?: string; readonly fencing_token?: number },
    options: CallOptions = {},
  ): Promise<Allocation> {
    return this.#post(`${allocationPath(id)}/extend`, to, { ...options, repeatable: true });
  }

  /** Sends whoever holds it a message: 429 `nudged-lately` within a minute of the last. */
  nudge(id: string, message: string, options: CallOptions = {}): Promise<Allocation> {
    return this.#post(`${allocationPath(id)}/nudge`, { message }, { ...options });
  }

  /** Ends a lease or cancels what waits; the record as it is then. */
  remove(id: string, fencingToken?: number, options: CallOptions = {}): Promise<Allocation> {
    const query = { fencing_token: fencingToken };
    return this.#ask("DELETE", allocationPath(id), { ...options, query, repeatable: true });
  }

  /** Ends all leases of a service, and cancels what waits of it. */
  releaseService(serviceName: string, options: CallOptions = {}): Promise<Released> {
    return this.#post("/gpu/release", { service_name: serviceName }, { ...options, repeatable: true });
  }

  /** In words why it waits, was granted as it was, or has ended. */
  why(id: string, options: CallOptions = {}): Promise<Why> {
    return this.#get(`${allocationPath(id)}/why`, options);
  }

  /** @param gpu its index or UUID. */
  gpuWhy(gpu: string, options: CallOptions = {}): Promise<GpuWhy> {
    return this.#get(`/gpu/gpus/${encodeURIComponent(gpu)}/why`, options);
  }

  revoke(id: string, reason: string, options: CallOptions = {}): Promise<Allocation> {
    return this.#post(`${allocationPath(id)}/revoke`, { reason }, { ...options });
  }

  /** What an admin does to one GPU, by its index or UUID; answers with the GPU. */
  govern(
    act: "cordon" | "uncordon" | "drain" | "clear-quarantine" | "adopt",
    gpu: string,
    body: { readonly reason: string } & Readonly<Record<string, unknown>>,
    options: CallOptions = {},
  ): Promise<Readonly<Record<string, unknown>>> {
    return this.#post(`/gpu/gpus/${encodeURIComponent(gpu)}/${act}`, body, { ...options });
  }

  drainHost(
    act: "drain" | "undrain",
    body: { readonly reason: string; readonly deadline?: string },
    options: CallOptions = {},
  ): Promise<HostDrain> {
    return this.#post(`/gpu/${act}`, body, { ...options });
  }

  /** `null`: ready; else why not. */
  async ready(options: CallOptions = {}): Promise<string | null> {
    try {
      await this.#get("/readyz", options);
      return null;
    } catch (error) {
      if (error instanceof ApiProblem && error.status === 503) return error.message;
      throw error;
    }
  }

  /** Whether it lives, by its answer's own words: its version, and what its clock says. `null`: it does not say. */
  async hello({
    signal,
  }: CallOptions = {}): Promise<{ readonly version: string | null; readonly date: string | null }> {
    const reply = await this.#send("GET", "/livez", { repeatable: true, ...(signal === undefined ? {} : { signal }) });
    const text = await reply.text();
    if (reply.status !== 200) throw problemIn(reply, text);
    return { version: reply.header("gpu-orchestrator-version"), date: reply.header("date") };
  }

  /**
   * Waits until a queued request is granted, by long polls: they show the daemon that somebody waits.
   *
   * @param onChange is told each record that was seen while it waits.
   * @throws {NotGranted} when it ends instead.
   */
  async granted(
    id: string,
    onChange: (record: Allocation) => void = () => {},
    { waitMs = LONG_POLL_MS, ...options }: CallOptions & { readonly waitMs?: number } = {},
  ): Promise<Allocation> {
    for (let record = await this.record(id, options); ; ) {
      if (record.status === "ended") {
        const reason = record.end_reason ?? "ended";
        throw new NotGranted(id, reason, record.end_detail ?? `the request ended: ${reason}`);
      }
      if (record.status !== "queued") return record;
      onChange(record);
      record = await this.record(id, { ...options, waitMs });
    }
  }

  /**
   * The events after `after`, for as long as the caller reads on; a stream that breaks is taken up where it broke.
   *
   * @param after an event's id, 0 for all that are kept, `null` for those to come.
   */
  async *events(after: number | null, { signal }: CallOptions = {}): AsyncGenerator<EventMessage, void, undefined> {
    let last = after;
    for (let failures = 0; ; failures++) {
      try {
        for await (const message of this.#stream(last, signal)) {
          failures = 0;
          last = message.id;
          if (message.type !== "") yield message;
        }
      } catch (error) {
        signal?.throwIfAborted();
        if (!isPassing(error) || this.#patienceMs === 0) throw error;
      }
      await pause(pauseMs(failures, null), signal);
    }
  }

  /** The number of the latest event. */
  async lastEventId({ signal }: CallOptions = {}): Promise<number> {
    for await (const { id } of this.#stream(null, signal)) return id;
    throw new Unreachable("the event stream ended before it began", false);
  }

  async *#stream(after: number | null, signal?: AbortSignal): AsyncGenerator<EventMessage, void, undefined> {
    const silence = new AbortController();
    const quiet = () => silence.abort(new Unreachable("the event stream is silent", false));
    let timer = setTimeout(quiet, STREAM_SILENCE_MS);
    const heard = async function* (pieces: AsyncIterable<Uint8Array>) {
      for await (const piece of pieces) {
        clearTimeout(timer);
        timer = setTimeout(quiet, STREAM_SILENCE_MS);
        yield piece;
      }
    };
    try {
      const headers = after === null ? {} : { "last-event-id": String(after) };
      const ask = { method: "GET", path: "/gpu/events", body: null, signal: either(silence.signal, signal) };
      const reply = await this.#options.transport({ ...ask, headers: { ...this.#headers(), ...headers } });
      if (reply.status !== 200) throw problemIn(reply, await reply.text());
      for await (const { id, event, data } of messagesOf(heard(reply.pieces()))) {
        // A message without data only says where the stream stands.
        if (data === "") yield { id: Number(id), type: "", data: {} };
        else yield { id: Number(id), type: event, data: JSON.parse(data) };
      }
    } finally {
      clearTimeout(timer);
      silence.abort();
    }
  }

  get #patienceMs(): number {
    return this.#options.patienceMs ?? 0;
  }

  #headers(): Record<string, string> {
    const key = this.#options.key?.() ?? null;
    return key === null ? {} : { authorization: `Bearer ${key}` };
  }

  #get<T>(path: string, options: CallOptions, query: Query = {}): Promise<T> {
    return this.#ask("GET", path, { ...options, query, repeatable: true });
  }

  #post<T>(path: string, body: object, options: CallOptions & Partial<Call>): Promise<T> {
    return this.#ask("POST", path, { repeatable: false, ...options, body });
  }

  async #ask<T>(method: string, path: string, call: Call): Promise<T> {
    const patienceMs = this.#patienceMs;
    // Whoever has no patience need not know the time: a part of Node would be loaded for it.
    const until = patienceMs === 0 ? null : performance.now() + patienceMs;
    for (let failures = 0; ; failures++) {
      try {
        const reply = await this.#send(method, path, call);
        const text = await reply.text();
        if (reply.status >= 200 && reply.status < 300) return (text === "" ? null : parsed(text)) as T;
        throw problemIn(reply, text);
      } catch (error) {
        call.signal?.throwIfAborted();
        const waitMs = pauseMs(failures, error instanceof ApiProblem ? error.retryAfterMs : null);
        const isSafe = call.repeatable || (error instanceof Unreachable && error.refused);
        if (until === null || !isSafe || !isPassing(error) || performance.now() + waitMs > until) throw error;
        await pause(waitMs, call.signal);
      }
    }
  }

  async #send(method: string, path: string, { query = {}, body, headers = {}, waitMs = 0, signal }: Call) {
    const timeoutMs = CALL_TIMEOUT_MS + waitMs;
    const timeout = AbortSignal.timeout(timeoutMs);
    try {
      return await this.#options.transport({
        method,
        path: path + queryText(query),
        headers: {
          accept: "application/json",
          ...this.#headers(),
          ...(body === undefined ? {} : { "content-type": "application/json" }),
          ...headers,
        },
        body: body === undefined ? null : JSON.stringify(body),
        signal: either(timeout, signal),
      });
    } catch (error) {
      if (timeout.aborted && signal?.aborted !== true) {
        throw new Unreachable(`no answer within ${timeoutMs / 1_000} s`, false, error);
      }
      throw error;
    }
  }
}

/** Whether waiting and asking again may help. */
export function isPassing(error: unknown): boolean {
  return error instanceof Unreachable || (error instanceof ApiProblem && PASSING.has(error.code));
}

function either(own: AbortSignal, callers: AbortSignal | undefined): AbortSignal {
  return callers === undefined ? own : AbortSignal.any([own, callers]);
}

function allocationPath(id: string): string {
  return `/gpu/allocations/${encodeURIComponent(id)}`;
}

function queryText(query: Query): string {
  const given = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) if (value !== undefined) given.set(name, String(value));
  return given.size === 0 ? "" : `?${given}`;
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new Unreachable("what answered is not the daemon: its answer is not JSON", false, error);
  }
}

/** Doubling, with a random part so that clients do not come back all at once. */
function pauseMs(failures: number, retryAfterMs: number | null): number {
  const backOff = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** Math.min(failures, 10));
  return Math.max(retryAfterMs ?? 0, backOff * (0.5 + Math.random() / 2));
}

export function pause(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted === true) return reject(signal.reason);
    const left = () => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", left);
      resolve();
    }, ms);
    signal?.addEventListener("abort", left, { once: true });
  });
}
