/**
 * What each GPU was, and whose, as it is told; and the looks that write down what no turn did (gpu-changes.ts, 1).
 *
 *  1. A look is beside the turns: no grant waits for what only draws a time line, and none fails with it.
 *  2. The time in which the daemon did not run is unknown. Until when it ran is noted with each change, each minute, and
 *     when it stops.
 */
import type { EpochMs } from "../core/base/time.ts";
import type { HostState } from "../core/host/state.ts";
import type { GpuUuid } from "../core/model/ids.ts";
import type { Cancel, Clock } from "../platform/clock.ts";
import type { GpuChange, HistoryStore } from "../ports/history.ts";
import { type GpuChanges, SHORTEST_MS } from "./gpu-changes.ts";

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
  readonly scheduler: { readonly state: HostState; readonly gpuChanges: GpuChanges };
}

export class GpuHistory {
  readonly #parts: GpuHistoryParts;
  #notedAt: EpochMs | null = null;
  #next: Cancel | null = null;
  #isWriting = false;

  constructor(parts: GpuHistoryParts) {
    this.#parts = parts;
  }

  /** Looks from now on. */
  start(): void {
    this.#look();
    this.#next = this.#parts.clock.after(SHORTEST_MS, () => this.start());
  }

  /** Returns once it is noted until when the daemon ran. */
  async stop(): Promise<void> {
    if (this.#next === null) return;
    this.#next();
    this.#next = null;
    const { clock, scheduler } = this.#parts;
    const now = clock.now();
    await this.#write(scheduler.gpuChanges.ofLook(scheduler.state, now), now);
  }

  /**
   * What the GPUs were from `from` to `to`, each without a gap: what is not known is `unknown`.
   *
   * @throws StorageUnavailableError
   */
  spans(from: EpochMs, to: EpochMs): ReadonlyMap<GpuUuid, readonly GpuSpan[]> {
    const { store, scheduler, clock } = this.#parts;
    const uuids = [...scheduler.state.gpus.values()].filter(({ mig }) => mig === null).map(({ uuid }) => uuid);
    const end = Math.min(to, clock.now());
    const changes = store.gpuChanges(from, end, MAX_CHANGES);
    const isCut = changes.length === MAX_CHANGES;
    const before = isCut ? [] : store.lastChanges(uuids, from);
    const byGpu = Map.groupBy([...before, ...changes], ({ uuid }) => uuid);
    return new Map(uuids.map((uuid) => [uuid, spansOf(uuid, byGpu.get(uuid) ?? [], from, end)]));
  }

  #look(): void {
    if (this.#isWriting) return;
    const { clock, scheduler } = this.#parts;
    const now = clock.now();
    const found = scheduler.gpuChanges.ofLook(scheduler.state, now);
    const isDue = this.#notedAt === null || now - this.#notedAt >= NOTE_MS;
    if (found.length > 0 || isDue) void this.#write(found, now);
  }

  async #write(found: readonly GpuChange[], now: EpochMs): Promise<void> {
    const { store, scheduler } = this.#parts;
    this.#isWriting = true;
    try {
      const absence = this.#notedAt === null ? absenceOf(found, store.historyUntil()) : [];
      await store.keepHistory([...absence, ...found], now);
      scheduler.gpuChanges.written(found);
      this.#notedAt = now;
    } catch {
      // Found again at the next look. That the store takes no changes is said by the turns.
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
