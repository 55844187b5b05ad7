/**
 * Holds a history against the invariants of design.md that outlive the process: 1 (no GPU in two leases), 2 (what was
 * acknowledged is there), 3 (every request ends once), 4 (fencing tokens grow), 9 (one key, one lease) and 10 (every
 * notifiable change has its outbox row). What is checked holds whatever the order was in which the daemon took calls
 * that overlap: two things are compared only if one was known to be over before the other was begun.
 */
import { type Call, type History, type OutboxRow, STATUSES, type Status, type Survivors } from "./history.ts";
import { type Knowledge, type Known, knowledgeOf, leaseOf, type Sighting } from "./knowledge.ts";

/** Deadlines are told on the daemon's clock: it and ours may differ by this much, in ms. */
const CLOCK_SLACK_MS = 100;

/** What contradicts the invariants, in words; empty when nothing does. */
export function findBreaches(history: History): string[] {
  const knowledge = knowledgeOf(history);
  const known = [...knowledge.allocations.values()];
  return [
    ...wrongAnswers(history),
    ...doubledGpus(history, known),
    ...brokenPromises(history, known),
    ...wrongEnds(history, known),
    ...shrunkenTokens(history, known),
    ...doubledWishes(knowledge),
    ...lostKeys(history, knowledge),
    ...missingWebhooks(history, known),
  ];
}

const rank = (status: Status): number => STATUSES.indexOf(status);

/** Before anything else: every call was answered as the contract says, or not at all. */
function* wrongAnswers({ calls }: History): Generator<string> {
  for (const { client, action, answer } of calls) {
    if (answer === null) continue;
    const { status, body } = answer;
    const said = status === 200 ? "200" : `${status} ${body?.code ?? ""}`.trim();
    if (!expectedAnswers({ action }).includes(said)) yield `${client} ${action.what}: ${said} is no answer to that`;
  }
}

function expectedAnswers({ action }: Pick<Call, "action">): string[] {
  switch (action.what) {
    case "allocate": {
      const refusal = action.ask.queue ? [] : ["503 no-gpu-free"];
      const replay = action.key === null ? [] : ["409 allocation-ended"];
      // Before the first reading after a start nothing is granted.
      return ["200", "202", "503 gpus-unavailable", ...refusal, ...replay];
    }
    case "renew":
      return ["200", "409 allocation-ended"];
    default:
      return ["200"];
  }
}

/** 1. */
function* doubledGpus(history: History, known: readonly Known[]): Generator<string> {
  const holds = known.flatMap(holdsOf).sort((a, b) => a.from - b.from);
  const last = new Map<string, Hold>();
  for (const hold of holds) {
    const before = last.get(hold.gpu);
    if (before !== undefined && before.to > hold.from) {
      yield `1: ${hold.gpu} was leased to ${before.id} and ${hold.id} at once`;
    }
    if (before === undefined || before.to < hold.to) last.set(hold.gpu, hold);
  }
  for (const [kill, { records }] of history.survivors.entries()) {
    const held = records.filter(({ status }) => status !== "ended");
    yield* sharedGpus(`on disk after kill ${kill + 1}`, held);
  }
  for (const { action, answer } of history.calls) {
    if (action.what !== "list" || answer?.status !== 200) continue;
    const allocations = answer.body.allocations as { readonly id: string }[];
    yield* sharedGpus(
      "in a list",
      allocations.map((body) => ({ id: body.id, lease: leaseOf(body) })),
    );
  }
}

interface Hold {
  readonly gpu: string;
  readonly id: string;
  readonly from: number;
  readonly to: number;
}

/** From when on, and until when, an allocation certainly held its GPUs: from the first who saw it to the first chance of an end. */
function holdsOf({ id, ask, sightings, endAskedAt }: Known): Hold[] {
  const held = sightings.filter(({ status, lease }) => (status === "offered" || status === "leased") && lease !== null);
  const first = held[0];
  if (first?.lease == null) return [];
  const deadline = Math.max(...held.map(({ lease }) => lease?.expiresAt ?? 0)) - performance.timeOrigin;
  const to = ask.ttlSeconds === null ? endAskedAt : Math.min(endAskedAt, deadline - CLOCK_SLACK_MS);
  return to <= first.to ? [] : first.lease.gpus.map((gpu) => ({ gpu, id, from: first.to, to }));
}

function* sharedGpus(where: string, held: readonly Pick<Survivors["records"][0], "id" | "lease">[]): Generator<string> {
  const holders = new Map<string, string>();
  for (const { id, lease } of held) {
    for (const gpu of lease?.gpus ?? []) {
      const other = holders.get(gpu);
      if (other !== undefined) yield `1: ${gpu} is ${other}'s and ${id}'s ${where}`;
      holders.set(gpu, id);
    }
  }
}

