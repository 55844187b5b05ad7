/** Judges what the journal says of allocations, event by event, before the books take it over. */

import { isDeepStrictEqual } from "node:util";
import type { EpochMs } from "../../src/core/base/time.ts";
import type { Event } from "../../src/core/host/events.ts";
import type { EndReason, Request } from "../../src/core/model/allocation.ts";
import type { Policy } from "../../src/core/model/policy.ts";
import { KEY_LIFE_MS } from "../../src/ports/store.ts";
import { type Books, type Causes, type Followed, type GpuBook, isInUseBy, type Sight } from "./books.ts";
import { doubtOfNotice } from "./judge-notices.ts";
import { MOODS, type Mood } from "./simulated-driver.ts";
import { NO_QUOTAS } from "./simulated-host.ts";
import { GRACE_MS, holding, type TurnSeen } from "./turn-seen.ts";
import { breach, fault } from "./violation.ts";

/** A lease younger than this leaves no GPU to be looked at; the contract's figure. */
const TOO_YOUNG_MS = 1_000;

type Of<T extends Event["type"]> = Extract<Event, { type: T }>;

export function patienceMs(request: Request, policy: Policy): number {
  return request.webhookUrl === null ? policy.abandonAfterMs : policy.claimTimeoutMs;
}

/** @param key what the client calls the request by, if anything. */
export function judgeSubmission(books: Books, turn: TurnSeen, request: Request, key: string | null): void {
  if (books.live.has(request.id) || books.ended.has(request.id)) breach(3, `${request.id} began twice`);
  if (request.submittedAt !== turn.at) fault(`${request.id} was submitted at another time than its turn's`);
  const before = key === null ? undefined : books.keys.get(key);
  if (before !== undefined && turn.at - before.at < KEY_LIFE_MS) {
    breach(9, `${request.id} is a second request under ${key}, ${turn.at - before.at} ms after the first`);
  }
}

export function judgeGrant(books: Books, causes: Causes, turn: TurnSeen, event: Of<"granted">): void {
  const { id, lease, claimBy } = event;
  const before = books.live.get(id);
  if (before?.status !== "queued") breach(3, `${id} was granted while it was ${before?.status ?? "not live"}`);
  const { request } = before;
  if (lease.fencingToken <= books.highestToken) {
    breach(4, `${id} has token ${lease.fencingToken} after ${books.highestToken}`);
  }
  if (lease.fencingToken < turn.tokenFloor) breach(4, `${id} has token ${lease.fencingToken}, below the wall clock`);
  const uuids = new Set(lease.gpus.map(({ uuid }) => uuid));
  if (uuids.size !== request.requirement.gpus || uuids.size !== lease.gpus.length) {
    fault(`${id} asked for ${request.requirement.gpus} GPUs and has ${lease.gpus.map(({ uuid }) => uuid).join(", ")}`);
  }
  if (request.exactGpus?.some((uuid) => !uuids.has(uuid))) {
    fault(`${id} asked for ${request.exactGpus.join(", ")} and has ${[...uuids].join(", ")}`);
  }
  for (const uuid of uuids) {
    const gpu = books.gpus.get(uuid);
    if (gpu === undefined) breach(6, `${id} was granted ${uuid}, which is not there`);
    if (gpu.hold === "leased") breach(1, `${id} was granted ${uuid}, which another lease holds`);
    if (gpu.hold === "shared" && lease.sharedMib === null) breach(1, `${id} was granted ${uuid}, which others share`);
    if (gpu.hold === "shared") judgeShare(id, uuid, gpu, lease.sharedMib ?? 0);
    else if (gpu.hold !== "free") breach(6, `${id} was granted ${uuid}, which is ${gpu.hold}`);
    if (gpu.cordoned || books.cordon !== null) breach(6, `${id} was granted ${uuid}, which is cordoned`);
    const objections = causes.sights.map((sight) =>
      objection(gpu, sight.moods.get(uuid), sight, causes, request, turn.at),
    );
    if (!objections.includes(null)) breach(6, `${id} was granted ${uuid}: ${objections.at(-1)}`);
  }
  judgeOrder(books, causes, before, turn.at);
  judgePassing(books, causes, before, turn.at);
  judgeQuotas(books, causes, before);
  if (lease.grantedAt !== turn.at) fault(`${id} was granted at another time than its turn's`);
  if (lease.expiresAt !== endOf(request, turn.at, turn.at)) breach(5, `${id} was granted until ${lease.expiresAt}`);
  if (claimBy === null) {
    if (!turn.newcomers.has(id)) fault(`${id} came from the queue and is no offer`);
  } else if (!causes.policies.some((policy) => claimBy === turn.at + patienceMs(request, policy))) {
    fault(`${id} is offered until ${claimBy}`);
  }
}

