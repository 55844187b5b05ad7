import { type Allowance, allowanceFor, withinAllowance } from "../allocator/allowance.ts";
import { type FutureCandidate, futureCandidates, withRoomIn } from "../allocator/candidates.ts";
import { limitsLater, limitsNow, usable } from "../allocator/fit.ts";
import type { EpochMs } from "../base/time.ts";
import { freeGpus } from "../host/candidates.ts";
import { askOf, type FamilyShape, isWithin, type Limit } from "../host/demand.ts";
import type { Event } from "../host/events.ts";
import { evolve } from "../host/evolve.ts";
import { FreeGpus } from "../host/free-gpus.ts";
import {
  compareKeys,
  dequeue,
  earliest,
  enqueue,
  firstsWaiting,
  firstWaiting,
  type Waiting,
  type WaitingLine,
} from "../host/line.ts";
import type { HostState } from "../host/state.ts";
import { memberOf, type WindowSet } from "../host/window-plan.ts";
import type { QueuedAllocation, Request } from "../model/allocation.ts";
import { holdersOf } from "../model/holds.ts";
import type { AllocationId, GpuUuid } from "../model/ids.ts";
import { Budgets } from "./budgets.ts";
import { choose, grant } from "./grant.ts";
import { waitsForPassersOnly, widestFor } from "./patience.ts";
import { callOff, cannotTell, type Preemption, preempt, withdrawStale } from "./preemption.ts";
import { besides, type Reservation, reserve } from "./reservation.ts";
import { type Occupancy, WindowAllowances } from "./window-allowances.ts";

/** What follows once everybody who can be served has been: the grants, and the state after them. */
export interface Scheduled {
  readonly events: readonly Event[];
  readonly state: HostState;
  /** What is held for whom of those who still wait, as far as there were free GPUs to hold. */
  readonly reservations: readonly HeldFor[];
}

export interface HeldFor extends Reservation {
  /** As windows count it for those behind. */
  readonly occupancy: Occupancy;
}

/**
 * Serves the waiting line with the GPUs that are free at `now`.
 *
 *  1. The head is the first that will find enough GPUs once today's leases end, leaving out those held for somebody
 *     else. One that needs a sick or foreign-used GPU to get well is not the head until it does: nobody can say when,
 *     and nothing is kept idle for it.
 *  2. The first that fits now is served, or a wider one in its place (patience.ts, 4), unless the head stands before it
 *     and holds GPUs by 3 or 4.
 *  3. If leases can be preempted for the head, they are (preemption.ts), and the GPUs that come to it are held for it.
 *     They stay so whoever becomes the head, but those before it in line come first.
 *  4. If the head has waited `reserveAfterMs` and its start is certain, every GPU that it could use, free now or later,
 *     is held for it (reservation.ts). A held GPU that is free goes only to a request that will have given it back before
 *     the head can start. If its start is not certain, nothing is held until its patience is over (patience.ts).
 *  5. After 3 and 4 the next head is looked for among those that can do with the rest.
 *  6. A request that waits for its own quota (budgets.ts) is left out of all this: it is no head, and nothing is held
 *     for it.
 *  7. A reserved window limits how many GPUs a lease may take that could last into it (window-allowances.ts). A request
 *     that only a window keeps waiting, because it would not fit even if every lease ended, is no head. GPUs that a
 *     window keeps from the head are not held for it: they stay open to the window's members, and to leases that end
 *     before it opens.
 *
 * Each round of the loop grants a GPU, holds a GPU, ends a preemption or ends the loop, so the cost is bounded by the
 * host's GPUs times the logarithm of the line.
 *
 * @param newcomer the request that this command submitted: a grant to it is a lease at once, since its client is still
 *   on the line; any other grant is an offer until its client is seen to have it.
 */
