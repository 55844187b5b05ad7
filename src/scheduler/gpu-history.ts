/**
 * What each GPU was, and whose: looked at every two seconds, and written down when it is something else.
 *
 *  1. Beside the turns, not in them: no grant waits for what only draws a time line, and none fails with it.
 *  2. A change bears the time since when it is so, as far as the state says it, and never one before the change ahead.
 *  3. The time in which the daemon did not run is unknown. How long that was is known to the minute: so often is it
 *     noted that the daemon runs.
 *  4. What is not written, because the disk is full, is found to be different at the next look, and written then.
 */
import type { EpochMs } from "../core/base/time.ts";
import { blockOf } from "../core/host/condition.ts";
import type { HostState } from "../core/host/state.ts";
import type { Gpu } from "../core/model/gpu.ts";
import { holdersOf } from "../core/model/holds.ts";
import type { GpuUuid } from "../core/model/ids.ts";
import type { Cancel, Clock } from "../platform/clock.ts";
import type { GpuChange, HistoryStore } from "../ports/history.ts";

const LOOK_MS = 2_000;
const NOTE_MS = 60_000;
/** Changes that one question is answered with at most; of more, the newest. */
const MAX_CHANGES = 20_000;

/** What a GPU was for a while. */
export interface GpuSpan extends Omit<GpuChange, "at"> {
  readonly from: EpochMs;
  readonly to: EpochMs;
}

export interface GpuHistoryParts {
  readonly store: HistoryStore;
  readonly clock: Clock;
  readonly state: () => HostState;
}

export class GpuHistory {
  readonly #parts: GpuHistoryParts;
  readonly #last = new Map<GpuUuid, GpuChange>();
  #notedAt: EpochMs | null = null;
  #next: Cancel | null = null;
  #isWriting = false;

  constructor(parts: GpuHistoryParts) {
    this.#parts = parts;
  }

  /** Looks from now on. */
  start(): void {
    this.#look();
    this.#next = this.#parts.clock.after(LOOK_MS, () => this.start());
  }

  stop(): void {
    this.#next?.();
    this.#next = null;
  }

  /**
   * What the GPUs were from `from` to `to`, each without a gap: what is not known is `unknown`.
   *
   * @throws StorageUnavailableError
   */
  spans(from: EpochMs, to: EpochMs): ReadonlyMap<GpuUuid, readonly GpuSpan[]> {
    const { store, state, clock } = this.#parts;
    const uuids = [...state().gpus.values()].filter(({ mig }) => mig === null).map(({ uuid }) => uuid);
    const end = Math.min(to, clock.now());
    const changes = store.gpuChanges(from, end, MAX_CHANGES);
    const isCut = changes.length === MAX_CHANGES;
    const before = isCut ? [] : store.lastChanges(uuids, from);
    const byGpu = Map.groupBy([...before, ...changes], ({ uuid }) => uuid);
    return new Map(uuids.map((uuid) => [uuid, spansOf(uuid, byGpu.get(uuid) ?? [], from, end)]));
  }

  #look(): void {
    if (this.#isWriting) return;
    const { clock, state } = this.#parts;
    const now = clock.now();
    const changes: GpuChange[] = [];
    for (const gpu of state().gpus.values()) {
      if (gpu.mig !== null) continue;
      const last = this.#last.get(gpu.uuid);
      const is = changeOf(gpu, state(), now);
      if (last !== undefined && isSame(last, is)) continue;
      changes.push({ ...is, at: Math.max(is.at, (last?.at ?? now - 1) + 1) });
    }
    const isDue = this.#notedAt === null || now - this.#notedAt >= NOTE_MS;
    if (changes.length > 0 || isDue) void this.#write(changes, now);
  }

  async #write(changes: readonly GpuChange[], now: EpochMs): Promise<void> {
    const { store } = this.#parts;
    this.#isWriting = true;
    try {
      const absence = this.#notedAt === null ? absenceOf(changes, store.historyUntil()) : [];
      await store.keepHistory([...absence, ...changes], now);
      for (const change of changes) this.#last.set(change.uuid, change);
      this.#notedAt = now;
    } catch {
      // See 4. That the store takes no changes is said by the turns.
    } finally {
      this.#isWriting = false;
    }
  }
}

/** What was not seen between two runs. */
function absenceOf(changes: readonly GpuChange[], until: EpochMs | null): GpuChange[] {
  if (until === null) return [];
  return changes
    .filter(({ at }) => at > until)
    .map(({ uuid }) => ({ uuid, at: until, state: "unknown", services: [], isIdle: false }));
}

function changeOf(gpu: Gpu, state: HostState, now: EpochMs): GpuChange {
  const blocked = blockOf(gpu, state, now);
  const devices = [gpu, ...state.gpus.instancesOf(gpu.uuid)];
  const allocations = devices
    .flatMap(({ hold }) => holdersOf(hold))
    .flatMap(({ allocationId }) => state.allocations.get(allocationId) ?? []);
  const services = [...new Set(allocations.map(({ request }) => request.serviceName))].sort();
  const isIdle =
    allocations.length > 0 && allocations.every((one) => one.status === "leased" && one.idleSince !== null);
  const name = blocked === null ? "free" : blocked.block === "held" ? "leased" : blocked.block;
  return { uuid: gpu.uuid, at: Math.min(now, blocked?.since ?? now), state: name, services, isIdle };
}

function isSame(a: GpuChange, b: GpuChange): boolean {
  return a.state === b.state && a.isIdle === b.isIdle && a.services.join() === b.services.join();
}

function spansOf(uuid: GpuUuid, changes: readonly GpuChange[], from: EpochMs, to: EpochMs): GpuSpan[] {
  const spans: GpuSpan[] = [];
  const unknown = { uuid, state: "unknown", services: [], isIdle: false };
  const first = changes[0]?.at ?? to;
  if (first > from) spans.push({ ...unknown, from, to: Math.min(first, to) });
  for (const [i, { at, ...is }] of changes.entries()) {
    const span = { ...is, from: Math.max(from, at), to: Math.min(to, changes[i + 1]?.at ?? to) };
    if (span.to > span.from) spans.push(span);
  }
  return spans;
}