/** The use of a GPU that nobody holds became a lease, because an admin said so. */
export function judgeAdoption(books: Books, causes: Causes, turn: TurnSeen, event: Of<"granted">): void {
  const { id, lease, claimBy } = event;
  const before = books.live.get(id);
  if (before?.status !== "queued" || !turn.newcomers.has(id)) breach(3, `${id} was adopted, and was there before`);
  const { request } = before;
  const [uuid = "", ...more] = lease.gpus.map((gpu) => gpu.uuid);
  if (more.length > 0 || !causes.adoptions.has(uuid)) fault(`${id} is of ${uuid}: no admin had said so`);
  const hold = books.gpus.get(uuid)?.hold;
  if (hold !== "free") breach(1, `${id} was adopted on ${uuid}, which is ${hold}`);
  const shown = causes.sights.some(({ moods }) => MOODS[moods.get(uuid) ?? "idle"].inUse);
  if (!shown) fault(`${id} was adopted on ${uuid}, which nobody was seen to use`);
  if (causes.policies.every(({ foreignUse }) => foreignUse !== "adopt"))
    fault(`${id} was adopted, which is not allowed`);
  if (lease.fencingToken <= books.highestToken || lease.fencingToken < turn.tokenFloor) {
    breach(4, `${id} has token ${lease.fencingToken} after ${books.highestToken}`);
  }
  if (claimBy !== null) fault(`${id} was adopted, and is an offer`);
  if (lease.expiresAt !== endOf(request, turn.at, turn.at)) breach(5, `${id} was adopted until ${lease.expiresAt}`);
}

/** 1: what is reserved leaves the head-room, and starts are serialised. */
function judgeShare(id: string, uuid: string, gpu: GpuBook, sharedMib: number): void {
  const parts = [...gpu.shares.values(), ...gpu.remains.values()];
  const reservedMib = parts.reduce((sum, { mib }) => sum + mib, sharedMib);
  if (reservedMib > shareableMibOf(gpu))
    breach(1, `${id} was granted ${sharedMib} MiB of ${uuid}: ${reservedMib} in all`);
  if (gpu.overdue) breach(6, `${id} was granted a part of ${uuid}, of which something has not gone in time`);
  for (const [other, { settled }] of gpu.shares) {
    if (!settled) breach(6, `${id} was granted a part of ${uuid} while ${other} settled`);
  }
}

/** MiB that shared leases may have of a GPU: the head-room is 5 %, and 512 MiB at least. */
function shareableMibOf({ totalMib }: GpuBook): number {
  return totalMib - Math.max(512, Math.ceil(totalMib * 0.05));
}

/** MiB that a request finds on a GPU that may be granted. */
function availableMibOf(gpu: GpuBook, mood: Mood, usedMib: number, request: Request): number {
  if (request.sharing === "exclusive") return mood === "desktop" ? gpu.totalMib - usedMib : gpu.totalMib;
  const parts = gpu.hold === "shared" ? [...gpu.shares.values(), ...gpu.remains.values()] : [];
  // Nobody here names his process: all that is in use counts within what is reserved.
  const reservedMib = parts.reduce((sum, { mib }) => sum + mib, gpu.hold === "shared" ? gpu.baselineMib : 0);
  return shareableMibOf(gpu) - Math.max(reservedMib, usedMib);
}

/** What stands against granting a GPU that is free in the books, as the driver showed it; `null`: nothing. */
function objection(
  gpu: GpuBook,
  mood: Mood | undefined,
  sight: Sight,
  causes: Causes,
  request: Request,
  at: EpochMs,
): string | null {
  if (mood === undefined) return "there is no reading of it";
  if (sight.blind) return "the driver has gone";
  const ageMs = at - sight.finishedAt;
  if (!causes.policies.some(({ staleAfterMs }) => ageMs <= staleAfterMs)) return `its reading is ${ageMs} ms old`;
  const { grantable, usedMib, utilizationPercent } = MOODS[mood];
  const { inUse } = MOODS[mood];
  // Use of a shared GPU is its leases' own.
  if ((!grantable && !(inUse && gpu.hold === "shared")) || usedMib === null) return `it is ${mood}`;
  const { memoryMib, maxUtilizationPercent, maxUtilizationExplicit } = request.requirement;
  const availableMib = availableMibOf(gpu, mood, usedMib, request);
  if (availableMib < memoryMib) return `it has ${availableMib} MiB for ${memoryMib}`;
  if (utilizationPercent === null ? maxUtilizationExplicit : utilizationPercent > maxUtilizationPercent) {
    return `it is used to ${utilizationPercent} %`;
  }
  if (request.gpuModel !== null && !gpu.name.toLowerCase().includes(request.gpuModel.toLowerCase())) {
    return `it is a ${gpu.name}`;
  }
  return null;
}