export function schedule(before: HostState, now: EpochMs, newcomer: AllocationId | null): Scheduled {
  if (before.line.order.size === 0 && before.preempted.size === 0)
    return { events: [], state: before, reservations: [] };
  const pass = new Pass(before, now);
  while (pass.goesOn) {
    const fitting = pass.fitting();
    const fits = earliest(fitting);
    if (fits !== undefined && pass.isFirst(fits)) {
      // Nobody stands before it who could have anything held for it.
      pass.serve(fitting, fits, newcomer);
      continue;
    }
    const head = pass.head();
    const claimants = inOrder(head, pass.beneficiary()).filter((one) => fits === undefined || isBefore(one, fits));
    if (claimants.some((one) => pass.preemptFor(one) || (one === head && pass.reserveFor(one)))) continue;
    if (fits === undefined) break;
    pass.serve(fitting, fits, newcomer);
  }
  pass.noteHead();
  if (pass.state.preempted.size > 0) for (const event of withdrawStale(pass.state, now)) pass.write(event);
  return pass;
}

/**
 * The heads whose start is certain (4, 5), and how long a lease granted now may last on what is held for each: the longer,
 * the later its start. For a state in which nobody fits who could be served.
 */
function certainStarts(before: HostState, now: EpochMs): ReadonlyMap<AllocationId, number> {
  const pass = new Pass(before, now);
  for (;;) {
    const head = pass.head();
    const claimants = inOrder(head, pass.beneficiary());
    if (!claimants.some((one) => pass.preemptFor(one) || (one === head && pass.reserveFor(one)))) break;
  }
  return pass.certain;
}

/** A head whose start is certain in `before`, and later or not certain any more in `after`; `null`: there is none. */
export function putOff(before: HostState, after: HostState, now: EpochMs): AllocationId | null {
  const planned = certainStarts(before, now);
  if (planned.size === 0) return null;
  const then = certainStarts(after, now);
  for (const [id, longestMs] of planned) if ((then.get(id) ?? Infinity) > longestMs) return id;
  return null;
}

function isBefore(a: Waiting, b: Waiting): boolean {
  return compareKeys(a.key, b.key) < 0;
}

/** The head, and who has had leases preempted: two, one or none. */
function inOrder(head: Waiting | undefined, beneficiary: Waiting | undefined): readonly Waiting[] {
  if (head === undefined || beneficiary === undefined) return [head ?? beneficiary].filter((one) => one !== undefined);
  if (head.key.id === beneficiary.key.id) return [head];
  return isBefore(head, beneficiary) ? [head, beneficiary] : [beneficiary, head];
}

/** Makes it when it is first asked for. */
function once<T>(make: () => T): () => T {
  let made: { readonly value: T } | null = null;
  return () => {
    made ??= { value: make() };
    return made.value;
  };
}

function uuidsOf(gpus: readonly FutureCandidate[]): ReadonlySet<GpuUuid> {
  return new Set(gpus.map(({ gpu }) => gpu.uuid));
}

type AllowancesOf = (member: WindowSet) => readonly Allowance[];

/** One look at the whole line. */
class Pass {
  readonly events: Event[] = [];
  readonly reservations: HeldFor[] = [];
  state: HostState;
  readonly #now: EpochMs;
  /** Without the requests for which preemption brings the GPUs: they are provided for. */
  #line: WaitingLine;
  #free: FreeGpus;
  /** What there will be once the leases have ended that there were when the pass began. */
  readonly #later: () => readonly FutureCandidate[];
  // Made when they are wanted: in most passes they are not.
  #certain: Map<AllocationId, number> | null = null;
  #heldGpus: Set<GpuUuid> | null = null;
  #seenToIds: Set<AllocationId> | null = null;
  readonly #preempts: boolean;
  readonly #budgets: Budgets;
  readonly #windows: WindowAllowances;
  /** For whom GPUs are held: of those that were free, and of all. */
  readonly #reserved: { readonly free: Occupancy[]; readonly all: Occupancy[] } = { free: [], all: [] };
  #knownAllowances: { readonly now: AllowancesOf; readonly later: AllowancesOf } | null = null;

