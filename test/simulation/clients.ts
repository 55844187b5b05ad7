/** Everybody who asks something of the simulated daemon, and keeps what he is answered. */

import type { Allocation } from "../../src/core/model/allocation.ts";
import { DomainError } from "../../src/core/model/errors.ts";
import type { Actor, AllocationId } from "../../src/core/model/ids.ts";
import type { Answer } from "../../src/http/exchange/answers.ts";
import type { Call } from "../../src/http/exchange/endpoint.ts";
import type { Repeatable } from "../../src/http/exchange/idempotency.ts";
import { HttpError } from "../../src/http/exchange/problems.ts";
import type { IdempotencyKey } from "../../src/ports/store.ts";
import type { PendingDelivery } from "../../src/ports/webhooks.ts";
import type { Reply } from "../../src/scheduler/scheduler.ts";
import { Acknowledged } from "./acknowledged.ts";
import type { Books, Causes } from "./books.ts";
import { ADMIN, type Allocate, type ClientOp, type Pick, PRINCIPALS, type TokenGiven, type Who } from "./ops.ts";
import type { SimulatedDaemon } from "./simulated-daemon.ts";
import { BUSY_PID, type SimulatedDriver } from "./simulated-driver.ts";
import type { Tally } from "./tally.ts";
import { breach } from "./violation.ts";
import type { VirtualTime } from "./virtual-time.ts";

/** Ids that clients remember, ended ones among them. */
const KNOWN = 24;
/** Keyed calls that may be sent again. */
const CALLS = 8;
const WAITS = 8;
const ATTEMPTS = 6;
/** Webhooks that an admin looks through for one to send again. */
const LISTED = 8;
const NOBODY = `a-${"0".repeat(26)}`;
const NUDGE = "done by six?";

const NOTHING: Answer = { status: 200, type: null, body: "", headers: [] };

interface Wait {
  readonly id: AllocationId;
  readonly byOwner: boolean;
  /** On the daemon's clock. */
  readonly until: number;
  readonly gone: AbortController;
}

/** A call with a key, as it can be sent again. */
type KeyedCall =
  | { readonly op: "allocate"; readonly principal: string; readonly key: string; readonly allocate: Allocate }
  | {
      readonly op: "release" | "renew";
      readonly principal: string;
      readonly admin: boolean;
      readonly key: string;
      readonly id: AllocationId | null;
      readonly service: string | null;
      readonly token: number | null;
    };

export interface ClientsParts {
  readonly daemon: SimulatedDaemon;
  readonly driver: SimulatedDriver;
  readonly time: VirtualTime;
  readonly causes: Causes;
  readonly tally: Tally;
  readonly books: () => Books;
}

export class Clients {
  readonly #parts: ClientsParts;
  acknowledged = new Acknowledged();
  /** Principals whose keys the operator has taken away: nobody hears them. */
  readonly #silenced = new Set<string>();
  #known: AllocationId[] = [];
  #calls: KeyedCall[] = [];
  #waits: Wait[] = [];
  /** Webhooks on their way. */
  #attempts: PendingDelivery[] = [];
  /** Answers are lost on the way. */
  deaf = false;
  answered = 0;
  refused = 0;

  constructor(parts: ClientsParts) {
    this.#parts = parts;
  }

