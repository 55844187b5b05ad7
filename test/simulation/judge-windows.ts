/**
 * Judges grants, and ends that are moved, by the reserved windows and by bookings, which are windows of their own: nobody
 * is let into what one keeps for others.
 */
import type { EpochMs, Span } from "../../src/core/base/time.ts";
import type { Lease, Request } from "../../src/core/model/allocation.ts";
import type { GpuUuid } from "../../src/core/model/ids.ts";
import type { KeptWindow, Policy } from "../../src/core/model/policy.ts";
import type { Books, Causes, GpuBook } from "./books.ts";
import { openingsOf } from "./drawn-windows.ts";
import { MOODS, type Mood } from "./simulated-driver.ts";
import type { TurnSeen } from "./turn-seen.ts";
import { fault } from "./violation.ts";

/** The daemon reckons with its clock's distance from the wall clock in whole seconds. */
const ROUNDING_MS = 1_000;

/** A lease as it is to be. */
interface Promised {
  readonly request: Request;
  readonly lease: Lease;
}
/** What windows had to do with a grant. */
export type PartOfWindows = "none" | "a member" | "an outsider while none is open" | "an outsider while it is open";

/** Of sets of windows that are open together, those of so many at most are looked at: each more doubles the work. */
const TOGETHER = 6;

interface Open {
  readonly window: KeptWindow;
  /** On the daemon's clock, so far as it is certain. */
  readonly spans: readonly Span[];
  /** The same as far as it is possible: whom it lets in it may have let in already. */
  readonly possible: readonly Span[];
}

export function judgeWindows(books: Books, causes: Causes, turn: TurnSeen, promised: Promised): PartOfWindows {
  const complaints = causes.policies.map((policy) => complaintOf(policy, books, causes, turn, promised));
  if (!complaints.includes(null)) fault(`${promised.request.id} has what is kept for others: ${complaints.at(-1)}`);
  return partOf(openWindows(causes.policy, books, turn), turn, promised);
}

/** What a window says against a lease; `null`: nothing. */
function complaintOf(policy: Policy, books: Books, causes: Causes, turn: TurnSeen, promised: Promised): string | null {
  const windows = openWindows(policy, books, turn);
  const settlingMs = policy.verifyRelease === "never" ? 0 : policy.reclaimTimeoutMs;
  const openings = windows.flatMap(({ spans }) => spans.map(({ from }) => from)).filter((from) => from > turn.at);
  const lasting = openings.filter((from) => hardEndOf(promised) + settlingMs > from);
  for (const at of [turn.at, ...lasting]) {
    const open = windows.filter(({ spans }) => isWithin(spans, at)).map(({ window }) => window);
    const letsIn = windows.filter(({ possible }) => isWithin(possible, at)).map(({ window }) => window);
    const complaint = named(open, letsIn, books, promised) ?? counted(open, at, { windows, books, causes, promised });
    if (complaint !== null) return complaint;
  }
  return null;
}

/** A GPU that windows name is for the members of any of them. */
function named(
  open: readonly KeptWindow[],
  letsIn: readonly KeptWindow[],
  books: Books,
  { request, lease }: Promised,
): string | null {
  for (const { uuid } of lease.gpus) {
    const names = (window: KeptWindow) => isNamed(window, uuid, books.gpus.get(uuid));
    const naming = open.filter(names);
    if (naming.length > 0 && !letsIn.some((window) => names(window) && isMember(window, request))) {
      return `${uuid}, which ${naming.map(({ name }) => name).join(" and ")} name`;
    }
  }
  return null;
}