/** 7: nobody who asked for the same, as urgently, has waited longer. */
function judgeOrder(books: Books, { policies }: Causes, granted: Followed, at: EpochMs): void {
  const limited = policies.some(isLimiting) || books.bookedAt(at).length > 0;
  for (const other of books.live.values()) {
    // Within a millisecond the ids decide, and a clock that was set back in it makes smaller ones.
    const isEarlier = other.order < granted.order && other.request.submittedAt !== granted.request.submittedAt;
    if (other.status !== "queued" || !isEarlier || turnOf(other.request) > turnOf(granted.request)) continue;
    if (limited && !isOfOneAccount(other.request, granted.request)) continue;
    // Of two alike, the one that may last longer can be kept from GPUs that are held for somebody.
    if (isAlike(other.request, granted.request) && lastsNoLonger(other.request, granted.request)) {
      breach(7, `${granted.request.id} was served before ${other.request.id}, which asks for the same`);
    }
  }
}

/** 7: a wider request passes only its equals, none of which states an end or has run out of patience. */
function judgePassing(books: Books, { policies }: Causes, granted: Followed, at: EpochMs): void {
  const { request } = granted;
  const limited = policies.some(isLimiting) || books.bookedAt(at).length > 0;
  for (const other of books.live.values()) {
    if (other.status !== "queued" || other.preempting || !standsBefore(other, granted)) continue;
    if (!isNarrower(other.request, request) || (limited && !isOfOneAccount(other.request, request))) continue;
    const { maxDurationMs, requirement } = other.request;
    const isEqual = maxDurationMs === null && requirement.priority === request.requirement.priority;
    const mayPass = policies.some(({ preferWide, patienceMs: patience }) => {
      return preferWide && (other.headSince === null || at - other.headSince < patience);
    });
    if (!isEqual || request.maxDurationMs !== null || !mayPass) {
      breach(7, `${request.id} was served before ${other.request.id}, which asks for fewer GPUs`);
    }
  }
}

function standsBefore(other: Followed, granted: Followed): boolean {
  const [a, b] = [other.request, granted.request];
  const isEarlier = other.order < granted.order && a.submittedAt !== b.submittedAt;
  return isEarlier && a.requirement.priority >= b.requirement.priority && turnOf(a) <= turnOf(b);
}

/** Whether `a` can be served wherever `b` can, and on fewer GPUs. */
function isNarrower(a: Request, b: Request): boolean {
  const { gpus, priority } = b.requirement;
  const widened = { ...a, requirement: { ...a.requirement, gpus, priority } };
  return a.requirement.gpus < gpus && isAlike(widened, b) && lastsNoLonger(a, b);
}

/** Said once of one that waits, when it is so. */
export function judgeHead(books: Books, turn: TurnSeen, { id, at }: Of<"became-head">): void {
  const it = books.live.get(id);
  if (it?.status !== "queued") fault(`${id} became the head while it was ${it?.status ?? "not live"}`);
  if (it.headSince !== null) fault(`${id} became the head twice: its patience began anew`);
  if (at !== turn.at) fault(`${id} became the head at another time than its turn's`);
}

/** When it would be due if all had the same priority. */
function turnOf({ submittedAt, fairShareDelayMs }: Request): EpochMs {
  return submittedAt + fairShareDelayMs;
}

/** Whether it depends on whose a request is what it can have. */
function isLimiting({ quotas, windows }: Policy): boolean {
  return quotas !== NO_QUOTAS || windows.length > 0;
}

/** Quotas, windows and bookings keep both of two such requests waiting, or neither. */
function isOfOneAccount(a: Request, b: Request): boolean {
  return a.principal === b.principal && a.serviceName === b.serviceName && a.maxDurationMs === b.maxDurationMs;
}

