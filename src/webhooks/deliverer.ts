/**
 * Sends what the outbox holds. The outbox is the truth, and this keeps no list of its own:
 *
 * 1. An attempt starts only from a row that the outbox has just given, and ends in exactly one settlement. Aborted
 *    by `stop` it ends in none, and the row is sent again after the restart: at least once, never at most.
 * 2. While an attempt is in flight, and until its settlement is stored, its row is not started again.
 * 3. A settlement that cannot be stored leaves the row due. Then everything pauses, longer each time, and goes on
 *    with one attempt at a time until one is stored: what cannot be noted down would only be sent over and over.
 * 4. {@link Slots} decides which attempts may run side by side.
 * 5. A test is no row: it is sent once, beside the others and under the same rules for addresses, and never again.
 */
import { randomUUID } from "node:crypto";
import type { EpochMs } from "../core/base/time.ts";
import type { Cancel, Clock } from "../platform/clock.ts";
import type {
  DeliverySettlement,
  NotificationStatus,
  Outbox,
  PendingDelivery,
  TestOutcome,
  WebhookTester,
} from "../ports/webhooks.ts";
import type { AllowedHosts } from "./address-policy.ts";
import { attempt, STOPPED } from "./attempt.ts";
import { type Lookup, sharedLookup } from "./names.ts";
import { signingKey } from "./sign.ts";
import { receiverOf, Slots } from "./slots.ts";

/**
 * Rows in a reading of the outbox. The first is short; further it is read only while slots are free and the rows so
 * far must wait for others, and no further than the longest, which takes the event loop some tens of milliseconds.
 */
const READ_ROWS = [128, 1_024, 4_096] as const;
/** After a longer reading the next is this much later, in ms per row: so they stay near a tenth of a core. */
const READ_PAUSE_MS_PER_ROW = 0.05;
/** How often to look for rows that have become due behind rows that are due already. */
export const RECHECK_MS = 500;
/** The pause after a settlement that could not be stored: doubled up to the longest. */
export const FIRST_STORE_PAUSE_MS = 1_000;
const MAX_STORE_PAUSE_MS = 30_000;
/** The row itself stays back longer, so that one that can never be settled does not hold up the others. */
export const HELD_ROW_MS = 10_000;
const MAX_HELD_ROWS = 10_000;
/** How long `stop` waits for settlements that are being stored. */
export const STOP_GRACE_MS = 2_000;

/** Tests under way, of all principals; each of them has one. */
const MAX_TESTS = 4;

export interface DeliverySettings {
  /** `whsec_` and base64, or any text: each of them signs. None: webhooks are not signed. */
  readonly secrets: readonly string[];
  /** Instead of those, for what tells a principal. */
  readonly secretsByPrincipal: Readonly<Record<string, readonly string[]>>;
  readonly timeoutMs: number;
  /** Since the notification was created. */
  readonly giveUpAfterMs: number;
  readonly concurrency: number;
  readonly perHostConcurrency: number;
  readonly allowedHosts: AllowedHosts;
}

export interface DeliveryLog {
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
}

export interface DelivererOptions<Status extends string = NotificationStatus> {
  readonly outbox: Outbox<Status>;
  /** Makes what came of an attempt durable. Rejects when it cannot. */
  readonly settle: (settlement: DeliverySettlement<Status>) => Promise<void>;
  readonly clock: Clock;
  readonly settings: DeliverySettings;
  /**
   * What is sent of a stored row, made anew for each attempt; left out: the body as it is stored. When it rejects, the
   * attempt has failed, as with a receiver that does not answer; with an error whose `isFinal` is true it was the last.
   */
  readonly bodyAsSent?: (row: PendingDelivery<Status>) => string | Promise<Buffer | string>;
  readonly log?: DeliveryLog;
  /** Uniform in [0, 1). */
  readonly random?: () => number;
  /** Resolves host names; what it answers is judged before every connection. */
  readonly lookup?: Lookup;
  /** The wall clock: signatures carry its time, not that of `clock`, which does not follow when it is set. */
  readonly wallNow?: () => EpochMs;
}

export interface Deliverer extends WebhookTester {
  /** The outbox may have changed. Cheap: calls of one turn of the event loop are one. */
  wake(): void;
  /**
   * Holds for attempts that start from now on.
   *
   * @throws {RangeError} when the secret cannot be read; the old settings stay then.
   */
  reconfigure(settings: DeliverySettings): void;
  /** Aborts what is in flight and leaves neither timers nor sockets. Never rejects. */
  stop(): Promise<void>;
}

