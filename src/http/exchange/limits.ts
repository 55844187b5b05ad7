/**
 * What one client may have of the server, so that no client can cost another more than a stated share.
 *
 *  1. A client is a principal where a key tells who it is, and otherwise an address: all of an IPv6 /64 is one.
 *  2. What is refused is told with the limit's name and when to come again, and has changed nothing.
 *  3. What gives GPUs back or keeps a lease alive has {@link ESSENTIAL_PER_SECOND} of its own, whatever else a client asked.
 */
import { isIPv6 } from "node:net";
import { HttpError } from "./problems.ts";

export interface LimitSettings {
  readonly principal: ClientLimits;
  readonly address: ClientLimits;
  /** Wrong keys from one address before it has to wait; `null`: no limit. */
  readonly failedAuthentications: number | null;
}

/** `null`: no limit. */
export interface ClientLimits {
  readonly requestsPerSecond: number | null;
  readonly requestsUnderWay: number | null;
  readonly longPolls: number | null;
  readonly streams: number | null;
  readonly pendingDeliveries: number | null;
  readonly storedBytesPerDay: number | null;
  readonly idempotencyKeysPerDay: number | null;
}

const UNLIMITED: ClientLimits = {
  requestsPerSecond: null,
  requestsUnderWay: null,
  longPolls: null,
  streams: null,
  pendingDeliveries: null,
  storedBytesPerDay: null,
  idempotencyKeysPerDay: null,
};

export const NO_LIMITS: LimitSettings = {
  principal: UNLIMITED,
  address: UNLIMITED,
  failedAuthentications: null,
};

/** Contract: releases and renewals are never limited below this. */
const ESSENTIAL_PER_SECOND = 50;
/** A client that was quiet for so long may ask for as much at once. */
const BURST_SECONDS = 5;
/** Clients that are remembered; one that has nothing under way and may ask for its full burst need not be. */
const SWEEP_MS = 10_000;
/** The wait after the first wrong key too many, doubled with each further one. */
const FIRST_BACK_OFF_MS = 250;
const MAX_BACK_OFF_MS = 60_000;
/** Wrong keys are forgotten after so long without one. */
const FAILURES_KEPT_MS = 120_000;
const MAX_FAILED_ADDRESSES = 65_536;

const MS_PER_DAY = 24 * 3_600_000;
/** What a stored request takes beside its body: its events, its row and its outcome. */
const STORED_BYTES = 1_024;

/** Refills with time. */
class Bucket {
  readonly #perMs: number;
  readonly #size: number;
  #tokens: number;
  #at: number;

  constructor(perMs: number, size: number, now: number) {
    this.#perMs = perMs;
    this.#size = size;
    this.#tokens = size;
    this.#at = now;
  }

  static perSecond(limit: number, now: number): Bucket {
    return new Bucket(limit / 1_000, limit * BURST_SECONDS, now);
  }

  static perDay(limit: number, now: number): Bucket {
    return new Bucket(limit / MS_PER_DAY, limit, now);
  }

  #fill(now: number): void {
    this.#tokens = Math.min(this.#size, this.#tokens + (now - this.#at) * this.#perMs);
    this.#at = now;
  }

  isFull(now: number): boolean {
    this.#fill(now);
    return this.#tokens >= this.#size;
  }

  giveBack(count: number): void {
    this.#tokens = Math.min(this.#size, this.#tokens + count);
  }

  /** @returns 0 when it was there; otherwise in how many ms it will be. */
  take(now: number, count = 1): number {
    this.#fill(now);
    if (this.#tokens >= count) {
      this.#tokens -= count;
      return 0;
    }
    return (count - this.#tokens) / this.#perMs;
  }
}

/** A request, as far as its client's share is concerned. */
export interface Entering {
  readonly isEssential: boolean;
  readonly isLongPoll: boolean;
  /** Of what it may have stored; `null`: it stores nothing. */
  readonly storedBytes: number | null;
  readonly hasIdempotencyKey: boolean;
}

