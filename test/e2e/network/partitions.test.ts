/**
 * Two and three nodes on a network of their own: cables that are pulled, an emptied Redis, a replica that takes over,
 * daemons that are killed, nodes that come back. NETWORK_SECONDS=600 draws such rounds for ten minutes, and
 * NETWORK_ROUNDS=kill,nothing draws no others. What failed leaves its folder, with databases and logs.
 */
import { spawnSync } from "node:child_process";
import { afterAll, describe, expect, onTestFailed, test } from "vitest";
import { SEED } from "../../seed.ts";
import { pause } from "../../worker/site.ts";
import { eventually, isBuilt } from "../daemon.ts";
import { hasNetworks, NEEDS_NETWORKS } from "./network.ts";
import { HEAD, Rack } from "./rack.ts";

const SECONDS = Number(process.env.NETWORK_SECONDS ?? 0);
/** Of tasks at a time, on six GPUs. */
const MOST_OPEN = 40;
const has = (program: string, ...args: string[]) => spawnSync(program, args).status === 0;
const runs = isBuilt && has("redis-server", "--version") && has("openssl", "version") && hasNetworks();
const racks: Rack[] = [];
afterAll(async () => {
  for (const rack of racks) await rack.stop();
}, 60_000);

const ENDED = ["DONE", "FAILED", "CANCELLED"];
const over = (rack: Rack, id: string) =>
  eventually(
    () => rack.task(id),
    ({ status }) => ENDED.includes(status),
    60_000,
  );
const runsOn = (rack: Rack, id: string) =>
  eventually(
    () => rack.task(id),
    ({ attempts }) => (attempts.at(-1)?.started_at ?? null) !== null,
    60_000,
  );

async function rackOf(...nodes: readonly string[]): Promise<Rack> {
  const rack = new Rack(...nodes);
  racks.push(rack);
  onTestFailed(() => rack.keep());
  await rack.start();
  await eventually(
    () => rack.ask("GET", "/workers"),
    (workers) => workers.length === nodes.length,
    30_000,
  );
  return rack;
}

async function judgeEnd(rack: Rack): Promise<void> {
  await eventually(
    () => rack.freeGpus(),
    (free) => free === 2 * rack.nodes.length,
    60_000,
  );
  expect(rack.faults()).toEqual([]);
}

describe.skipIf(!runs)(`hosts on a network of their own (needs dist/; ${NEEDS_NETWORKS})`, () => {
  test("a cable that is pulled, an emptied Redis and a replica that takes over: nothing lives twice, and everything ends", {
    timeout: 180_000,
  }, async () => {
    const rack = await rackOf("node-a", "node-b");
    // Both on one node: what is left over is least there.
    const [once, moved] = [await rack.submit(40, 1, 0), await rack.submit(12, 1, 1)];
    for (const id of [once, moved]) await runsOn(rack, id);
    const node = (await rack.task(moved)).assigned_worker;
    expect((await rack.task(once)).assigned_worker).toBe(node);
    rack.network.pull(node);
    // From then on it is given nothing new: what has not arrived there would be waited for.
    await pause(8_000);
    rack.flush();
    const meanwhile = await rack.submit(1, 2, 0);
    expect((await over(rack, meanwhile)).status).toBe("DONE");
    await rack.failOver();
    const after = await rack.submit(1, 2, 0);
    expect((await over(rack, after)).status).toBe("DONE");
    await eventually(
      () => rack.task(moved),
      ({ assigned_worker: now }) => now !== null && now !== node,
      60_000,
    );
    expect((await rack.task(once)).assigned_worker).toBe(node);
    expect((await rack.ask("GET", "/workers")).find((one: { node: string }) => one.node === node).stale).toBe(true);
    rack.network.put(node);
    for (const id of [once, moved]) expect((await over(rack, id)).status).toBe("DONE");
    const lives = rack.lives();
    expect(lives.filter(({ task }) => task === once)).toHaveLength(1);
    expect(lives.filter(({ task }) => task === moved)).toHaveLength(2);
    await judgeEnd(rack);
  });

  test.skipIf(SECONDS === 0)(
    `three nodes, and rounds of whatever can happen (only with NETWORK_SECONDS; seed ${SEED})`,
    { timeout: SECONDS * 1_000 + 600_000 },
    async () => {
      const rack = await rackOf("node-a", "node-b", "node-c");
      let state = SEED;
      const chance = () => {
        state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
        return state / 2 ** 32;
      };
      const pick = <T>(list: readonly T[]) => list[Math.floor(chance() * list.length)] as T;
      const rounds: Readonly<Record<string, () => Promise<void> | void>> = {
        partition: async () => {
          const name = pick([HEAD, ...rack.nodes]);
          rack.network.pull(name);
          await pause(pick([1_000, 8_000, 30_000]));
          rack.network.put(name);
        },
        flush: () => rack.flush(),
        failover: () => rack.failOver(),
        kill: async () => {
          const name = pick([HEAD, ...rack.nodes]);
          await rack.kill(name, pick(["SIGKILL", "SIGTERM"]));
          await pause(pick([0, 3_000]));
          await rack.startDaemon(name);
        },
        nothing: () => pause(2_000),
      };
      const drawn = process.env.NETWORK_ROUNDS?.split(",") ?? Object.keys(rounds);
      const tasks = new Map<string, number>();
      const open = new Set<string>();
      const told: string[] = [];
      const end = Date.now() + SECONDS * 1_000;
      while (Date.now() < end) {
        // Some rounds take no time: of what more would be submitted most would still wait when the rounds are over.
        for (const id of [...open]) if (ENDED.includes((await rack.task(id)).status)) open.delete(id);
        for (let i = 0; i < 3 && open.size < MOST_OPEN; i++) {
          const lost = pick([0, 1, 2]);
          const id = await rack.submit(pick([1, 5, 15]), pick([0, 1, 2]), lost);
          tasks.set(id, lost);
          open.add(id);
        }
        const name = pick(drawn);
        told.push(name);
        await rounds[name]?.();
        expect(rack.faults(), told.join(", ")).toEqual([]);
      }
      for (const [id, lost] of tasks) {
        await eventually(
          () => rack.task(id),
          ({ status }) => ENDED.includes(status),
          300_000,
        );
        expect(rack.lives().filter(({ task }) => task === id).length, id).toBeLessThanOrEqual(1 + lost);
      }
      await judgeEnd(rack);
      console.log(`${told.length} rounds, ${tasks.size} tasks, ${rack.lives().length} lives, SEED ${SEED}`);
    },
  );
});