/** @throws {RangeError} when the secret cannot be read. */
export function startDelivering<Status extends string>(options: DelivererOptions<Status>): Deliverer {
  // A settlement has the status of a row that the outbox gave.
  const delivering = new Delivering(options as unknown as DelivererOptions<string>);
  delivering.wake();
  return delivering;
}

class Delivering implements Deliverer {
  readonly #outbox: Outbox<string>;
  readonly #settle: DelivererOptions<string>["settle"];
  readonly #clock: Clock;
  readonly #bodyAsSent: NonNullable<DelivererOptions<string>["bodyAsSent"]>;
  readonly #log: DeliveryLog | undefined;
  readonly #random: () => number;
  readonly #lookup: Lookup;
  readonly #wallNow: () => EpochMs;
  #settings: DeliverySettings;
  #keys: SigningKeys;

  readonly #slots = new Slots();
  readonly #running = new Map<AbortController, Promise<void>>();
  #stopped = false;
  /** Rows whose settlement could not be stored, and until when they stay back. */
  readonly #heldUntil = new Map<string, EpochMs>();
  #storeFailures = 0;
  #pausedUntil: EpochMs = 0;
  #readAgainAt: EpochMs = 0;
  #timer: Cancel | null = null;
  #turn: NodeJS.Immediate | null = null;
  /** Principals who try a receiver now. */
  readonly #testing = new Set<string>();

  constructor(options: DelivererOptions<string>) {
    this.#outbox = options.outbox;
    this.#settle = options.settle;
    this.#clock = options.clock;
    this.#bodyAsSent = options.bodyAsSent ?? (({ body }) => body);
    this.#log = options.log;
    this.#random = options.random ?? Math.random;
    this.#lookup = options.lookup ?? sharedLookup();
    this.#wallNow = options.wallNow ?? Date.now;
    this.#settings = options.settings;
    this.#keys = keysOf(options.settings);
  }

