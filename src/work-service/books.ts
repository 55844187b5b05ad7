/** The one writer of work's books: a command is decided, stored and only then answered. */
import type { Clock } from "../platform/clock.ts";
import type { WorkCommand } from "../work/commands.ts";
import { decide } from "../work/decide.ts";
import type { WorkEvent } from "../work/events.ts";
import { restoredWork, type WorkState } from "../work/state.ts";
import { deliveriesFor } from "./deliveries.ts";
import type { Changes, KeptKey, WorkStore } from "./store.ts";

export class Books {
  readonly #store: WorkStore;
  readonly #clock: Clock;
  readonly #uploadsItself: ReadonlySet<string>;
  readonly #listeners = new Set<(events: readonly WorkEvent[]) => void>();
  #state: WorkState;

  /** @param uploadsItself executors of whose tasks no result is sent from here. */
  constructor(store: WorkStore, clock: Clock, uploadsItself: ReadonlySet<string> = new Set()) {
    this.#store = store;
    this.#uploadsItself = uploadsItself;
    this.#clock = clock;
    this.#state = restoredWork(store.load());
  }

  /** As it is on the disk. */
  get state(): WorkState {
    return this.#state;
  }

  get name(): string {
    return this.#store.books;
  }

  now(): number {
    return this.#clock.now();
  }

  /** @throws WorkError when it is refused, or cannot be stored: nothing has changed then. */
  command(command: WorkCommand, key: KeptKey | null = null): readonly WorkEvent[] {
    const now = this.now();
    const { events, state } = decide(this.#state, command, now);
    if (events.length === 0 && key === null) return events;
    const deliveries = deliveriesFor(events, state, now, this.#uploadsItself);
    const outlasts = key !== null || deliveries.length > 0 || outlastsPower(events, state);
    this.#store.commit(state, changedBy(events, state), key, now, deliveries, outlasts);
    this.#state = state;
    for (const listener of this.#listeners) listener(events);
    return events;
  }

  /** Hears of every turn after its commit. @returns what ends it. */
  onChange(listener: (events: readonly WorkEvent[]) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Resolves with the next turn, after `ms`, or with `signal`. */
  change(ms: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const done = () => {
        leave();
        cancel();
        signal.removeEventListener("abort", done);
        resolve();
      };
      const leave = this.onChange(done);
      const cancel = this.#clock.after(ms, done);
      signal.addEventListener("abort", done);
      if (signal.aborted) done();
    });
  }
}

/** What is told again, or comes out of the same questions, by a host that has lost it with its power. */
const TOLD_AGAIN: ReadonlySet<WorkEvent["type"]> = new Set([
  "worker-seen",
  "run-seen",
  "run-waits",
  "lease-queued",
  "run-assigned",
  "gpus-emptied",
  "task-status",
]);

/** Of a host that is alone: what others tell they do not tell again once they know that it is written down. */
function outlastsPower(events: readonly WorkEvent[], { workers }: WorkState): boolean {
  if (events.some(({ type }) => !TOLD_AGAIN.has(type))) return true;
  for (const { link } of workers.values()) if (link !== undefined) return true;
  return false;
}

/** What others than its own loop need of it. */
export type OpenBooks = Pick<Books, "state" | "name" | "now" | "command" | "onChange">;

function changedBy(events: readonly WorkEvent[], state: WorkState): Changes {
  const [tasks, workloads, runs, workers] = [
    new Set<string>(),
    new Set<string>(),
    new Set<string>(),
    new Set<string>(),
  ];
  const job = ({ kind, uid }: { readonly kind: "task" | "workload"; readonly uid: string }) =>
    (kind === "task" ? tasks : workloads).add(uid);
  for (const event of events) {
    if ("task" in event) tasks.add(event.task.id);
    if ("workload" in event) workloads.add(event.workload.uid);
    if ("worker" in event) workers.add(event.worker.node);
    if ("id" in event) tasks.add(event.id);
    if ("uid" in event) workloads.add(event.uid);
    if (event.type === "worker-removed") workers.add(event.node);
    if ("job" in event) job(event.job);
    if (!("run" in event)) continue;
    runs.add(event.run);
    const run = state.runs.get(event.run);
    if (run !== undefined) job(run.job);
  }
  return { tasks, workloads, runs, workers };
}
