import { DatabaseSync } from "node:sqlite";
import { expect, test } from "vitest";
import type { Event } from "../../src/core/events.ts";
import { replayTurn } from "../../src/store/replay.ts";
import { ask, settled, startScheduler } from "../scheduler/harness.ts";
import { ADMIN, DEFAULT_POLICY, minutes } from "../simulation/simulated-host.ts";
import { databasePath, openForTest } from "./files.ts";

function typesOf(events: readonly Event[]): string[] {
  return events.map(({ type }) => type);
}

/** Every turn that `file` has; those that cannot be made again throw. */
function everyTurn(file: string) {
  const reader = new DatabaseSync(file, { readOnly: true });
  const numbers = reader.prepare("SELECT seq FROM journal ORDER BY seq").all() as { seq: number }[];
  reader.close();
  return numbers.map(({ seq }) => replayTurn(file, seq));
}

test("a grant is made again beside the running scheduler, with the queue and the GPUs that it found", async () => {
  const file = databasePath();
  const { scheduler, clock } = await startScheduler(openForTest(file), { gpus: 2 });
  const first = await scheduler.allocate(ask({ requiredGpus: 2 }), ADMIN);
  const waiting = await scheduler.allocate(ask({ requiredGpus: 1, priority: 3 }), ADMIN);
  const urgent = await scheduler.allocate(ask({ requiredGpus: 1, priority: 9 }), ADMIN);
  await clock.advance(minutes(2));
  await scheduler.observe({ ok: false, startedAt: clock.now(), finishedAt: clock.now(), failure: FAILURE });
  const { lastSeq } = openState(file);
  await scheduler.release({ id: first.allocation.request.id, serviceName: null, fencingToken: null }, ADMIN);
  await settled();

  const turn = replayTurn(file, lastSeq + 1);
  expect(turn).toMatchObject({ at: clock.now(), first: lastSeq + 1, isSame: true, failure: null });
  expect(typesOf(turn.recorded)).toEqual(["ended"]);
  const { before } = turn.commands[0] as (typeof turn.commands)[number];
  expect([...before.line.order.values()].map(({ allocation }) => allocation.request.id)).toEqual([
    urgent.allocation.request.id,
    waiting.allocation.request.id,
  ]);
  expect(before.sight).toMatchObject({ failure: FAILURE, lastGoodProbeAt: clock.now() - minutes(2) });
  expect(before.policy).toEqual(DEFAULT_POLICY);
});

const FAILURE = { kind: "driver", message: "NVIDIA-SMI has failed", exitCode: 9 } as const;

function openState(file: string): { readonly lastSeq: number } {
  const reader = new DatabaseSync(file, { readOnly: true });
  const { seq } = reader.prepare("SELECT max(seq) AS seq FROM journal").get() as { seq: number };
  reader.close();
  return { lastSeq: seq };
}

test("every turn can be made again over restarts and changed settings, and after the file was closed", async () => {
  const file = databasePath();
  for (const bootId of ["boot-1", "boot-2"]) {
    const store = openForTest(file);
    const { scheduler, clock, look } = await startScheduler(store, { gpus: 3, bootId });
    for (let i = 0; i < 12; i++) {
      await scheduler.allocate(ask({ requiredGpus: 1 + (i % 3), ttlMs: minutes(1 + (i % 4)) }), ADMIN);
      await clock.advance(minutes(0.3));
      await look();
    }
    await scheduler.reconfigure({ ...DEFAULT_POLICY, agingIntervalMs: 1, reserveAfterMs: 0 }, 5_000);
    await clock.advance(minutes(5));
    await scheduler.stop();
    await store.close();
  }
  const turns = everyTurn(file);
  expect(turns.length).toBeGreaterThan(30);
  expect(turns.filter(({ isSame }) => !isSame)).toEqual([]);
});