/** 7: nobody has more GPUs than a quota that was in force let him have. */
function judgeQuotas(books: Books, { policies }: Causes, { request }: Followed): void {
  const { principal, serviceName, requirement } = request;
  let [ofPrincipal, ofService] = [requirement.gpus, requirement.gpus];
  for (const other of books.live.values()) {
    const held = other.lease?.gpus.length ?? 0;
    if (other.request.principal === principal) ofPrincipal += held;
    if (other.request.serviceName === serviceName) ofService += held;
  }
  const isRight = policies.some(({ quotas }) => {
    const most = (quotas.principals[principal] ?? quotas.defaultPrincipal).maxGpus ?? Infinity;
    const mostOfService = (quotas.services[serviceName] ?? quotas.defaultService).maxGpus ?? Infinity;
    return ofPrincipal <= most && ofService <= mostOfService;
  });
  if (!isRight) breach(7, `${request.id}: ${principal} has ${ofPrincipal} GPUs then, ${serviceName} ${ofService}`);
}

function lastsNoLonger(a: Request, b: Request): boolean {
  return (a.maxDurationMs ?? Infinity) <= (b.maxDurationMs ?? Infinity);
}

function isAlike(a: Request, b: Request): boolean {
  return (
    a.requirement.gpus === b.requirement.gpus &&
    a.requirement.memoryMib === b.requirement.memoryMib &&
    a.requirement.priority === b.requirement.priority &&
    a.requirement.maxUtilizationPercent === b.requirement.maxUtilizationPercent &&
    a.requirement.maxUtilizationExplicit === b.requirement.maxUtilizationExplicit &&
    a.gpuModel === b.gpuModel &&
    a.migProfile === b.migProfile &&
    isDeepStrictEqual(a.exactGpus, b.exactGpus) &&
    a.sharing === b.sharing
  );
}

function endOf(request: Request, grantedAt: EpochMs, from: EpochMs): EpochMs | null {
  const ends = [];
  if (request.ttlMs !== null) ends.push(from + request.ttlMs);
  if (request.maxDurationMs !== null) ends.push(grantedAt + request.maxDurationMs);
  return ends.length === 0 ? null : Math.min(...ends);
}

export function judgeRenewal(books: Books, causes: Causes, turn: TurnSeen, event: Of<"renewed">): void {
  const { lease, request, claimBy } = holding(books, event.id);
  if (!causes.renewals.has(event.id)) breach(3, `${event.id} was renewed and nobody had asked for it`);
  if (lease.expiresAt !== null && turn.at >= lease.expiresAt) breach(5, `${event.id} was renewed after its end`);
  if (claimBy !== null && turn.at >= claimBy) breach(5, `${event.id} was renewed after its offer had lapsed`);
  const renewed = endOf(request, lease.grantedAt, turn.at);
  // What a grace has put beyond a hard end is not taken back.
  const until = renewed === null ? null : Math.max(renewed, lease.expiresAt ?? renewed);
  if (event.expiresAt !== until) breach(5, `${event.id} was renewed until ${event.expiresAt}, not ${until}`);
}

/** An end moves when its client says so, to where the new numbers put it, and not past the quotas of its accounts. */
export function judgeMovedEnd(books: Books, causes: Causes, turn: TurnSeen, event: Of<"end-moved">): void {
  const { lease, request, claimBy } = holding(books, event.id);
  const { ttlMs, maxDurationMs } = event;
  if (!causes.extensions.has(event.id)) breach(3, `the end of ${event.id} was moved and nobody had asked for it`);
  if (lease.expiresAt !== null && turn.at >= lease.expiresAt) breach(5, `${event.id} was prolonged after its end`);
  if (claimBy !== null && turn.at >= claimBy) breach(5, `${event.id} was prolonged after its offer had lapsed`);
  const until = endOf({ ...request, ttlMs, maxDurationMs }, lease.grantedAt, turn.at);
  if (event.expiresAt !== until) breach(5, `${event.id} was prolonged until ${event.expiresAt}, not ${until}`);
  if (until !== null && until <= turn.at) breach(5, `the end of ${event.id} was moved into the past`);
}