/** Every set of windows that are open together finds its number among the GPUs that are free, or its members' own. */
function counted(
  open: readonly KeptWindow[],
  at: EpochMs,
  { windows, books, causes, promised }: { windows: readonly Open[]; books: Books; causes: Causes; promised: Promised },
): string | null {
  const against = open.filter((one) => typeof one.gpus === "number" && !isMember(one, promised.request));
  if (against.length === 0) return null;
  const pool = [...books.gpus].filter(([uuid, gpu]) => isCounted(uuid, gpu, windows, causes)).map(([uuid]) => uuid);
  if (!promised.lease.gpus.some(({ uuid }) => pool.includes(uuid))) return null;
  const others = [...books.live.values()].filter(({ request }) => request.id !== promised.request.id);
  for (let set = 1; set < 1 << Math.min(against.length, TOGETHER); set++) {
    const some = against.filter((_, index) => set & (1 << index));
    const kept = some.reduce((sum, { gpus }) => sum + Number(gpus), 0);
    const taken = pool.filter((uuid) => {
      const here = [promised, ...others].filter(({ lease }) => lease?.gpus.some((gpu) => gpu.uuid === uuid));
      const isTheirs = some.some((window) => here.every(({ request }) => isMember(window, request)));
      return !isTheirs && here.some((one) => hardEndOf(one) > at);
    });
    if (pool.length - taken.length < kept) return `of ${pool.length} GPUs ${taken.length} are taken, ${kept} are kept`;
  }
  return null;
}

/** Without what certainly does not count: more than those that the daemon counts, and never fewer. */
function isCounted(uuid: GpuUuid, gpu: GpuBook, windows: readonly Open[], { sights }: Causes): boolean {
  if (gpu.mig !== null || gpu.cordoned || gpu.hold === "quarantined") return false;
  if (windows.some(({ window }) => isNamed(window, uuid, gpu))) return false;
  return sights.some(({ moods }) => {
    const mood = moods.get(uuid);
    if (mood === undefined) return false;
    // What a lease does to its GPU does not count.
    const isLeased = gpu.hold !== "free";
    return MOODS[mood].grantable || (isLeased && USED.includes(mood));
  });
}
const USED: readonly Mood[] = ["busy", "foreign memory", "ghost"];

function isNamed({ gpus }: KeptWindow, uuid: GpuUuid, gpu: GpuBook | undefined): boolean {
  return typeof gpus !== "number" && (gpus.includes(uuid) || gpus.includes(gpu?.mig?.parentUuid ?? uuid));
}

function isMember({ members }: KeptWindow, { principal, serviceName }: Request): boolean {
  const isOneOf = (names: readonly string[], name: string) => names.length === 0 || names.includes(name);
  return members.some(({ principals, services }) => isOneOf(principals, principal) && isOneOf(services, serviceName));
}

function openWindows({ windows }: Policy, books: Books, { at, wallAheadMs }: TurnSeen): readonly Open[] {
  const booked = books.bookedAt(at).map(({ id, principal, serviceName, gpus, from, to }): Open => {
    const members = [
      { principals: [principal], services: serviceName === null ? [] : [serviceName], workloadTypes: [] },
    ];
    const spans = [{ from, to }];
    return { window: { name: id, gpus, members, spans: [] }, spans, possible: spans };
  });
  const reserved = windows.map((window): Open => {
    const openings = openingsOf(window, at + wallAheadMs);
    const narrowedBy = (ms: number) =>
      openings.map(({ from, to }) => ({ from: from - wallAheadMs + ms, to: to - wallAheadMs - ms }));
    return { window, spans: narrowedBy(ROUNDING_MS), possible: narrowedBy(-ROUNDING_MS) };
  });
  return [...reserved, ...booked];
}

function isWithin(spans: readonly Span[], at: EpochMs): boolean {
  return spans.some(({ from, to }) => from <= at && at < to);
}

/** Of what waits, none. */
function hardEndOf({ request, lease }: { readonly request: Request; readonly lease: Lease | null }): EpochMs {
  return (lease?.grantedAt ?? -Infinity) + (request.maxDurationMs ?? Infinity);
}

function partOf(windows: readonly Open[], turn: TurnSeen, promised: Promised): PartOfWindows {
  if (windows.length === 0) return "none";
  if (windows.some(({ window }) => isMember(window, promised.request))) return "a member";
  return windows.some(({ spans }) => isWithin(spans, turn.at))
    ? "an outsider while it is open"
    : "an outsider while none is open";
}
