/** What a history tells of each allocation, whoever saw it: a client in an answer or a webhook, or we on the disk. */
import type {
  AnswerSeen,
  Ask,
  Call,
  Delivery,
  History,
  LeaseSeen,
  OutcomeSeen,
  Status,
  SurvivingRecord,
} from "./history.ts";

/** The allocation was in this status at some instant from `from` to `to`. */
export interface Sighting {
  readonly from: number;
  readonly to: number;
  readonly status: Status;
  /** `null` when it holds nothing, or when this sighting does not tell. */
  readonly lease: LeaseSeen | null;
  /** `null` when it has not ended, or when this sighting does not tell. */
  readonly outcome: OutcomeSeen | null;
  /** For people. */
  readonly where: string;
}

export interface Known {
  readonly id: string;
  readonly ask: Ask;
  /** It was submitted not before. */
  readonly bornAt: number;
  /** It was submitted by then; `Infinity` when nobody was told. */
  readonly submittedBy: number;
  /** In order of `to`. */
  readonly sightings: readonly Sighting[];
  /** No client asked for its end before; `Infinity` when none did. */
  readonly endAskedAt: number;
}

export interface Wish {
  readonly ask: Ask;
  readonly key: string | null;
  readonly attempts: readonly Call[];
  /** What it was seen to have led to: answered, or found on the disk. */
  readonly ids: ReadonlySet<string>;
}

export interface Knowledge {
  readonly allocations: ReadonlyMap<string, Known>;
  /** By mark. */
  readonly wishes: ReadonlyMap<string, Wish>;
  /** Records on the disk that no wish of a client explains. */
  readonly strangers: readonly string[];
}

interface GatheredWish extends Wish {
  readonly attempts: Call[];
  readonly ids: Set<string>;
}

export function knowledgeOf(history: History): Knowledge {
  const gathering = new Gathering(history);
  return gathering.finish();
}

class Gathering {
  readonly #history: History;
  readonly #wishes = new Map<string, GatheredWish>();
  readonly #wishOf = new Map<string, GatheredWish>();
  readonly #seen = new Map<string, Sighting[]>();
  /** By service: when which id was known. */
  readonly #known = new Map<string, { readonly id: string; readonly at: number }[]>();
  readonly #strangers: string[] = [];

  constructor(history: History) {
    this.#history = history;
    const { calls, survivors, deliveries } = history;
    // Ids first: calls that name a service are about ids that other calls told of.
    for (const call of calls) this.#learnWish(call);
    for (const { records } of survivors) for (const record of records) this.#learnSurvivor(record);
    for (const call of calls) this.#addCall(call);
    for (const [kill, { records, readAt }] of survivors.entries()) {
      const where = `on disk after kill ${kill + 1}`;
      for (const { id, status, lease, outcome } of records) {
        this.#see(id, { from: readAt, to: readAt, status, lease, outcome, where });
      }
    }
    for (const delivery of deliveries) this.#addDelivery(delivery);
  }