  wake(): void {
    if (this.#stopped || this.#turn !== null) return;
    this.#turn = setImmediate(() => {
      this.#turn = null;
      this.#startDue();
    });
  }

  async test(url: string, principal: string, body: string): Promise<TestOutcome | null> {
    if (this.#stopped || this.#testing.size >= MAX_TESTS || this.#testing.has(principal)) return null;
    this.#testing.add(principal);
    const now = this.#clock.now();
    const deliveryId = `msg_test-${randomUUID()}`;
    const row = { deliveryId, allocationId: null, status: "test", url, body, createdAt: now, principal } as const;
    const ending = new AbortController();
    const trying = this.#attempt({ ...row, attempts: 0, nextAttemptAt: now }, ending);
    this.#running.set(
      ending,
      trying.then(() => undefined),
    );
    try {
      const came = await trying;
      const isSigned = this.#keysFor(principal).length > 0;
      const facts = { deliveryId, isSigned, tookMs: this.#clock.now() - now };
      if (came === null) return { ...facts, httpStatus: null, error: STOPPED.message };
      return { ...facts, httpStatus: came.httpStatus, error: came.error };
    } finally {
      this.#running.delete(ending);
      this.#testing.delete(principal);
    }
  }

  reconfigure(settings: DeliverySettings): void {
    this.#keys = keysOf(settings);
    this.#settings = settings;
    this.wake();
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#timer?.();
    for (const ending of this.#running.keys()) ending.abort(STOPPED);
    if (this.#turn !== null) clearImmediate(this.#turn);
    let cancel: Cancel = () => {};
    const grace = new Promise<void>((resolve) => {
      cancel = this.#clock.after(STOP_GRACE_MS, resolve);
    });
    await Promise.race([Promise.all(this.#running.values()), grace]);
    cancel();
  }

  #startDue(): void {
    this.#timer?.();
    this.#timer = null;
    const now = this.#clock.now();
    const notBefore = Math.max(this.#pausedUntil, this.#readAgainAt);
    let lookAgainAt: EpochMs | null = notBefore;
    if (now >= notBefore) {
      try {
        this.#readAndStart(now);
        lookAgainAt = this.#nextLook(now);
      } catch (error) {
        this.#pause(now);
        lookAgainAt = this.#pausedUntil;
        this.#log?.warn({ err: error }, "the outbox cannot be read");
      }
    }
    if (lookAgainAt !== null) this.#timer = this.#clock.after(lookAgainAt - now, () => this.#startDue());
  }

  #readAndStart(now: EpochMs): void {
    for (const [deliveryId, until] of this.#heldUntil) if (until <= now) this.#heldUntil.delete(deliveryId);
    const limits = {
      overall: this.#storeFailures > 0 ? 1 : this.#settings.concurrency,
      perReceiver: this.#settings.perHostConcurrency,
    };
    for (const rows of READ_ROWS) {
      if (this.#slots.taken >= limits.overall) return;
      const due = this.#outbox.due(now, rows);
      for (const delivery of this.#slots.take(due, limits, (row) => this.#heldUntil.has(row.deliveryId))) {
        this.#start(delivery);
      }
      if (rows > READ_ROWS[0]) this.#readAgainAt = now + Math.ceil(due.length * READ_PAUSE_MS_PER_ROW);
      if (due.length < rows) return;
    }
  }

  /** `null`: nothing will fall due by itself, or the end of an attempt comes first. */
  #nextLook(now: EpochMs): EpochMs | null {
    if (this.#slots.taken >= this.#settings.concurrency) return null;
    const nextDueAt = this.#outbox.nextDueAt();
    if (nextDueAt === null) return null;
    // A row in flight or waiting is due too, and hides when the next one will be.
    return nextDueAt > now ? nextDueAt : now + RECHECK_MS;
  }

  #start(delivery: PendingDelivery<string>): void {
    const ending = new AbortController();
    const running = this.#deliver(delivery, ending).then((answered) => {
      this.#running.delete(ending);
      this.#slots.release(delivery, answered);
      this.wake();
    });
    this.#running.set(ending, running);
  }

  /** @returns whether the receiver answered anything. Never rejects. */
  async #deliver(delivery: PendingDelivery<string>, ending: AbortController): Promise<boolean> {
    // By the names of `GET /gpu/webhooks/deliveries`, so that what is found in the log can be asked for.
    const fields = {
      delivery_id: delivery.deliveryId,
      ...(delivery.taskId === undefined ? { allocation_id: delivery.allocationId } : { task_id: delivery.taskId }),
      // The rest of the URL may hold a receiver's secrets.
      receiver: receiverOf(delivery.url),
    };
    try {
      const settlement = await this.#attempt({ ...delivery, body: this.#bodyAsSent(delivery) }, ending);
      if (settlement === null) return false;
      await this.#settle(settlement);
      this.#storeFailures = 0;
      this.#tell(settlement, { ...fields, status: delivery.status, attempts: delivery.attempts + 1 });
      return settlement.httpStatus !== null;
    } catch (error) {
      const now = this.#clock.now();
      this.#pause(now);
      if (this.#heldUntil.size < MAX_HELD_ROWS) this.#heldUntil.set(delivery.deliveryId, now + HELD_ROW_MS);
      this.#log?.warn({ ...fields, err: error }, "what came of a webhook was not stored; it will be sent again");
      return true;
    }
  }

  #attempt(
    delivery: Parameters<typeof attempt>[0],
    ending: AbortController,
  ): Promise<DeliverySettlement<string> | null> {
    const { timeoutMs, giveUpAfterMs, allowedHosts } = this.#settings;
    const context = {
      clock: this.#clock,
      random: this.#random,
      lookup: this.#lookup,
      wallNow: this.#wallNow,
      keys: this.#keysFor(delivery.principal),
      timeoutMs,
      giveUpAfterMs,
      allowedHosts,
    };
    return attempt(delivery, context, ending);
  }

  #keysFor(principal: string | null): readonly Buffer[] {
    return this.#keys.byPrincipal.get(principal ?? "") ?? this.#keys.common;
  }

  #pause(now: EpochMs): void {
    // What fails together, in one pause, lengthens the next one only once.
    if (now < this.#pausedUntil) return;
    const pauseMs = Math.min(FIRST_STORE_PAUSE_MS * 2 ** this.#storeFailures, MAX_STORE_PAUSE_MS);
    this.#storeFailures++;
    this.#pausedUntil = now + pauseMs;
  }

  #tell(settlement: DeliverySettlement<string>, fields: object): void {
    const { httpStatus, error, nextAttemptAt, outcome } = settlement;
    const answer = { ...fields, http_status: httpStatus };
    if (outcome === "delivered") this.#log?.info(answer, "webhook delivered");
    else if (nextAttemptAt === null) this.#log?.warn({ ...answer, error }, "webhook given up");
    else {
      const next = { next_attempt_at: new Date(nextAttemptAt).toISOString() };
      this.#log?.info({ ...answer, error, ...next }, "webhook failed; it is sent again");
    }
  }
}

interface SigningKeys {
  readonly common: readonly Buffer[];
  readonly byPrincipal: ReadonlyMap<string, readonly Buffer[]>;
}

function keysOf({ secrets, secretsByPrincipal }: DeliverySettings): SigningKeys {
  const own = Object.entries(secretsByPrincipal).map(([name, theirs]) => [name, theirs.map(signingKey)] as const);
  return { common: secrets.map(signingKey), byPrincipal: new Map(own) };
}