/** 2. */
function* brokenPromises(history: History, known: readonly Known[]): Generator<string> {
  for (const { id, sightings } of known) {
    yield* stepsBack(id, sightings);
    yield* changedLeases(id, sightings);
  }
  for (const [kill, { records, readAt }] of history.survivors.entries()) {
    const there = new Set(records.map(({ id }) => id));
    for (const { id, sightings } of known) {
      const first = sightings[0];
      if (first !== undefined && first.to < readAt && !there.has(id)) {
        yield `2: ${id} (${first.where}: ${first.status}) is gone after kill ${kill + 1}`;
      }
    }
  }
  yield* overtakenInLine(history, known);
}

/** A status never goes back: no client of these histories hangs up while its daemon lives, so no lease becomes an offer. */
function* stepsBack(id: string, sightings: readonly Sighting[]): Generator<string> {
  let furthest: Sighting | undefined;
  let next = 0;
  for (const sighting of sightings.toSorted((a, b) => a.from - b.from)) {
    for (let over = sightings[next]; over !== undefined && over.to < sighting.from; over = sightings[++next]) {
      if (furthest === undefined || rank(over.status) > rank(furthest.status)) furthest = over;
    }
    if (furthest !== undefined && rank(sighting.status) < rank(furthest.status)) {
      yield `2: ${id} was ${furthest.status} (${furthest.where}), and is ${sighting.status} (${sighting.where}) again`;
    }
  }
}

function* changedLeases(id: string, sightings: readonly Sighting[]): Generator<string> {
  let first: Sighting | undefined;
  for (const sighting of sightings) {
    const { lease } = sighting;
    if (lease === null) continue;
    first ??= sighting;
    if (first.lease?.token !== lease.token || first.lease.gpus.join() !== lease.gpus.join()) {
      yield `2: the lease of ${id} changed from ${JSON.stringify(first.lease)} to ${JSON.stringify(lease)} (${sighting.where})`;
    }
  }
}

/** All of these histories' requests have one priority: who was told of its place before another asked is before it. */
function* overtakenInLine({ calls }: History, known: readonly Known[]): Generator<string> {
  const byId = new Map(known.map((allocation) => [allocation.id, allocation]));
  for (const { action, answer } of calls) {
    if (action.what !== "list" || answer?.status !== 200) continue;
    let latestBorn: Known | undefined;
    for (const { id } of answer.body.queue) {
      const here = byId.get(id);
      if (here === undefined) continue;
      if (latestBorn !== undefined && latestBorn.bornAt > here.submittedBy) {
        yield `2: ${latestBorn.id} stands before ${here.id}, which was submitted first`;
      }
      if (latestBorn === undefined || here.bornAt > latestBorn.bornAt) latestBorn = here;
    }
  }
}

/** 3. */
function* wrongEnds(history: History, known: readonly Known[]): Generator<string> {
  for (const allocation of known) {
    const ends = allocation.sightings.filter(({ outcome }) => outcome !== null);
    const outcomes = new Set(ends.map(({ outcome }) => `${outcome?.reason} at ${outcome?.at}`));
    if (outcomes.size > 1) yield `3: ${allocation.id} ended more than once: ${[...outcomes].join(", ")}`;
    for (const end of ends) yield* unjustified(allocation, end);
  }
  const last = history.survivors.at(-1);
  const told = new Map<string, number>();
  for (const { type, id } of last?.journal ?? []) {
    if (type === "ended" && id !== null) told.set(id, (told.get(id) ?? 0) + 1);
  }
  for (const { id, status } of last?.records ?? []) {
    const times = told.get(id) ?? 0;
    if (times !== (status === "ended" ? 1 : 0)) yield `3: ${id} is ${status}, and the journal ends it ${times} times`;
  }
}

/** Only what its client or its TTL ended may have ended: nothing else is configured to. */
function* unjustified({ id, ask, endAskedAt, sightings }: Known, end: Sighting): Generator<string> {
  const { reason, at } = end.outcome ?? { reason: "", at: 0 };
  if (reason === "expired" && ask.ttlSeconds !== null) {
    const promised = Math.max(...sightings.map(({ lease }) => lease?.expiresAt ?? 0));
    if (at < promised) yield `3: ${id} expired ${promised - at} ms before the end that was promised`;
  } else if (reason !== "released" && reason !== "cancelled") {
    yield `3: ${id} ended as ${reason}, which nothing calls for`;
  } else if (endAskedAt > end.to) {
    yield `3: ${id} was ${reason}, and nobody had asked for it`;
  }
}

/** 4. */
function* shrunkenTokens({ survivors }: History, known: readonly Known[]): Generator<string> {
  const grants = known.flatMap(({ id, bornAt, sightings }) => {
    const seen = sightings.find(({ lease }) => lease !== null);
    if (seen?.lease == null) return [];
    const queued = sightings.filter(({ status }) => status === "queued").map(({ from }) => from);
    return [{ id, token: seen.lease.token, from: Math.max(bornAt, ...queued), to: seen.to }];
  });
  const byEnd = grants.toSorted((a, b) => a.to - b.to);
  let highest: (typeof grants)[0] | undefined;
  let next = 0;
  for (const grant of grants.toSorted((a, b) => a.from - b.from)) {
    for (let over = byEnd[next]; over !== undefined && over.to < grant.from; over = byEnd[++next]) {
      if (highest === undefined || over.token > highest.token) highest = over;
    }
    if (highest !== undefined && highest.token >= grant.token) {
      yield `4: ${grant.id} was granted after ${highest.id}, with token ${grant.token} after ${highest.token}`;
    }
  }
  const holders = new Map<number, string>();
  for (const { id, token } of grants) {
    if (holders.has(token)) yield `4: ${holders.get(token)} and ${id} have the same token ${token}`;
    holders.set(token, id);
  }
  let before = 0;
  for (const { token, id } of survivors.at(-1)?.journal ?? []) {
    if (token === null) continue;
    if (token <= before) yield `4: in the journal ${id} has token ${token} after ${before}`;
    before = token;
  }
}