  #learnWish(call: Call): void {
    const { action, answer } = call;
    if (action.what !== "allocate") return;
    const { ask, key } = action;
    const wish = this.#wishes.get(ask.mark) ?? { ask, key, attempts: [], ids: new Set() };
    this.#wishes.set(ask.mark, wish);
    wish.attempts.push(call);
    if (answer === null || (answer.status !== 200 && answer.status !== 202)) return;
    const id = String(answer.body.id);
    this.#ledTo(wish, id);
    const known = this.#known.get(ask.service) ?? [];
    this.#known.set(ask.service, known);
    known.push({ id, at: answer.at });
  }

  #learnSurvivor({ id, mark }: SurvivingRecord): void {
    const wish = this.#wishes.get(mark);
    if (wish !== undefined) this.#ledTo(wish, id);
    else this.#strangers.push(id);
  }

  #ledTo(wish: GatheredWish, id: string): void {
    wish.ids.add(id);
    this.#wishOf.set(id, wish);
  }

  #see(id: string, sighting: Sighting): void {
    const seen = this.#seen.get(id);
    if (seen === undefined) this.#seen.set(id, [sighting]);
    else seen.push(sighting);
  }

  #addCall({ client, action, answer, invokedAt: from }: Call): void {
    if (answer === null) return;
    const { at: to, status, body } = answer;
    const where = `${client}: ${action.what} ${status}`;
    const see = (id: string, as: Status, lease: LeaseSeen | null = null, outcome: OutcomeSeen | null = null) =>
      this.#see(id, { from, to, status: as, lease, outcome, where });
    const ok = status === 200;
    switch (action.what) {
      case "allocate":
        if (ok) see(body.id, "leased", leaseOf(body));
        else if (status === 202) see(body.id, "queued");
        // Asked again under its key: what it led to has ended.
        else if (status === 409) for (const id of this.#wishes.get(action.ask.mark)?.ids ?? []) see(id, "ended");
        return;
      case "release":
        if (ok) see(action.id, "ended");
        return;
      case "release-service":
        if (ok) for (const id of this.#knownBefore(from, action.service)) see(id, "ended");
        return;
      case "renew":
        if (ok) see(action.id, body.status, leaseOf(body));
        else if (status === 409) see(action.id, "ended");
        return;
      case "read":
        if (ok) see(action.id, body.status, leaseOf(body), outcomeOf(body));
        return;
      case "list":
        if (ok) this.#addList(answer, from, where);
        return;
      default:
        action satisfies never;
    }
  }

  *#knownBefore(instant: number, service?: string): Generator<string> {
    const lists = service === undefined ? this.#known.values() : [this.#known.get(service) ?? []];
    for (const known of lists) for (const { id, at } of known) if (at < instant) yield id;
  }

  #addList({ body, at: to }: AnswerSeen, from: number, where: string): void {
    const listed = new Set<string>();
    const see = (id: string, status: Status, lease: LeaseSeen | null) => {
      listed.add(id);
      this.#see(id, { from, to, status, lease, outcome: null, where });
    };
    for (const record of body.allocations) see(record.id, record.status, leaseOf(record));
    for (const { id } of body.queue) see(id, "queued", null);
    for (const id of this.#knownBefore(from)) if (!listed.has(id)) see(id, "ended", null);
  }

  /** It had been granted by the time that the webhook came; it may have ended since. */
  #addDelivery({ allocationId: id, status, lease, at: to }: Delivery): void {
    if (status !== "allocated") return;
    const from = this.#bornAt(this.#wishOf.get(id));
    this.#see(id, { from, to, status: "offered", lease, outcome: null, where: "webhook" });
  }

  #bornAt(wish: Wish | undefined): number {
    return Math.min(...(wish?.attempts ?? []).map(({ invokedAt }) => invokedAt));
  }

  finish(): Knowledge {
    const allocations = new Map<string, Known>();
    const enders = this.#enders();
    for (const [id, seen] of this.#seen) {
      const wish = this.#wishOf.get(id);
      if (wish === undefined) continue;
      const bornAt = this.#bornAt(wish);
      const about = [...(enders.get(id) ?? []), ...(enders.get(wish.ask.service) ?? [])];
      allocations.set(id, {
        id,
        ask: wish.ask,
        bornAt,
        submittedBy: Math.min(...wish.attempts.map(({ answer }) => answer?.at ?? Number.POSITIVE_INFINITY)),
        sightings: seen.toSorted((a, b) => a.to - b.to),
        endAskedAt: Math.min(...about.filter(({ to }) => to >= bornAt).map(({ from }) => from)),
      });
    }
    return { allocations, wishes: this.#wishes, strangers: this.#strangers };
  }

  /** When which id or service was asked to be ended. */
  #enders(): Map<string, { from: number; to: number }[]> {
    const enders = new Map<string, { from: number; to: number }[]>();
    for (const { action, invokedAt: from, answer } of this.#history.calls) {
      const about = action.what === "release" ? action.id : action.what === "release-service" ? action.service : null;
      if (about === null) continue;
      // What a killed daemon did not do, nobody does any more.
      const killedAt = this.#history.survivors.find(({ readAt }) => readAt > from)?.readAt;
      const to = answer?.at ?? killedAt ?? Number.POSITIVE_INFINITY;
      enders.set(about, [...(enders.get(about) ?? []), { from, to }]);
    }
    return enders;
  }
}

/** @param body an allocation as the API and the webhooks show it. */
// biome-ignore lint/suspicious/noExplicitAny: an answer.
export function leaseOf(body: any): LeaseSeen | null {
  if (body.gpu_uuids === undefined) return null;
  const expiresAt = body.expires_at === undefined ? null : Date.parse(body.expires_at);
  return { gpus: body.gpu_uuids, token: body.fencing_token, expiresAt };
}

// biome-ignore lint/suspicious/noExplicitAny: an answer.
function outcomeOf(body: any): OutcomeSeen | null {
  return body.ended_at === undefined ? null : { at: Date.parse(body.ended_at), reason: body.end_reason };
}