/** What one client has now. */
export class Client {
  readonly #kind: "principal" | "address";
  readonly #limits: ClientLimits;
  readonly #requests: Bucket | null;
  readonly #essential: Bucket;
  readonly #stored: Bucket | null;
  readonly #keys: Bucket | null;
  /** Of memory that its bodies and untaken answers hold now. */
  roomBytes = 0;
  #underWay = 0;
  #longPolls = 0;
  #streams = 0;

  constructor(kind: "principal" | "address", limits: ClientLimits, now: number) {
    this.#kind = kind;
    this.#limits = limits;
    const { requestsPerSecond, storedBytesPerDay, idempotencyKeysPerDay } = limits;
    this.#requests = requestsPerSecond === null ? null : Bucket.perSecond(requestsPerSecond, now);
    this.#essential = Bucket.perSecond(ESSENTIAL_PER_SECOND, now);
    this.#stored = storedBytesPerDay === null ? null : Bucket.perDay(storedBytesPerDay, now);
    this.#keys = idempotencyKeysPerDay === null ? null : Bucket.perDay(idempotencyKeysPerDay, now);
  }

  isQuiet(now: number): boolean {
    const isIdle = this.#underWay === 0 && this.#longPolls === 0 && this.#streams === 0;
    const buckets = [this.#requests, this.#essential, this.#stored, this.#keys];
    return isIdle && buckets.every((bucket) => bucket === null || bucket.isFull(now));
  }

  /**
   * A request of it begins, until {@link leave}.
   *
   * @returns the bytes that it counts as stored; see {@link notStored}.
   * @throws HttpError 429
   */
  enter(entering: Entering, now = performance.now()): number {
    const { isEssential, isLongPoll, storedBytes, hasIdempotencyKey } = entering;
    const { requestsPerSecond, requestsUnderWay, longPolls, storedBytesPerDay, idempotencyKeysPerDay } = this.#limits;
    const waitMs = this.#requests?.take(now) ?? 0;
    if (waitMs > 0 && !(isEssential && this.#essential.take(now) === 0)) {
      throw this.#reached("requests_per_second", `${requestsPerSecond} requests a second`, waitMs);
    }
    if (!isEssential && requestsUnderWay !== null && this.#underWay >= requestsUnderWay) {
      throw this.#reached("requests_under_way", `${requestsUnderWay} requests under way`, 1_000);
    }
    if (isLongPoll && longPolls !== null && this.#longPolls >= longPolls) {
      throw this.#reached("long_polls", `${longPolls} waits at a time`, 1_000);
    }
    const counted = storedBytes === null || isEssential ? 0 : storedBytes + STORED_BYTES;
    if (counted > 0) {
      const storedWaitMs = this.#stored?.take(now, counted) ?? 0;
      if (storedWaitMs > 0) throw this.#reached("stored_mb_per_day", `${storedBytesPerDay} bytes a day`, storedWaitMs);
    }
    if (hasIdempotencyKey && !isEssential) {
      const keysWaitMs = this.#keys?.take(now) ?? 0;
      if (keysWaitMs > 0) throw this.#reached("idempotency_keys_per_day", `${idempotencyKeysPerDay} a day`, keysWaitMs);
    }
    this.#underWay++;
    return counted;
  }

  /** So much of what counted as stored is not. */
  notStored(bytes: number): void {
    this.#stored?.giveBack(bytes);
  }

  /** @throws HttpError 429 when as many webhooks as it may have are still to be delivered. */
  mayNotify(pending: (atMost: number) => number): void {
    const { pendingDeliveries } = this.#limits;
    if (pendingDeliveries === null || pending(pendingDeliveries) < pendingDeliveries) return;
    throw this.#reached("pending_deliveries", `${pendingDeliveries} webhooks that are not delivered yet`, 10_000);
  }

  leave(): void {
    this.#underWay--;
  }

  /** @returns whether it may wait; `endWait` ends it. */
  beginWait(): boolean {
    if (this.#limits.longPolls !== null && this.#longPolls >= this.#limits.longPolls) return false;
    this.#longPolls++;
    return true;
  }

  endWait(): void {
    this.#longPolls--;
  }

  /** @throws HttpError 429 */
  beginStream(): void {
    const { streams } = this.#limits;
    if (streams !== null && this.#streams >= streams) {
      throw this.#reached("streams", `${streams} streams at a time`, 10_000);
    }
    this.#streams++;
  }

  endStream(): void {
    this.#streams--;
  }

  #reached(limit: string, words: string, waitMs: number): HttpError {
    const who = this.#kind === "principal" ? "a principal" : "an address without a key";
    return limitReached(`limits.${this.#kind}.${limit}`, `${words}: as many as ${who} may have`, waitMs);
  }
}

export function limitReached(limit: string, detail: string, waitMs: number): HttpError {
  return new HttpError("limit-reached", detail, { limit, retryAfterSeconds: Math.max(1, Math.ceil(waitMs / 1_000)) });
}

export class Limits {
  readonly #settings: () => LimitSettings;
  #made: LimitSettings;
  readonly #clients = new Map<string, Client>();
  readonly #failures = new Map<string, { count: number; last: number; blockedUntil: number }>();
  #sweptAt = performance.now();

  /** @param settings as they are now: another object when they change. */
  constructor(settings: () => LimitSettings) {
    this.#settings = settings;
    this.#made = settings();
  }

  /** @param principal `null`: no key told. */
  clientOf(principal: string | null, address: string): Client {
    const now = performance.now();
    const settings = this.#settings();
    // What is under way keeps the client that it was counted for.
    if (settings !== this.#made) this.#clients.clear();
    this.#made = settings;
    if (now - this.#sweptAt > SWEEP_MS) this.#sweep(now);
    const name = principal === null ? `address ${address}` : `principal ${principal}`;
    let client = this.#clients.get(name);
    if (client === undefined) {
      const kind = principal === null ? "address" : "principal";
      client = new Client(kind, settings[kind], now);
      this.#clients.set(name, client);
    }
    return client;
  }

  #sweep(now: number): void {
    this.#sweptAt = now;
    for (const [name, client] of this.#clients) if (client.isQuiet(now)) this.#clients.delete(name);
    for (const [address, { last }] of this.#failures) {
      if (now - last > FAILURES_KEPT_MS) this.#failures.delete(address);
    }
  }

  /**
   * A wrong key came from there. A right one is taken all the same: others may be behind the address.
   *
   * @throws HttpError 429 while too many came before it.
   */
  failedAuthentication(address: string, now = performance.now()): void {
    const { failedAuthentications: limit } = this.#settings();
    if (limit === null) return;
    const known = this.#failures.get(address) ?? { count: 0, last: now, blockedUntil: 0 };
    if (now < known.blockedUntil) {
      const waitMs = known.blockedUntil - now;
      throw limitReached("limits.address.failed_authentications", "too many wrong keys from this address", waitMs);
    }
    known.count = now - known.last > FAILURES_KEPT_MS ? 1 : known.count + 1;
    known.last = now;
    if (known.count >= limit) {
      known.blockedUntil = now + Math.min(MAX_BACK_OFF_MS, FIRST_BACK_OFF_MS * 2 ** (known.count - limit));
    }
    if (this.#failures.size < MAX_FAILED_ADDRESSES) this.#failures.set(address, known);
  }
}

/** The address as limits count it; see 1. */
export function countedAddress(address: string | undefined): string {
  if (address === undefined) return "local";
  const bare = address.startsWith("::ffff:") ? address.slice("::ffff:".length) : address;
  if (!bare.includes(":") || !isIPv6(bare)) return bare;
  const [head = "", tail] = (bare.split("%")[0] as string).split("::");
  const left = head === "" ? [] : head.split(":");
  const right = tail === undefined || tail === "" ? [] : tail.split(":");
  const zeros = Array.from({ length: tail === undefined ? 0 : 8 - left.length - right.length }, () => "0");
  return `${[...left, ...zeros, ...right].slice(0, 4).join(":")}::/64`;
}
