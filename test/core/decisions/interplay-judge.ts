/**
 * What must hold of any history in which several features are on at once, said once more apart from the program: a
 * judge follows the decisions of a host, and throws at the first that breaks a promise.
 */
import { expect } from "vitest";
import { futureCandidates } from "../../../src/core/allocator/candidates.ts";
import type { EpochMs } from "../../../src/core/base/time.ts";
import type { Command } from "../../../src/core/decisions/commands.ts";
import { explainer } from "../../../src/core/explain/explain.ts";
import { candidates } from "../../../src/core/host/candidates.ts";
import { restoredHost } from "../../../src/core/host/changes.ts";
import { blockOf, isolationOf } from "../../../src/core/host/condition.ts";
import type { Event } from "../../../src/core/host/events.ts";
import { compareKeys, queueKey } from "../../../src/core/host/line.ts";
import type { HostState } from "../../../src/core/host/state.ts";
import type { HoldingAllocation, Request } from "../../../src/core/model/allocation.ts";
import { DomainError } from "../../../src/core/model/errors.ts";
import type { Gpu } from "../../../src/core/model/gpu.ts";
import { holdersOf } from "../../../src/core/model/holds.ts";
import type { AllocationId } from "../../../src/core/model/ids.ts";
import type { KeptWindow, Quota } from "../../../src/core/model/policy.ts";
import { schedule } from "../../../src/core/queue/schedule.ts";
import { SimulatedHost } from "../../simulation/simulated-host.ts";
import { checkCandidates } from "../../simulation/whole-checks.ts";

/** A lease as the events tell of it. */
interface Held {
  readonly request: Request;
  readonly uuids: readonly string[];
  /** Whole GPUs that it is charged for. */
  readonly parts: number;
  readonly from: EpochMs;
  to: EpochMs | null;
}

const RELIEFS: ReadonlySet<Event["type"]> = new Set([
  "gpu-freed",
  "gpu-removed",
  // Of an instance: those beside it do not wait for it any longer, and go by the memory that is seen.
  "gpu-quarantined",
  "gpu-uncordoned",
  "host-uncordoned",
  "quarantine-cleared",
  "gpu-fault-answered",
]);

/** A host every decision of which is judged. */
export class JudgedHost extends SimulatedHost {
  readonly #held = new Map<AllocationId, Held>();
  readonly #requests = new Map<AllocationId, Request>();
  readonly #ended = new Set<AllocationId>();
  readonly seen = new Map<string, number>();

  override do(command: Command): readonly Event[] {
    // Not there yet while the host is being built.
    if (this.seen === undefined) return super.do(command);
    const before = this.state;
    const events = this.#obeyed(command, before);
    for (const event of events) this.#follow(event);
    const settings = command.type === "reconfigure" ? this.state : before;
    this.#judgeGrants(events, { ...before, sight: this.state.sight, policy: settings.policy });
    this.#judgeLending(command, events, before);
    this.#judgeBooks();
    checkCandidates(this.state);
    return events;
  }