/** Only after an absence, only what fell due in it, and only as far as the grace goes. */
export function judgeExtension(books: Books, causes: Causes, turn: TurnSeen, event: Of<"extended">): void {
  const { lease, request, status, claimBy } = holding(books, event.id);
  if (!turn.resumed) breach(5, `${event.id} was extended while the daemon ran`);
  const overdue = lease.expiresAt !== null && lease.expiresAt <= turn.at;
  const until = overdue ? turn.at + Math.min(request.ttlMs ?? GRACE_MS, GRACE_MS) : lease.expiresAt;
  if (event.expiresAt !== until) breach(5, `${event.id} was extended until ${event.expiresAt}, not ${until}`);
  if (status === "leased") {
    if (event.claimBy !== null) fault(`${event.id} is no offer, and was extended as one`);
    return;
  }
  const claimBys = causes.policies.map((policy) => Math.max(claimBy ?? 0, turn.at + patienceMs(request, policy)));
  if (event.claimBy === null || !claimBys.includes(event.claimBy)) {
    breach(5, `the offer of ${event.id} was extended until ${event.claimBy}`);
  }
}

export function judgeClaim(books: Books, causes: Causes, turn: TurnSeen, id: string): void {
  const { lease, status, claimBy } = holding(books, id);
  if (status !== "offered") fault(`${id} was claimed while it was ${status}`);
  if (!causes.claims.has(id)) fault(`${id} was claimed, but not by its client`);
  if (claimBy !== null && turn.at >= claimBy) breach(5, `${id} was claimed after its offer had lapsed`);
  if (lease.expiresAt !== null && turn.at >= lease.expiresAt) breach(5, `${id} was claimed after its end`);
}

export function judgeReoffer(books: Books, causes: Causes, turn: TurnSeen, event: Of<"reoffered">): void {
  const { request, status } = holding(books, event.id);
  if (status !== "leased") fault(`${event.id} was offered again while it was ${status}`);
  if (!causes.hangUps.has(event.id)) fault(`${event.id} was offered again, but its client had not gone`);
  if (!causes.policies.some((policy) => event.claimBy === turn.at + patienceMs(request, policy))) {
    fault(`${event.id} is offered again until ${event.claimBy}`);
  }
}

/** A lease without a TTL, none of whose GPUs has been in use for long enough. */
export function judgeIdle(books: Books, causes: Causes, turn: TurnSeen, event: Of<"went-idle">): void {
  const { request, lease, status, idle } = holding(books, event.id);
  if (status !== "leased" || request.ttlMs !== null || idle) fault(`${event.id}, ${status}, is no lease to go idle`);
  if (lease.gpus.some(({ uuid }) => isInUseBy(books.gpus.get(uuid), event.id)))
    fault(`${event.id} is idle, and in use`);
  if (event.since < lease.grantedAt) fault(`${event.id} is idle since before its grant`);
  if (!causes.policies.some(({ idleAfterMs }) => turn.at >= event.since + idleAfterMs)) {
    fault(`${event.id} is idle after ${turn.at - event.since} ms`);
  }
}

export function judgeBusy(books: Books, id: string): void {
  const { lease, idle } = holding(books, id);
  if (!idle) fault(`${id} is idle no more, and was not`);
  if (!lease.gpus.some(({ uuid }) => isInUseBy(books.gpus.get(uuid), id)))
    fault(`${id} is idle no more, and not in use`);
}

/** 3, 5, 11: an end has a cause of its own, and no other. */
export function judgeEnd(books: Books, causes: Causes, turn: TurnSeen, event: Of<"ended">): void {
  const { id, outcome } = event;
  const before = books.live.get(id);
  if (before === undefined) breach(3, `${id} ended (${outcome.reason}) ${books.ended.has(id) ? "twice" : "unborn"}`);
  if (outcome.at !== turn.at) fault(`${id} ended at another time than its turn's`);
  const doubt = doubtOf(outcome.reason, before, books, causes, turn);
  if (doubt !== null) breach(outcome.reason === "expired" ? 5 : 3, `${id} ended as ${outcome.reason}: ${doubt}`);
}