/** 9, and what follows from 12: what was refused left nothing. */
function* doubledWishes({ wishes, strangers }: Knowledge): Generator<string> {
  for (const id of strangers) yield `9: ${id} is nobody's wish`;
  for (const { ask, key, attempts, ids } of wishes.values()) {
    const most = key === null ? attempts.length : 1;
    if (ids.size > most) yield `9: ${ask.mark} (key ${key}) led to ${[...ids].join(" and ")}`;
    const refused = attempts.some(({ answer }) => answer !== null && answer.status > 409);
    if (refused && ids.size > 0) yield `9: ${ask.mark} was refused, and there is ${[...ids].join(" and ")}`;
  }
}

/** 9. A key is kept with what was done under it: without it, asking again would be asking anew. */
function* lostKeys({ survivors }: History, { wishes }: Knowledge): Generator<string> {
  for (const [kill, { records, keys }] of survivors.entries()) {
    for (const { id, mark } of records) {
      const key = wishes.get(mark)?.key ?? null;
      const kept = key === null ? [id] : (keys.get(key) ?? []);
      if (kept.join() !== id)
        yield `9: ${id} is there after kill ${kill + 1}, and under its key ${key} [${kept.join()}]`;
    }
    const there = new Set(records.map(({ id }) => id));
    for (const [key, ids] of keys) {
      for (const id of ids) if (!there.has(id)) yield `9: ${key} is kept after kill ${kill + 1}, and not its ${id}`;
    }
  }
}

/** How the end of an allocation is told to its webhook; those that are not here are not told. */
const STATUS_OF_END: { readonly [reason: string]: string } = { cancelled: "cancelled", expired: "expired" };

/** 10. */
function* missingWebhooks({ survivors, deliveries }: History, known: readonly Known[]): Generator<string> {
  const last = survivors.at(-1);
  if (last === undefined) return;
  const rows = new Set(last.outbox.map(({ allocationId, status }) => `${allocationId} ${status}`));
  const hasWebhook = new Set(known.filter(({ ask }) => ask.webhookUrl !== null).map(({ id }) => id));
  const demand = function* (id: string, status: string, why: string): Generator<string> {
    if (hasWebhook.has(id) && !rows.has(`${id} ${status}`))
      yield `10: no webhook tells that ${id} is ${status} (${why})`;
  };
  for (const { id, sightings } of known) {
    const waited = sightings.some(({ status }) => status === "queued");
    for (const { status, lease, outcome, where } of sightings) {
      if (status === "offered" || (waited && lease !== null)) yield* demand(id, "allocated", where);
      const told = STATUS_OF_END[outcome?.reason ?? ""];
      if (told !== undefined) yield* demand(id, told, where);
    }
  }
  for (const { id, offered } of last.journal) if (id !== null && offered) yield* demand(id, "allocated", "journal");
  const ended = new Set(last.records.filter(({ status }) => status === "ended").map(({ id }) => id));
  for (const { allocationId: id, status, state } of last.outbox) {
    const isTold = state === "pending" || state === "delivered";
    // A grant that has ended is not told any more; anything else is, and for longer than these histories last.
    if (isTold || (state === "withdrawn" && status === "allocated" && ended.has(id))) continue;
    yield `10: that ${id} is ${status} will not be told: ${state}`;
  }
  yield* wrongDeliveries(survivors, last.outbox, deliveries);
}

function* wrongDeliveries(
  survivors: readonly Survivors[],
  outbox: readonly OutboxRow[],
  deliveries: History["deliveries"],
): Generator<string> {
  const rows = new Map(outbox.map((row) => [row.deliveryId, row]));
  const delivered = new Set(deliveries.map(({ deliveryId }) => deliveryId));
  for (const { deliveryId, state, allocationId, status } of outbox) {
    if (state === "delivered" && !delivered.has(deliveryId)) {
      yield `10: ${allocationId}'s ${status} counts as delivered, and never came`;
    }
  }
  for (const { deliveryId, allocationId, status } of deliveries) {
    if (!rows.has(deliveryId)) yield `10: ${allocationId}'s ${status} came, and is not on disk`;
  }
  for (const [kill, earlier] of survivors.entries()) {
    for (const { deliveryId, state } of earlier.outbox) {
      const now = rows.get(deliveryId)?.state;
      if (now === state || (now !== undefined && state === "pending")) continue;
      yield `10: delivery ${deliveryId} was ${state} after kill ${kill + 1}, and is ${now ?? "gone"}`;
    }
  }
}