  /** 12. A refused command changes nothing, and nothing but a refusal is thrown. */
  #obeyed(command: Command, before: HostState): readonly Event[] {
    const logged = this.log?.length;
    try {
      return super.do(command);
    } catch (error) {
      if (!(error instanceof DomainError)) throw error;
      expect(this.state).toBe(before);
      expect(this.log.length).toBe(logged);
      throw error;
    }
  }

  /** The daemon is killed and started again; a cordon of the host is durable too. */
  override restart(bootId = "boot-1"): void {
    const { policy, allocations, gpus, nextFencingToken, bootId: before, cordon, bookings } = this.state;
    const durable = { allocations: [...allocations.values()], gpus: [...gpus.values()] };
    this.state = restoredHost({ ...durable, nextFencingToken, bootId: before, cordon, bookings }, policy);
    this.do({ type: "resume", bootId, fencingFloor: this.now });
    this.count();
    this.observe();
  }

  /** Everybody who waits is told why, and by nobody's reasons could he have had what is free. */
  judgeReasons(): void {
    const { explanationOf } = explainer(this.state, this.now);
    for (const { allocation } of this.state.line.order.values()) {
      const { request } = allocation;
      const { reason, gpus } = explanationOf(request);
      expect(reason).not.toBe("");
      expect(gpus.size).toBe(this.state.gpus.size);
      const open = [...gpus.values()].filter((why) => why === null).length;
      expect(open, `${request.id} waits: ${reason}`).toBeLessThan(request.requirement.gpus);
    }
  }

  /** Each that was taken on can hold: at its beginning there are GPUs enough, whatever leases beside it may last. */
  judgeBookings(): void {
    const { state, now } = this;
    const usable = futureCandidates(state, candidates(state, now), now).map(({ gpu }) => gpu);
    const last = state.bookings.at(-1);
    if (last === undefined || last.madeAt !== now) return;
    const open = state.bookings.filter(({ from, to }) => from <= last.from && last.from < to);
    const staying = (uuid: string) =>
      holdersOf(state.gpus.get(uuid)?.hold ?? { kind: "free" }).some(({ allocationId }) => {
        const one = state.allocations.get(allocationId);
        const isMine = open.some(
          ({ principal, serviceName }) =>
            one?.request.principal === principal &&
            (serviceName ?? one.request.serviceName) === one.request.serviceName,
        );
        return one !== undefined && one.status !== "queued" && !isMine && lastsTo(one, last.from);
      });
    for (const { gpus } of open) {
      if (typeof gpus === "number") continue;
      for (const uuid of gpus) expect(staying(uuid), `${uuid} is booked, and leased on`).toBe(false);
    }
    const named = new Set(state.bookings.flatMap(({ gpus }) => (typeof gpus === "number" ? [] : gpus)));
    const left = usable.filter(({ uuid, mig }) => mig === null && !named.has(uuid) && !staying(uuid));
    const wanted = open.reduce((sum, { gpus }) => sum + (typeof gpus === "number" ? gpus : 0), 0);
    if (typeof last.gpus === "number") expect(left.length).toBeGreaterThanOrEqual(wanted);
  }

  #note(what: string): void {
    this.seen.set(what, (this.seen.get(what) ?? 0) + 1);
  }

  #follow(event: Event): void {
    this.#note(event.type);
    if (event.type === "submitted") this.#requests.set(event.request.id, event.request);
    if (event.type === "preempting") this.#judgePreemption(event);
    if (event.type === "ended") {
      // 3. Every request ends exactly once.
      expect(this.#ended.has(event.id), `${event.id} ends twice`).toBe(false);
      this.#ended.add(event.id);
      this.#note(`ended: ${event.outcome.reason}`);
      if (event.outcome.reason === "preempted") expect(this.#requestOf(event.id).preemptible).toBe(true);
      const held = this.#held.get(event.id);
      if (held !== undefined) held.to = event.outcome.at;
    }
    if (event.type !== "granted") return;
    const request = this.#requestOf(event.id);
    const { gpus, sharedMib, grantedAt: from } = event.lease;
    const parts = gpus.reduce((sum, { memoryTotalMib }) => {
      return sum + (sharedMib === null || memoryTotalMib === null ? 1 : Math.min(1, sharedMib / memoryTotalMib));
    }, 0);
    this.#note(`granted: ${request.adoption === undefined ? request.sharing : "adopted"}`);
    if (gpus.some(({ mig }) => mig !== null)) this.#note("granted: instance");
    if (this.state.allocations.get(event.id)?.status === "offered") this.#note("granted: from the line");
    const held = { request, uuids: gpus.map(({ uuid }) => uuid), parts, from, to: null };
    this.#held.set(event.id, held);
    // An adoption is no grant: the GPU was in use already.
    if (request.adoption === undefined) this.#judgeQuotas(held);
  }

  #requestOf(id: AllocationId): Request {
    const request = this.#requests.get(id);
    if (request === undefined) throw new Error(`${id} was never submitted`);
    return request;
  }

  #judgePreemption({ id, for: beneficiary }: Extract<Event, { type: "preempting" }>): void {
    const victim = this.#requestOf(id);
    const urgent = this.#requestOf(beneficiary);
    expect(victim.preemptible, `${id} did not agree to be preempted`).toBe(true);
    expect(urgent.requirement.priority).toBeGreaterThan(victim.requirement.priority);
  }

  #judgeQuotas({ request, from: now, parts }: Held): void {
    for (const [kind, name] of [
      ["principal", request.principal],
      ["service", request.serviceName],
    ] as const) {
      const { maxGpus, gpuTime } = this.#quotaOf(kind, name);
      const own = [...this.#held.values()].filter(
        ({ request: other }) => (kind === "principal" ? other.principal : other.serviceName) === name,
      );
      const running = own.reduce((sum, { to, uuids }) => sum + (to === null ? uuids.length : 0), 0);
      if (maxGpus !== null) expect(running, `${kind} ${name} runs`).toBeLessThanOrEqual(maxGpus);
      if (gpuTime === null) continue;
      const charged = own.reduce((sum, held) => sum + charge(held, now, gpuTime.periodMs), 0);
      const promised = parts * Math.min(gpuTime.periodMs, request.maxDurationMs ?? 0);
      expect(charged - promised, `${kind} ${name} had nothing left`).toBeLessThan(gpuTime.limitMs);
      // Parts are rounded.
      expect(charged, `${kind} ${name} is charged`).toBeLessThanOrEqual(gpuTime.limitMs + own.length);
    }
  }

  #quotaOf(kind: "principal" | "service", name: string): Quota {
    const { principals, services, defaultPrincipal, defaultService } = this.state.policy.quotas;
    return kind === "principal" ? (principals[name] ?? defaultPrincipal) : (services[name] ?? defaultService);
  }

  /** 6, and reserved windows: what is granted may be granted. */
  #judgeGrants(events: readonly Event[], before: HostState): void {
    const freed: string[] = [];
    const granted: HoldingAllocation[] = [];
    for (const event of events) {
      if (RELIEFS.has(event.type)) freed.push("uuid" in event ? event.uuid : "*");
      if (event.type === "ended") freed.push(...(this.#held.get(event.id)?.uuids ?? []));
      if (event.type !== "granted" || this.#requestOf(event.id).adoption !== undefined) continue;
      for (const { uuid } of event.lease.gpus) {
        const gpu = before.gpus.get(uuid);
        const relieved = freed.some((other) => other === "*" || boardOf(before, other) === boardOf(before, uuid));
        if (gpu === undefined || relieved) continue;
        const block = blockOf(gpu, before, this.now);
        if (gpu.hold.kind === "shared" && event.lease.sharedMib !== null) expect(block?.block).toBe("held");
        else expect(block, `${uuid} was granted`).toBeNull();
        const isolation = event.lease.gpus.length === 1 ? null : isolationOf(gpu, before);
        expect(isolation, `${uuid} was granted together with others`).toBeNull();
      }
      const holder = this.state.allocations.get(event.id);
      if (holder !== undefined && holder.status !== "queued") granted.push(holder);
    }
    if (granted.length > 0 && this.state.windows.length > 0) this.#judgeWindows(granted);
  }

  /** No outsider is let into what windows keep, at any instant that his lease can last to. */
  #judgeWindows(granted: readonly HoldingAllocation[]): void {
    const { state, now } = this;
    const { windows } = state;
    this.#note("judged by windows");
    const instants = new Set([now, ...windows.flatMap(({ spans }) => spans.map(({ from }) => from))]);
    const usable = futureCandidates(state, candidates(state, now), now).map(
      ({ gpu }) => state.gpus.get(gpu.uuid) ?? gpu,
    );
    const pool = usable.filter(
      ({ mig, ...gpu }) => mig === null && !windows.some((one) => isNamed(one, { mig, ...gpu })),
    );
    for (const at of instants) {
      if (at < now) continue;
      const open = windows.filter(({ spans }) => spans.some(({ from, to }) => from <= at && at < to));
      const there = granted.filter((one) => lastsTo(one, at));
      for (const { request, lease } of there) {
        for (const { uuid } of lease.gpus) {
          const naming = open.filter((window) => isNamed(window, state.gpus.get(uuid)));
          const isLetIn = naming.length === 0 || naming.some((window) => isMember(window, request));
          expect(isLetIn, `${request.id} has ${uuid} in a window that names it`).toBe(true);
        }
      }
      for (let set = 1; set < 1 << open.length; set++) {
        const some = open.filter(({ gpus }, index) => set & (1 << index) && typeof gpus === "number");
        const kept = some.reduce((sum, { gpus }) => sum + (gpus as number), 0);
        const isOutside = (one: HoldingAllocation) => !some.some((window) => isMember(window, one.request));
        const isIn = ({ lease }: HoldingAllocation) =>
          lease.gpus.some(({ uuid }) => pool.some((gpu) => gpu.uuid === uuid));
        if (kept === 0 || !there.some((one) => isOutside(one) && isIn(one))) continue;
        const taken = pool.filter(({ hold }) => {
          const holders = holdersOf(hold).map(({ allocationId }) => state.allocations.get(allocationId));
          const leases = holders.filter(
            (one): one is HoldingAllocation => one !== undefined && one.status !== "queued",
          );
          const isAnyones = some.some((window) => leases.every(({ request }) => isMember(window, request)));
          return leases.some((one) => lastsTo(one, at)) && !isAnyones;
        });
        expect(pool.length - taken.length, "an outsider has what windows keep").toBeGreaterThanOrEqual(kept);
      }
    }
  }

  /** What is held for somebody who still waits goes to those before him, or to who gives it back in time. */
  #judgeLending(command: Command, events: readonly Event[], before: HostState): void {
    const grants = events.filter((event) => event.type === "granted");
    // What ends, or is seen or set anew, may change who holds what.
    const isQuiet = events.every(({ type }) => type === "submitted" || type === "granted");
    if (!isQuiet || grants.length === 0 || command.type !== "allocate") return;
    for (const { head, gpus, longestMs } of schedule(before, this.now, null).reservations) {
      const waiting = this.state.allocations.get(head);
      if (waiting?.status !== "queued") continue;
      // For somebody more urgent what is held may change, and leave too few for this one to be a head.
      const newcomer = queueKey(this.#requestOf(command.id), this.state.policy);
      if (compareKeys(newcomer, queueKey(waiting.request, this.state.policy)) < 0) continue;
      for (const { id, lease } of grants) {
        const request = this.#requestOf(id);
        const place = queueKey(request, this.state.policy);
        if (compareKeys(place, queueKey(waiting.request, this.state.policy)) < 0) continue;
        if (!lease.gpus.some(({ uuid }) => gpus.has(uuid))) continue;
        this.#note("lent");
        const lasts = request.maxDurationMs ?? Infinity;
        expect(lasts, `${id} has what is held for ${head}`).toBeLessThanOrEqual(longestMs);
      }
    }
  }

  /** 1, both sides of the books, and notices. */
  #judgeBooks(): void {
    const { state } = this;
    const holders = new Map<string, HoldingAllocation[]>();
    for (const allocation of state.allocations.values()) {
      if (allocation.status === "queued") continue;
      for (const { uuid } of allocation.lease.gpus) holders.set(uuid, [...(holders.get(uuid) ?? []), allocation]);
      const { notice } = allocation;
      if (notice?.kind !== "preempt") continue;
      expect(state.allocations.get(notice.for)?.status, "preempted for nobody").toBe("queued");
      expect(state.preempted.get(allocation.request.id)).toBe(notice.for);
    }
    const promised = new Map<string, number>();
    for (const { uuid, hold, memoryTotalMib, mig } of state.gpus.values()) {
      const here = holders.get(uuid) ?? [];
      const ids = here.map(({ request }) => request.id).sort();
      expect(
        holdersOf(hold)
          .map(({ allocationId }) => allocationId)
          .sort(),
      ).toEqual(ids);
      if (hold.kind === "leased") expect(here.map(({ lease }) => lease.sharedMib)).toEqual([null]);
      if (hold.kind === "shared") {
        const parts = [
          ...here.map(({ lease }) => lease.sharedMib ?? Infinity),
          ...hold.remains.map((one) => one.memoryMib),
        ];
        const total = memoryTotalMib ?? 0;
        const shareableMib = total - Math.max(512, Math.ceil(total * 0.05));
        expect(parts.reduce((sum, mib) => sum + mib)).toBeLessThanOrEqual(shareableMib);
      }
      if (mig === null || here[0] === undefined) continue;
      const parent = state.gpus.get(mig.parentUuid)?.hold;
      if (parent !== undefined) expect(holdersOf(parent), "an instance is leased beside its GPU").toEqual([]);
      const memory = `${mig.parentUuid}/${mig.gpuInstanceId}`;
      // What somebody used without asking was not promised.
      const { requirement, adoption } = here[0].request;
      promised.set(memory, (promised.get(memory) ?? 0) + (adoption === undefined ? requirement.memoryMib : 0));
      expect(promised.get(memory), `the memory of ${memory} is promised twice`).toBeLessThanOrEqual(
        memoryTotalMib ?? 0,
      );
    }
  }
}