/** What speaks against an end; `null`: nothing. */
function doubtOf(reason: EndReason, it: Followed, books: Books, causes: Causes, turn: TurnSeen): string | null {
  const { request, lease, status } = it;
  const expects = (wanted: boolean, doubt: string) => (wanted ? null : doubt);
  switch (reason) {
    case "released":
    case "cancelled":
      if ((reason === "cancelled") !== (status === "queued")) return `it was ${status}`;
      return expects(isReleaseAsked(it, causes), "nobody had asked for it");
    case "preempted":
      return doubtOfNotice("preempt", it, turn);
    case "revoked":
      return causes.revokes.has(request.id) ? null : doubtOfNotice("drain", it, turn);
    case "rebooted":
      return expects(turn.rebooted && lease !== null && request.ttlMs === null, "its host had not been started anew");
    case "timed_out":
      if (status !== "queued" || request.queueTimeoutMs === null) return `it was ${status}, without a time limit`;
      return expects(turn.at >= request.submittedAt + request.queueTimeoutMs, "its time was not up");
    case "abandoned": {
      if (status !== "queued" || request.webhookUrl !== null) return `it was ${status}, or has a webhook`;
      const sign = books.signs.get(request.id) ?? request.submittedAt;
      const patient = Math.min(...causes.policies.map(({ abandonAfterMs }) => abandonAfterMs));
      return expects(turn.at >= sign + patient, `its client was alive ${turn.at - sign} ms before`);
    }
    case "unclaimed":
      if (status !== "offered" || it.claimBy === null) return `it was ${status}`;
      return expects(turn.at >= Math.max(it.claimBy, it.claimOwedUntil), "its client still had time");
    case "idle": {
      if (status !== "leased" || request.ttlMs !== null) return `it was ${status}, or has a TTL`;
      if (lease?.gpus.some(({ uuid }) => isInUseBy(books.gpus.get(uuid), request.id))) return "it was in use";
      const reclaims = causes.policies.some(
        ({ idleAfterMs, reclaimIdleAfterMs }) =>
          reclaimIdleAfterMs !== null && turn.at >= (lease?.grantedAt ?? 0) + idleAfterMs + reclaimIdleAfterMs,
      );
      return expects(reclaims, "idle leases are left alone, or for longer");
    }
    case "process-gone":
      if (request.boundTo === undefined) return "it was bound to no process";
      return expects(causes.processesGone.has(request.id), "its process runs");
    case "expired":
    case "max_duration":
      return doubtOfTime(reason, it, turn);
    default:
      return reason satisfies never;
  }
}

function doubtOfTime(reason: "expired" | "max_duration", it: Followed, turn: TurnSeen): string | null {
  const { lease, request } = it;
  if (lease === null || lease.expiresAt === null) return "it had no end";
  if (turn.at < lease.expiresAt) return `${lease.expiresAt - turn.at} ms too early`;
  if (turn.at < it.owedUntil) return "the daemon had stood still, and gave no grace";
  const isHardEnd = request.maxDurationMs !== null && turn.at >= lease.grantedAt + request.maxDurationMs;
  if (isHardEnd !== (reason === "max_duration")) return "for the other reason";
  // A clock that was set ahead over a restart is all that can make a lease shorter than it was promised.
  const leapt = turn.at - turn.trueMs > it.leadMs;
  if (!leapt && it.trueEndMs !== null && turn.trueMs < it.trueEndMs) {
    return `${it.trueEndMs - turn.trueMs} ms of true time too early`;
  }
  return null;
}

function isReleaseAsked({ request }: Followed, { releases }: Causes): boolean {
  return releases.some(
    ({ id, service, principal, admin }) =>
      (id === null || id === request.id) &&
      (service === null || service === request.serviceName) &&
      (admin || principal === request.principal),
  );
}

/** 6: which GPUs of a lease that ends are kept until they are seen empty. */
export function judgeVerification(books: Books, causes: Causes, turn: TurnSeen, event: Of<"ended">): void {
  const lease = books.live.get(event.id)?.lease ?? null;
  if (lease === null) {
    if (event.verify.length > 0) fault(`${event.id} held nothing, and leaves ${event.verify.join(", ")}`);
    return;
  }
  for (const { uuid } of lease.gpus) {
    const gpu = books.gpus.get(uuid) as GpuBook;
    const kept = event.verify.includes(uuid);
    const isRight = (policy: Policy, sight: Sight): boolean => {
      if (policy.verifyRelease !== "when_used") return kept === (policy.verifyRelease === "always");
      if (gpu.hold === "shared" ? gpu.shares.get(event.id)?.useSeen : gpu.useSeen) return kept;
      if (turn.at - lease.grantedAt < TOO_YOUNG_MS) return !kept;
      const watched = sight.moods.has(uuid) && sight.startedAt >= lease.grantedAt;
      return kept === !(watched && turn.at - sight.finishedAt <= policy.refreshIntervalMs);
    };
    if (!causes.policies.some((policy) => causes.sights.some((sight) => isRight(policy, sight)))) {
      breach(6, `${uuid} is ${kept ? "not " : ""}free at once after ${event.id}`);
    }
  }
}
