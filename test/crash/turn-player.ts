/**
 * A process of its own that lets the real scheduler commit real turns to a real file, for tests of what a power cut
 * leaves of it.
 *
 * `node turn-player.ts FILE SEED TURNS here|thread` writes in the main thread or in the store's own. After each commit
 * that the store has acknowledged it prints a line, a {@link Report}, and waits for a byte on stdin. Half-way it closes
 * the store and opens it again. At the end it stays as it is, with the store open, until stdin ends.
 */
import { readSync, writeSync } from "node:fs";
import { DomainError } from "../../src/core/model/errors.ts";
import { seededRandom } from "../../src/monitor/simulated/random.ts";
import { ManualClock } from "../../src/platform/clock.ts";
import type { StoredState, Turn } from "../../src/ports/store.ts";
import type { PendingDelivery } from "../../src/ports/webhooks.ts";
import type { Scheduler } from "../../src/scheduler/scheduler.ts";
import { openDatabase } from "../../src/store/open.ts";
import { MIN_RETENTION_MS, SqliteStore } from "../../src/store/store.ts";
import { WriterThread } from "../../src/store/writer-thread.ts";
import { hostReading } from "../fixtures/readings.ts";
import { ask, startScheduler } from "../scheduler/harness.ts";
import { ADMIN, process as gpuProcess, h100 } from "../simulation/simulated-host.ts";

export interface Report {
  /** The first turn is 1. */
  readonly n: number;
  readonly turn: Turn;
  /** What the store held after it. */
  readonly state: StoredState;
  readonly pending: readonly PendingDelivery[];
}

/** How each line of a report begins. */
export const REPORT_BEGINS = '{"n":';

const GPUS = 4;
const SERVICES = 5;
const MOST_LIVE = 10;
const ALL_DELIVERIES = 1_000_000;

function tell(report: Report): void {
  writeSync(1, `${JSON.stringify(report)}\n`);
  readSync(0, new Uint8Array(1));
}

/** The store under test, which tells of each turn before the scheduler hears that it is committed. */
class TellingStore extends SqliteStore {
  #turns: number;

  constructor(file: string, where: string, turns: number) {
    const opened = openDatabase(file);
    const largeTurnRows = where === "thread" ? 0 : Number.POSITIVE_INFINITY;
    super(opened, MIN_RETENTION_MS, new WriterThread(file, opened.database, largeTurnRows));
    this.#turns = turns;
  }

  /** Committed so far. */
  get turns(): number {
    return this.#turns;
  }

  override async commit(turn: Turn): Promise<void> {
    await super.commit(turn);
    this.#turns += 1;
    const pending = this.due(Number.MAX_SAFE_INTEGER, ALL_DELIVERIES);
    tell({ n: this.#turns, turn, state: this.load(), pending });
  }
}

/** A few commands at a time, so that some turns hold several; a refused command is one that changes nothing. */
async function step(scheduler: Scheduler, store: SqliteStore, clock: ManualClock, random: () => number): Promise<void> {
  const whole = (below: number) => Math.floor(random() * below);
  const live = [...scheduler.state.allocations.values()];
  const commands: (() => Promise<unknown>)[] = [];
  for (let i = 0; i <= whole(4); i++) {
    const id = live[whole(live.length)]?.request.id ?? "nobody";
    const deliveries = store.due(Number.MAX_SAFE_INTEGER, ALL_DELIVERIES);
    const due = deliveries[whole(deliveries.length)];
    const key = { principal: ADMIN.principal, key: `${clock.now()}-${i}`, fingerprint: "f" };
    const asked = ask({
      serviceName: `service-${whole(SERVICES)}`,
      requiredGpus: 1 + whole(2),
      webhookUrl: random() < 0.7 ? "http://127.0.0.1:9/hook" : null,
      ttlMs: random() < 0.5 ? 1_000 + whole(60_000) : null,
      workloadData: { padding: "x".repeat(whole(3_000)) },
    });
    const choice = live.length >= MOST_LIVE ? 1 : whole(8);
    if (choice === 0) commands.push(() => scheduler.renew(id, null, ADMIN));
    else if (choice <= 2) commands.push(() => scheduler.release({ id, serviceName: null, fencingToken: null }, ADMIN));
    else if (choice === 3) commands.push(() => scheduler.hangUp(id));
    else if (choice === 4 && due !== undefined) {
      const { deliveryId, allocationId, status } = due;
      const outcome = random() < 0.7 ? "delivered" : "retry";
      const nextAttemptAt = outcome === "retry" ? clock.now() + 5_000 : null;
      const settlement = { deliveryId, allocationId, status, at: clock.now(), outcome, nextAttemptAt } as const;
      commands.push(() => scheduler.settle({ ...settlement, httpStatus: 200, error: null }));
    } else commands.push(() => scheduler.allocate(asked, ADMIN, random() < 0.5 ? key : null));
  }
  for (const end of await Promise.allSettled(commands.map((command) => command()))) {
    if (end.status === "rejected" && !(end.reason instanceof DomainError)) throw end.reason;
  }
  clock.advance(1 + whole(8_000));
  const busy = (index: number) => scheduler.state.gpus.get(`GPU-${index}`)?.hold.kind === "leased" && random() < 0.3;
  const gpus = Array.from({ length: GPUS }, (_, index) =>
    h100(`GPU-${index}`, { index, ...(busy(index) ? { processes: [gpuProcess(4_000 + index)] } : {}) }),
  );
  const at = clock.now();
  await scheduler.observe({ ok: true, startedAt: at, finishedAt: at, reading: hostReading(gpus) });
}

async function play(file: string, seed: number, turns: number, where: string): Promise<void> {
  const random = seededRandom(seed);
  let committed = 0;
  for (const until of [Math.ceil(turns / 2), turns]) {
    const store = new TellingStore(file, where, committed);
    const clock = new ManualClock(store.load().lastTurnAt ?? undefined);
    const { scheduler, bugs } = await startScheduler(store, { gpus: GPUS, clock });
    while (store.turns < until) await step(scheduler, store, clock, random);
    await scheduler.stop();
    if (bugs.length > 0) throw bugs[0];
    committed = store.turns;
    if (until < turns) await store.close();
  }
  while (readSync(0, new Uint8Array(1)) > 0);
  process.exit(0);
}

const [, , file, seed, turns, where] = process.argv;
if (import.meta.main && file !== undefined) await play(file, Number(seed), Number(turns), where ?? "here");