function boardOf({ gpus }: HostState, uuid: string): string {
  return gpus.get(uuid)?.mig?.parentUuid ?? uuid;
}

function isNamed({ gpus }: KeptWindow, gpu: Pick<Gpu, "uuid" | "index" | "mig"> | undefined): boolean {
  if (typeof gpus === "number" || gpu === undefined) return false;
  return [gpu.uuid, gpu.mig?.parentUuid, String(gpu.index)].some((name) => name !== undefined && gpus.includes(name));
}

function isMember({ members }: KeptWindow, { serviceName, principal }: Request): boolean {
  return members.some(
    ({ services, principals }) =>
      (services.length === 0 || services.includes(serviceName)) &&
      (principals.length === 0 || principals.includes(principal)),
  );
}

function lastsTo({ request, lease }: HoldingAllocation, at: EpochMs): boolean {
  return lease.grantedAt + (request.maxDurationMs ?? Infinity) > at;
}

/** Periods follow Monday, 5 January 1970. */
function charge({ parts, request, from, to }: Held, now: EpochMs, periodMs: number): number {
  const since = now - ((now - Date.UTC(1970, 0, 5)) % periodMs);
  const hardEnd = from + (request.maxDurationMs ?? 0);
  const until = to ?? Math.max(now, hardEnd);
  return parts * Math.max(0, Math.min(periodMs, until - Math.max(since, from)));
}