  /** Sends what `op` says; what comes of it is there when everything has settled. */
  send(op: ClientOp): void {
    this.#parts.tally.count("asked", op.op);
    switch (op.op) {
      case "allocate":
        this.#allocate(op, op.key === null ? null : `${op.key}`);
        return;
      case "release":
        this.#onOne(op.pick, op.who, (id, actor) => this.#release(id, null, actor, this.#token(id, op.token), op.key));
        return;
      case "release service":
        this.#release(null, op.service, actorOf(op.principal), null, op.key);
        return;
      case "renew":
        this.#onOne(op.pick, op.who, (id, actor) => this.#renew(id, actor, this.#token(id, op.token), op.key));
        return;
      case "extend":
        this.#onOne(op.pick, op.who, (id, actor) => this.#extend(id, actor, this.#token(id, op.token), op));
        return;
      case "nudge":
        this.#onOne(op.pick, op.who, (id, actor) => {
          this.#parts.causes.nudges.add(`${id} by ${actor.principal}`);
          this.#track(this.#parts.daemon.scheduler.nudge(id, NUDGE, actor), () => undefined);
        });
        return;
      case "read":
        this.#onOne(op.pick, op.who, (id, actor) => this.#read(id, actor));
        return;
      case "wait":
        this.#onOne(op.pick, op.who, (id, actor) => this.#wait(id, actor, op.waitMs));
        return;
      case "leave":
        at(this.#waits, op.n)?.gone.abort();
        return;
      case "settle":
        this.#settle(op);
        return;
      case "again":
        this.#again(op.n, op.body === "other");
        return;
      case "revoke":
        this.#onOne(op.pick, "admin", (id, actor) => this.#revoke(id, actor));
        return;
      case "process gone":
        this.#onOne(op.pick, "admin", (id) => {
          this.#parts.causes.processesGone.add(id);
          this.#track(this.#parts.daemon.scheduler.processGone(id), () => undefined);
        });
        return;
      case "redeliver":
        this.#redeliver(op.n);
        return;
      case "govern": {
        const uuid = this.#parts.driver.uuids[op.gpu] ?? "GPU-nowhere";
        this.#parts.causes.adminWords.add(`${op.word} ${uuid}`);
        this.#parts.tally.count("admin word", op.word);
        this.#track(this.#parts.daemon.scheduler.govern(op.word, uuid, "because", actorOf(ADMIN)), () => undefined);
        return;
      }
      case "adopt":
        this.#adopt(op);
        return;
      case "drain": {
        const uuid = op.gpu === null ? null : (this.#parts.driver.uuids[op.gpu] ?? "GPU-nowhere");
        if (uuid === null) this.#parts.causes.hostWords.add("drain");
        else this.#parts.causes.adminWords.add(`drain ${uuid}`);
        const { scheduler } = this.#parts.daemon;
        this.#track(scheduler.drain(uuid, { ms: op.leaveMs }, "because", actorOf(ADMIN)), () => undefined);
        return;
      }
      case "undrain":
        this.#parts.causes.hostWords.add("undrain");
        this.#track(this.#parts.daemon.scheduler.undrain("because", actorOf(ADMIN)), () => undefined);
        return;
      case "book": {
        const { scheduler } = this.#parts.daemon;
        if (this.#isSilenced(op.principal)) return;
        const from = this.#parts.daemon.now + op.inMs;
        const ask = { principal: op.for, serviceName: op.service, gpus: op.gpus, from, to: from + op.lengthMs };
        this.#parts.causes.bookings.add(`${op.for ?? op.principal} ${from + op.lengthMs}`);
        this.#track(scheduler.book(ask, actorOf(op.principal)), () => undefined);
        return;
      }
      case "cancel booking": {
        const { scheduler } = this.#parts.daemon;
        if (this.#isSilenced(op.principal)) return;
        const id = at(scheduler.state.bookings, op.n)?.id ?? "reservation-nowhere";
        this.#parts.causes.bookings.add(id);
        this.#track(scheduler.cancelBooking(id, actorOf(op.principal)), () => undefined);
        return;
      }
      default:
        op satisfies never;
    }
  }

  /** A webhook leaves; its outcome comes later, or never. */
  attempt(n: number): void {
    if (this.#attempts.length >= ATTEMPTS) return;
    const { daemon } = this.#parts;
    const due = daemon.disk.store.due(daemon.now, ATTEMPTS + 1);
    const free = due.filter(({ deliveryId }) => !this.#attempts.some((other) => other.deliveryId === deliveryId));
    const delivery = at(free, n);
    if (delivery !== undefined) this.#attempts.push(delivery);
  }

  /** A principal's keys are taken away, or given back. */
  setKeys(principal: string, valid: boolean): void {
    if (valid) this.#silenced.delete(principal);
    else this.#silenced.add(principal);
  }

  /** Causes that last: who waits may claim at any time, and is alive until then. */
  renewCauses(): void {
    const { causes } = this.#parts;
    for (const { id, byOwner } of this.#waits) if (byOwner) causes.claims.add(id);
  }

  /** How long the clients of those who wait are alive, as their open waits say. */
  noteWaits(): void {
    const books = this.#parts.books();
    for (const { id, byOwner, until } of this.#waits) {
      const sign = books.signs.get(id);
      if (byOwner && sign !== undefined && sign < until) books.signs.set(id, until);
    }
  }

  /** The daemon hangs up on everybody, as it does before it stops. */
  hangUpOnAll(): void {
    for (const { gone } of this.#waits) gone.abort();
  }

  /** Nobody answers any more what was asked before. */
  daemonGone(): void {
    this.#waits = [];
    this.#attempts = [];
    this.deaf = false;
  }

  #allocate(op: Allocate, key: string | null): void {
    const { daemon, causes } = this.#parts;
    if (this.#isSilenced(op.principal)) return;
    const actor = actorOf(op.principal);
    const { ask } = op;
    const first = async (kept: IdempotencyKey | null) => {
      const { allocation } = await daemon.scheduler.allocate(ask, actor, kept);
      const { id } = allocation.request;
      if (!op.hangsUp) return this.#learn(allocation, op.principal);
      if (allocation.status === "queued" || this.deaf) return;
      // Its answer could not be written: it may not know of its lease.
      causes.hangUps.add(id);
      this.#parts.tally.count("asked", "hang up");
      this.#track(daemon.scheduler.hangUp(id), () => undefined);
    };
    if (key === null) {
      this.#track(first(null), () => undefined);
      return;
    }
    // In the request itself, so that the journal tells under which key it came.
    const body = { ...ask, workloadData: { ...ask.workloadData, idempotencyKey: `${op.principal}/${key}` } };
    this.#remember({ op: "allocate", principal: op.principal, key, allocate: { ...op, ask: body } });
    this.#keyed("allocate", actor, key, "", body, {
      first: async (kept) => {
        const { allocation } = await daemon.scheduler.allocate(body, actor, kept);
        this.#learn(allocation, op.principal);
        return NOTHING;
      },
      again: async ([id = ""]) => {
        const asked = this.#parts.books().keys.get(body.workloadData.idempotencyKey);
        if (asked !== undefined && asked.id !== id) breach(9, `${key} is ${asked.id}, and was answered with ${id}`);
        return this.#readAgain(id, actor);
      },
    });
  }

  #release(
    id: AllocationId | null,
    service: string | null,
    actor: Actor,
    fencingToken: number | null,
    key: number | null,
    sentAgain = false,
  ): void {
    if (this.#isSilenced(actor.principal)) return;
    const { daemon, causes } = this.#parts;
    const { principal, admin } = actor;
    const release = async (kept: IdempotencyKey | null) => {
      causes.releases.push({ id, service, principal, admin });
      const ended = await daemon.scheduler.release({ id, serviceName: service, fencingToken }, actor, kept);
      for (const record of ended) {
        demandToken(record, fencingToken);
        this.#learn(record, principal);
      }
      return NOTHING;
    };
    if (key === null) {
      this.#track(release(null), () => undefined);
      return;
    }
    const name = `${key}`;
    if (!sentAgain) this.#remember({ op: "release", principal, admin, key: name, id, service, token: fencingToken });
    this.#keyed("release", actor, name, "", { id, service, fencingToken }, { first: release, again: () => NOTHING });
  }

  #renew(id: AllocationId, actor: Actor, token: number | null, key: number | null, sentAgain = false): void {
    const { daemon, causes } = this.#parts;
    const { principal, admin } = actor;
    const renew = async (kept: IdempotencyKey | null) => {
      if (admin || this.#ownerOf(id) === principal) causes.renewals.add(id);
      const { allocation } = await daemon.scheduler.renew(id, token, actor, kept);
      demandToken(allocation, token);
      this.#learn(allocation, principal);
      return NOTHING;
    };
    if (key === null) {
      this.#track(renew(null), () => undefined);
      return;
    }
    const name = `${key}`;
    if (!sentAgain) this.#remember({ op: "renew", principal, admin, key: name, id, service: null, token });
    this.#keyed("renew", actor, name, id, { token }, { first: renew, again: () => this.#readAgain(id, actor) });
  }

  #extend(
    id: AllocationId,
    actor: Actor,
    fencingToken: number | null,
    { ttlMs, maxDurationMs }: Extract<ClientOp, { op: "extend" }>,
  ): void {
    if (actor.admin || this.#ownerOf(id) === actor.principal) this.#parts.causes.extensions.add(id);
    const to = { ttlMs, maxDurationMs, fencingToken };
    this.#track(this.#parts.daemon.scheduler.extend(id, to, actor), ({ allocation }) => {
      demandToken(allocation, fencingToken);
      this.#learn(allocation, actor.principal);
    });
  }

  #read(id: AllocationId, actor: Actor): void {
    if (this.#ownerOf(id) === actor.principal) this.#parts.causes.claims.add(id);
    this.#track(this.#parts.daemon.scheduler.read(id, actor), ({ allocation }: Reply) =>
      this.#learn(allocation, actor.principal),
    );
  }

  async #readAgain(id: AllocationId, actor: Actor): Promise<Answer> {
    if (this.#ownerOf(id) === actor.principal) this.#parts.causes.claims.add(id);
    const { allocation } = await this.#parts.daemon.scheduler.read(id, actor);
    this.#learn(allocation, actor.principal);
    return NOTHING;
  }

  #wait(id: AllocationId, actor: Actor, waitMs: number): void {
    if (this.#waits.length >= WAITS) return;
    const { daemon, causes, tally } = this.#parts;
    const gone = new AbortController();
    const byOwner = this.#ownerOf(id) === actor.principal;
    const wait: Wait = { id, byOwner, until: daemon.now + waitMs, gone };
    this.#waits.push(wait);
    if (byOwner) causes.claims.add(id);
    const over = (how: string) => {
      this.#waits = this.#waits.filter((other) => other !== wait);
      tally.count("wait", how);
      // Alive no longer than now, unless another of its waits goes on.
      const { signs } = this.#parts.books();
      const sign = signs.get(id);
      if (byOwner && sign !== undefined) signs.set(id, Math.min(sign, daemon.now));
    };
    this.#track(
      daemon.scheduler.wait(id, actor, waitMs, gone.signal),
      ({ allocation }) => {
        over(gone.signal.aborted ? "left" : allocation.status === "queued" ? "in vain" : allocation.status);
        if (!gone.signal.aborted) this.#learn(allocation, actor.principal);
      },
      () => over("refused"),
    );
  }

  #settle({ n, outcome, retryMs }: Extract<ClientOp, { op: "settle" }>): void {
    const delivery = at(this.#attempts, n);
    if (delivery === undefined) return;
    const { daemon, causes, tally } = this.#parts;
    const { deliveryId, allocationId, status } = delivery;
    this.#attempts = this.#attempts.filter((other) => other !== delivery);
    const now = daemon.now;
    causes.settled.set(deliveryId, outcome);
    const id = allocationId ?? "";
    if (outcome === "delivered" && status === "allocated") causes.claims.add(id);
    const late = status === "allocated" && this.#parts.books().live.get(id)?.status !== "offered";
    tally.count("settlement", late ? `${outcome}, too late` : outcome);
    const nextAttemptAt = outcome === "retry" ? now + retryMs : null;
    const [httpStatus, error] = outcome === "delivered" ? [204, null] : [503, "the receiver is unwell"];
    const settlement = { deliveryId, allocationId, status, at: now, outcome, nextAttemptAt, httpStatus, error };
    this.#track(daemon.scheduler.settle(settlement), () => undefined);
  }

  #again(n: number, otherBody: boolean): void {
    const call = at(this.#calls, n);
    if (call === undefined) return;
    this.#parts.tally.count("again", otherBody ? "other body" : "same body");
    if (call.op === "allocate") {
      const { ask } = call.allocate;
      const other = { ...ask, preemptible: !ask.preemptible };
      this.#allocate({ ...call.allocate, ask: otherBody ? other : ask }, call.key);
      return;
    }
    const { id, service, key, token } = call;
    const actor: Actor = { principal: call.principal, admin: call.admin };
    const given = otherBody ? (token ?? 0) + 1 : token;
    if (call.op === "release") this.#release(id, service, actor, given, Number(key), true);
    else if (id !== null) this.#renew(id, actor, given, Number(key), true);
  }

  /** An admin has one of the latest webhooks sent again, whatever came of it. */
  #redeliver(n: number): void {
    const { daemon, causes } = this.#parts;
    const latest = daemon.scheduler.listDeliveries({ state: null, allocationId: null, before: null, limit: LISTED });
    const deliveryId = at(latest, n)?.deliveryId ?? "msg_nowhere";
    causes.redelivered.add(deliveryId);
    this.#track(daemon.scheduler.redeliver(deliveryId, null, { principal: "admin", admin: true }), () => undefined);
  }

  #adopt({ gpu, service, principal, named, ttlMs }: Extract<ClientOp, { op: "adopt" }>): void {
    const { driver, causes, daemon } = this.#parts;
    const uuid = driver.uuids[gpu] ?? "GPU-nowhere";
    causes.adoptions.add(uuid);
    const pid = named ? BUSY_PID : null;
    const ask = { serviceName: service, principal, reason: "because", pid, ttlMs, maxDurationMs: null };
    this.#track(daemon.scheduler.adopt(uuid, ask, actorOf(ADMIN)), ({ allocation }) => this.#learn(allocation, ADMIN));
  }

  #revoke(id: AllocationId, actor: Actor): void {
    this.#parts.causes.revokes.add(id);
    this.#track(this.#parts.daemon.scheduler.revoke(id, "because", actor), (record) =>
      this.#learn(record, actor.principal),
    );
  }

  #keyed(operation: string, actor: Actor, key: string, id: string, body: unknown, repeatable: Repeatable): void {
    const { idempotency } = this.#parts.daemon.life;
    const call: Call = {
      actor,
      id,
      rest: "",
      url: "",
      port: null,
      body,
      role: actor.admin ? "admin" : "allocate",
      keyed: true,
      delegate: false,
      uid: null,
      accept: undefined,
      acceptEncoding: undefined,
      prefer: undefined,
      idempotencyKey: key,
      lastEventId: undefined,
      tenant: undefined,
      client: null,
      hold: () => null,
    };
    this.#parts.tally.count("keyed", operation);
    this.#track(Promise.resolve(idempotency.answer(operation, call, repeatable)), ({ headers }) => {
      if (headers.length > 0) this.#parts.tally.count("keyed", "replayed");
    });
  }

  #remember(call: KeyedCall): void {
    this.#calls = [...this.#calls, call].slice(-CALLS);
  }

  /** Somebody was answered with a record. */
  #learn(record: Allocation, principal: string): void {
    if (this.deaf) return;
    const { daemon, time } = this.#parts;
    const { id } = record.request;
    const now = daemon.now;
    const byOwner = record.request.principal === principal;
    // The same value again is no news.
    if (this.acknowledged.get(id) !== record) {
      this.acknowledged.take(record, daemon.disk.view.allocation(id), byOwner, now, time.trueMs);
    }
    const books = this.#parts.books();
    if (byOwner && record.status === "queued" && books.live.get(id)?.status === "queued") books.signs.set(id, now);
    if (!this.#known.includes(id)) this.#known = [...this.#known, id].slice(-KNOWN);
  }

  #track<T>(promise: Promise<T>, done: (value: T) => void, refused: () => void = () => undefined): void {
    promise
      .then(
        (value) => {
          this.answered += 1;
          done(value);
        },
        (error: unknown) => {
          this.refused += 1;
          refused();
          this.#note(error);
        },
      )
      .catch((error: unknown) => {
        this.broken ??= error;
      });
  }

  /** What a client found broken in its answer. */
  broken: unknown = null;

  #note(error: unknown): void {
    if (!(error instanceof DomainError || error instanceof HttpError)) throw error;
    this.#parts.tally.count("refusal", error.code);
  }

  #isSilenced(principal: string): boolean {
    const silenced = this.#silenced.has(principal);
    if (silenced) this.#parts.tally.count("refusal", "no such key");
    return silenced;
  }

  #onOne(pick: Pick, who: Who, act: (id: AllocationId, actor: Actor) => void): void {
    const live = pick.among === "live" ? [...this.#parts.books().live.keys()] : this.#known;
    const id = pick.among === "nobody" ? NOBODY : at(live, pick.n);
    if (id === undefined) return;
    const owner = this.#ownerOf(id) ?? PRINCIPALS[0];
    const stranger = PRINCIPALS.find((other) => other !== owner) as string;
    const principal = who === "owner" ? owner : who === "admin" ? ADMIN : stranger;
    if (!this.#isSilenced(principal)) act(id, actorOf(principal));
  }

  #ownerOf(id: AllocationId): string | undefined {
    return (this.#parts.books().live.get(id) ?? this.acknowledged.get(id))?.request.principal;
  }

  #token(id: AllocationId, given: TokenGiven): number | null {
    if (given === "none") return null;
    const record = this.#parts.books().live.get(id) ?? this.acknowledged.get(id);
    const token = (record !== undefined && "lease" in record ? record.lease?.fencingToken : null) ?? 1;
    return given === "right" ? token : token - 1;
  }
}

/** What was done to a lease under a token was done under its own. */
function demandToken(record: Allocation, given: number | null): void {
  // A request that ended while it waited is ended again under any.
  if (given === null || (record.status === "ended" && record.lease === null)) return;
  const { id } = record.request;
  const right = record.status === "queued" ? null : record.lease?.fencingToken;
  if (right !== given) breach(4, `${id} was released or renewed under ${given}, a stale token`);
}

function actorOf(principal: string): Actor {
  return { principal, admin: principal === ADMIN };
}

function at<T>(items: readonly T[], n: number): T | undefined {
  return items[n % Math.max(1, items.length)];
}
