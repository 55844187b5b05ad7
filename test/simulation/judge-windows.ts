/** Judges grants, and ends that are moved, by the reserved windows: nobody is let into what one keeps for others. */
import type { EpochMs, Span } from "../../src/core/base/time.ts";
import type { Lease, Request } from "../../src/core/model/allocation.ts";
import type { GpuUuid } from "../../src/core/model/ids.ts";
import type { Policy, ReservedWindow } from "../../src/core/model/policy.ts";
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

interface Open {
  readonly window: ReservedWindow;
  /** On the daemon's clock, so far as it is certain. */
  readonly spans: readonly Span[];
}

export function judgeWindows(books: Books, causes: Causes, turn: TurnSeen, promised: Promised): PartOfWindows {
  const complaints = causes.policies.map((policy) => complaintOf(policy, books, causes, turn, promised));
  if (!complaints.includes(null)) fault(`${promised.request.id} has what is kept for others: ${complaints.at(-1)}`);
  return partOf(causes.policy, turn, promised);
}

/** What a window says against a lease; `null`: nothing. */
function complaintOf(policy: Policy, books: Books, causes: Causes, turn: TurnSeen, promised: Promised): string | null {
  const windows = openWindows(policy, turn);
  const settlingMs = policy.verifyRelease === "never" ? 0 : policy.reclaimTimeoutMs;
  const openings = windows.flatMap(({ spans }) => spans.map(({ from }) => from)).filter((from) => from > turn.at);
  const lasting = openings.filter((from) => hardEndOf(promised) + settlingMs > from);
  for (const at of [turn.at, ...lasting]) {
    const open = windows.filter(({ spans }) => isWithin(spans, at)).map(({ window }) => window);
    const complaint = named(open, books, promised) ?? counted(open, at, { policy, books, causes, promised });
    if (complaint !== null) return complaint;
  }
  return null;
}

/** A GPU that windows name is for the members of any of them. */
function named(open: readonly ReservedWindow[], books: Books, { request, lease }: Promised): string | null {
  for (const { uuid } of lease.gpus) {
    const naming = open.filter((window) => isNamed(window, uuid, books.gpus.get(uuid)));
    if (naming.length > 0 && !naming.some((window) => isMember(window, request))) {
      return `${uuid}, which ${naming.map(({ name }) => name).join(" and ")} name`;
    }
  }
  return null;
}

/** Every set of windows that are open together finds its number among the GPUs that are free, or its members' own. */
function counted(
  open: readonly ReservedWindow[],
  at: EpochMs,
  { policy, books, causes, promised }: { policy: Policy; books: Books; causes: Causes; promised: Promised },
): string | null {
  const pool = [...books.gpus].filter(([uuid, gpu]) => isCounted(uuid, gpu, policy, causes)).map(([uuid]) => uuid);
  if (!promised.lease.gpus.some(({ uuid }) => pool.includes(uuid))) return null;
  const others = [...books.live.values()].filter(({ request }) => request.id !== promised.request.id);
  for (let set = 1; set < 1 << open.length; set++) {
    const some = open.filter(({ gpus }, index) => set & (1 << index) && typeof gpus === "number");
    const kept = some.reduce((sum, { gpus }) => sum + Number(gpus), 0);
    if (kept === 0 || some.some((window) => isMember(window, promised.request))) continue;
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
function isCounted(uuid: GpuUuid, gpu: GpuBook, { windows }: Policy, { sights }: Causes): boolean {
  if (gpu.mig !== null || gpu.cordoned || gpu.hold === "quarantined") return false;
  if (windows.some((window) => isNamed(window, uuid, gpu))) return false;
  return sights.some(({ moods }) => {
    const mood = moods.get(uuid);
    if (mood === undefined) return false;
    // What a lease does to its GPU does not count.
    const isLeased = gpu.hold !== "free";
    return MOODS[mood].grantable || (isLeased && USED.includes(mood));
  });
}
const USED: readonly Mood[] = ["busy", "foreign memory", "ghost"];

function isNamed({ gpus }: ReservedWindow, uuid: GpuUuid, gpu: GpuBook | undefined): boolean {
  return typeof gpus !== "number" && (gpus.includes(uuid) || gpus.includes(gpu?.mig?.parentUuid ?? uuid));
}

function isMember({ members }: ReservedWindow, { principal, serviceName }: Request): boolean {
  return members.some(({ principals, services }) => principals.includes(principal) || services.includes(serviceName));
}

function openWindows({ windows }: Policy, { at, wallAheadMs }: TurnSeen): readonly Open[] {
  return windows.map((window) => {
    const spans = openingsOf(window, at + wallAheadMs).map(({ from, to }) => ({
      from: from - wallAheadMs + ROUNDING_MS,
      to: to - wallAheadMs - ROUNDING_MS,
    }));
    return { window, spans };
  });
}

function isWithin(spans: readonly Span[], at: EpochMs): boolean {
  return spans.some(({ from, to }) => from <= at && at < to);
}

/** Of what waits, none. */
function hardEndOf({ request, lease }: { readonly request: Request; readonly lease: Lease | null }): EpochMs {
  return (lease?.grantedAt ?? -Infinity) + (request.maxDurationMs ?? Infinity);
}

function partOf(policy: Policy, turn: TurnSeen, promised: Promised): PartOfWindows {
  const windows = openWindows(policy, turn);
  if (windows.length === 0) return "none";
  if (windows.some(({ window }) => isMember(window, promised.request))) return "a member";
  return windows.some(({ spans }) => isWithin(spans, turn.at))
    ? "an outsider while it is open"
    : "an outsider while none is open";
}
