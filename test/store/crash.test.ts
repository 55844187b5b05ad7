import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { startCommitter } from "./child.ts";
import type { Report } from "./committer.ts";
import { databasePath, open } from "./files.ts";

const KILLS = 12;
/** Each start of a process takes a second or more where others keep the machine busy. */
const SLOW_MACHINE_MS = 60_000;

test("a process killed in the middle of its commits loses nothing that it acknowledged, and no turn is half there", {
  timeout: SLOW_MACHINE_MS,
}, async () => {
  let acknowledgedInAll = 0;
  for (let kill = 0; kill < KILLS; kill++) {
    const path = databasePath();
    const committer = startCommitter(path, "loop");
    expect(await committer.next()).toEqual({ type: "opened" });
    // Anywhere within the commits of some tens of milliseconds: the instant is not ours to choose.
    await sleep(kill * 7 + 1);
    const reports = await committer.kill();
    acknowledgedInAll += await checkAfterKill(path, reports);
  }
  expect(acknowledgedInAll).toBeGreaterThan(KILLS);
});

/** @returns how many turns the process had acknowledged. */
async function checkAfterKill(path: string, reports: readonly Report[]): Promise<number> {
  const committed = reports.filter((report) => report.type === "committed");
  const store = open(path);
  try {
    const journal = [...store.readJournal()];
    const types = new Map<string, string[]>();
    for (const { event } of journal) {
      const id = event.type === "submitted" ? event.request.id : "id" in event ? event.id : "";
      types.set(id, [...(types.get(id) ?? []), event.type]);
    }
    expect(journal.map(({ seq }) => seq)).toEqual(journal.map((_, i) => i + 1));

    const live = new Map(store.load().allocations.map((allocation) => [allocation.request.id, allocation]));
    const pending = new Set(store.due(Number.MAX_SAFE_INTEGER, 1_000_000).map(({ allocationId }) => allocationId));
    for (const { n, ids } of committed) {
      for (const id of ids) {
        expect(pending).toContain(id);
        expect(types.get(id)?.slice(0, n % 2 === 0 ? 2 : 3)).toEqual(
          ["submitted", "granted", "ended"].slice(0, n % 2 === 0 ? 2 : 3),
        );
        if (n % 2 === 1) expect(store.findEnded(id)).toBeDefined();
        else expect(live.has(id) || store.findEnded(id) !== undefined).toBe(true);
      }
    }
    // A turn leases all four GPUs or none of them.
    expect([0, 4]).toContain(live.size);
    // At most the one turn that was under way may be there beyond the acknowledged ones.
    const turnsThere = [...types.values()].reduce((sum, told) => sum + told.length, 0);
    const turnsSaid = committed.reduce((sum, { n }) => sum + (n % 2 === 0 ? 8 : 4), 0);
    expect(turnsThere - turnsSaid).toBeGreaterThanOrEqual(0);
    expect(turnsThere - turnsSaid).toBeLessThanOrEqual(8);
    return committed.length;
  } finally {
    await store.close();
  }
}