  constructor(before: HostState, now: EpochMs) {
    const { line, policy } = before;
    this.state = before;
    this.#now = now;
    this.#line = line;
    this.#preempts = line.order.size > 0 && (policy.preemption !== null || line.preempting.size > 0);
    const free = line.order.size === 0 ? FreeGpus.none : freeGpus(before, now);
    this.#free = free;
    this.#later = once(() => (line.order.size === 0 ? [] : futureCandidates(before, free.all(), now)));
    this.#budgets = new Budgets(before, this.#later, now);
    this.#windows = new WindowAllowances(before, this.#later, now);
  }

  /** Of the heads whose start is certain, what their reservations let others have. */
  get certain(): Map<AllocationId, number> {
    this.#certain ??= new Map();
    return this.#certain;
  }

  get #held(): Set<GpuUuid> {
    this.#heldGpus ??= new Set();
    return this.#heldGpus;
  }

  get #seenTo(): Set<AllocationId> {
    this.#seenToIds ??= new Set();
    return this.#seenToIds;
  }

  get goesOn(): boolean {
    return (!this.#free.isEmpty || this.#preempts) && this.#line.order.size > 0;
  }

  isFirst({ key }: Waiting): boolean {
    return this.#line.order.first()?.[0].id === key.id;
  }

  write(event: Event): void {
    this.events.push(event);
    this.state = evolve(this.state, event);
    this.#budgets.follow(this.state);
    this.#knownAllowances = null;
  }

  head(): Waiting | undefined {
    return firstWaiting(
      this.#line,
      (shape) => this.#limitsLater(shape),
      (waiting) => this.#budgets.isOpen(waiting),
    );
  }

  /** Of every class of the line, the first that fits now. */
  fitting(): readonly Waiting[] {
    const found = firstsWaiting(this.#line, (shape) => this.#limitsNow(shape));
    const isClosed = (waiting: Waiting) => !this.#budgets.isOpen(waiting);
    return found.some(isClosed) ? found.filter((waiting) => !isClosed(waiting)) : found;
  }

  /** The first request for which leases are preempted. */
  beneficiary(): Waiting | undefined {
    return this.#line.preempting.first()?.[1];
  }

  /** See 3: whether anything is done. */
  preemptFor(waiting: Waiting): boolean {
    if (!this.#preempts) return false;
    const { allocation } = waiting;
    const { request, preemptingSince } = allocation;
    const preemption = this.#isServedLater(waiting) ? this.#preemption(allocation) : null;
    if (preemption === null && preemptingSince === null) return false;
    this.#line = dequeue(this.#line, request, this.state.policy);
    if (preemption === null && !cannotTell(this.state, this.#now)) {
      for (const event of callOff(request.id, this.state, this.#now)) this.write(event);
      const waitsOn = { ...allocation, preemptingSince: null };
      this.#line = enqueue(this.#line, waitsOn, this.state, this.state.gpus.models());
      return true;
    }
    for (const event of preemption?.events ?? []) this.write(event);
    const gpus = preemption?.gpus ?? uuidsOf(usable(request, this.#unheld(), this.state.gpus.models()));
    this.#hold(request, { head: request.id, gpus, longestMs: 0 });
    this.#seenTo.add(request.id);
    return true;
  }

  /** See 4: whether the next head is to be looked for. */
  reserveFor({ allocation }: Waiting): boolean {
    if (!this.#hasWaited(allocation)) return false;
    const { request } = allocation;
    const coming = this.#comingTo(request);
    const reservation = reserve(request, coming, this.state, this.#now);
    if (reservation.isCertain) this.certain.set(request.id, reservation.longestMs);
    if (reservation.isCertain || waitsForPassersOnly(allocation, coming, this.state, this.#now)) {
      this.#hold(request, reservation);
      return true;
    }
    this.#note(allocation);
    for (const uuid of reservation.gpus) this.#held.add(uuid);
    return true;
  }

  /** See 2. @param fits of `fitting`, the first in line. */
  serve(fitting: readonly Waiting[], fits: Waiting, newcomer: AllocationId | null): void {
    const next = widestFor(fits, fitting, this.#fittingHeads(), this.state.policy, this.#now);
    // Also behind a head that others are let past: else wider ones could pass it without end.
    if (next !== fits) this.#note(fits.allocation);
    this.#grant(next, next.allocation.request.id === newcomer);
  }

  #fittingHeads(): readonly Waiting[] {
    const heads: Waiting[] = [];
    if (this.#line.heads.size === 0) return heads;
    this.#line.heads.forEach((waiting) => {
      if (this.#fitsNow(waiting)) heads.push(waiting);
    });
    return heads;
  }

  /** See 4: patience runs from when the head is the head, also while no GPU is free that others could be let have. */
  noteHead(): void {
    if (!this.#isNewHead(this.#line.order.first()?.[1])) return;
    const head = this.head();
    if (head === undefined || !this.#isNewHead(head)) return;
    const { request } = head.allocation;
    if (reserve(request, this.#comingTo(request), this.state, this.#now).isCertain) return;
    this.#note(head.allocation);
  }

  #isNewHead(waiting: Waiting | undefined): boolean {
    return waiting !== undefined && waiting.allocation.headSince === null && this.#hasWaited(waiting.allocation);
  }

  #hasWaited({ request }: QueuedAllocation): boolean {
    return this.#now - request.submittedAt >= this.state.policy.reserveAfterMs;
  }

  /** What `request` may have once leases have ended, of what is held for nobody else. */
  #comingTo(request: Request): readonly FutureCandidate[] {
    const { closed } = this.#allowanceFor(request, this.#allowances().later);
    return this.#unheld().filter(({ gpu }) => !closed.has(gpu.uuid));
  }

  /** Its patience runs; since when stays what it was first. */
  #note(allocation: QueuedAllocation): void {
    if (allocation.headSince !== null) return;
    const { request } = allocation;
    const isWholeLine = this.#line === this.state.line;
    this.write({ type: "became-head", id: request.id, at: this.#now });
    const { line, policy, gpus } = this.state;
    const rest = dequeue(this.#line, request, policy);
    this.#line = isWholeLine ? line : enqueue(rest, { ...allocation, headSince: this.#now }, this.state, gpus.models());
  }

  #grant({ allocation: { request } }: Waiting, atOnce: boolean): void {
    const chosen = choose(request, this.#free, this.#allowanceFor(request, this.#allowances().now), this.state);
    // `firstWaiting` is exact, so this is a bug and not bad luck.
    if (chosen === null) throw new Error(`${request.id} was found to fit and could not be placed`);
    const isWholeLine = this.#line === this.state.line;
    this.write(grant(request, chosen, this.state, this.#now, atOnce));
    this.#line = isWholeLine ? this.state.line : dequeue(this.#line, request, this.state.policy);
    if (this.#line.order.size === 0) return;
    // A shared GPU too: until the new share has settled nobody else starts there.
    this.#free = withRoomIn(this.state, this.#free.without(chosen.map(({ gpu }) => gpu.uuid)));
  }

  #unheld(): readonly FutureCandidate[] {
    return this.#later().filter(({ gpu }) => !this.#held.has(gpu.uuid));
  }

  #limitsNow(shape: FamilyShape): readonly Limit[] {
    const { now } = this.#allowances();
    return this.#budgets.within(shape, () => limitsNow(shape, this.#free, now(shape.memberOf)));
  }

  #fitsNow(waiting: Waiting): boolean {
    const shape = this.#line.families.get(waiting.familyKey)?.shape;
    if (shape === undefined || !this.#budgets.isOpen(waiting)) return false;
    return isWithin(askOf(waiting.allocation.request), this.#limitsNow(shape));
  }

  #limitsLater(shape: FamilyShape): readonly Limit[] {
    const { later } = this.#allowances();
    return this.#budgets.within(shape, () => limitsLater(shape, this.#later(), this.#held, later(shape.memberOf)));
  }

  #isServedLater(waiting: Waiting): boolean {
    const shape = this.#line.families.get(waiting.familyKey)?.shape;
    if (shape === undefined || !this.#budgets.isOpen(waiting)) return false;
    return isWithin(askOf(waiting.allocation.request), this.#limitsLater(shape));
  }

  #hold(request: Request, reservation: Reservation): void {
    const allowance = this.#allowanceFor(request, this.#allowances().now);
    this.#budgets.setAside(request);
    for (const uuid of reservation.gpus) this.#held.add(uuid);
    const wanted = this.#free.all().filter(({ gpu }) => reservation.gpus.has(gpu.uuid));
    const allowed = withinAllowance(wanted, allowance, Infinity, ({ availableMib }) => availableMib);
    const gpus = new Set(allowed.map(({ gpu }) => gpu.uuid));
    const kept = new Set(wanted.map(({ gpu }) => gpu.uuid).filter((uuid) => !gpus.has(uuid)));
    const held = new Set([...reservation.gpus].filter((uuid) => !kept.has(uuid)));
    const member = memberOf(request, this.state.windows);
    // A shared GPU is counted already, for those who share it.
    const whole = allowed.filter(({ shared }) => !shared).map(({ gpu }) => gpu.uuid);
    const occupancy = this.#windows.occupancyOf(new Set(whole), member);
    this.reservations.push({ ...reservation, gpus: held, occupancy });
    this.#free = FreeGpus.of(besides({ ...reservation, gpus: held }, this.#free.all()));
    this.#reserved.free.push(occupancy);
    this.#reserved.all.push(this.#windows.occupancyOf(reservation.gpus, member));
    this.#knownAllowances = null;
  }

  /** The allowances beside leases and reservations (`now`), and beside reservations alone, as if no lease were there. */
  #allowances(): { readonly now: AllowancesOf; readonly later: AllowancesOf } {
    this.#knownAllowances ??= {
      now: this.#windows.beside([...this.#windows.occupancies(this.state), ...this.#reserved.free]),
      later: this.#windows.beside(this.#reserved.all),
    };
    return this.#knownAllowances;
  }

  #allowanceFor(request: Request, allowances: AllowancesOf): Allowance {
    return allowanceFor(allowances(memberOf(request, this.state.windows)), askOf(request).durationMs);
  }

  /** The preemption for a request, if windows would let it start on the GPUs that this brings. */
  #preemption(allocation: QueuedAllocation): Preemption | null {
    const { request } = allocation;
    const allowance = this.#allowanceFor(request, this.#allowances().now);
    const gpus = this.#unheld().filter(({ gpu }) => !allowance.closed.has(gpu.uuid));
    if (allowance.most === Infinity) return preempt(allocation, gpus, this.#seenTo, this.state, this.#now);
    const allowed = new Set(
      withinAllowance(this.#free.all(), allowance, Infinity, ({ availableMib }) => availableMib).map(
        ({ gpu }) => gpu.uuid,
      ),
    );
    const kept = new Set(
      this.#free
        .all()
        .map(({ gpu }) => gpu.uuid)
        .filter((uuid) => !allowed.has(uuid)),
    );
    const member = memberOf(request, this.state.windows);
    // GPUs of a window's members stay that window's when their leases end: a request outside it gains nothing.
    const helps = ({ gpu }: FutureCandidate) => !kept.has(gpu.uuid) && (this.#memberHolding(gpu.uuid) & ~member) === 0;
    const preemption = preempt(allocation, gpus.filter(helps), this.#seenTo, this.state, this.#now);
    if (preemption === null) return null;
    const staying = this.#windows.occupancies(this.state, preemption.leaving);
    const then = this.#allowanceFor(request, this.#windows.beside([...staying, ...this.#reserved.free]));
    const freed = gpus.filter(({ gpu }) => preemption.gpus.has(gpu.uuid));
    return withinAllowance(freed, then, Infinity, ({ memoryMib }) => memoryMib).length === freed.length
      ? preemption
      : null;
  }

  /** The windows whose members hold a GPU. */
  #memberHolding(uuid: GpuUuid): WindowSet {
    const hold = this.state.gpus.get(uuid)?.hold;
    let windows: WindowSet = 0;
    for (const { allocationId } of hold === undefined ? [] : holdersOf(hold)) {
      const holder = this.state.allocations.get(allocationId);
      if (holder !== undefined) windows |= memberOf(holder.request, this.state.windows);
    }
    return windows;
  }
}
