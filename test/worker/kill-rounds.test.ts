/**
 * kill -9 of daemon, worker, holder and child at random instants, and workers that are started beside one that lives,
 * with tasks of all kinds under way. As long as WORK_KILL_SECONDS says, 20 by default, or as often as WORK_KILL_ROUNDS:
 * see docs/work.md.
 */
import { afterAll, describe, expect, test } from "vitest";
import { isOver } from "../../src/work/state.ts";
import { SEED } from "../seed.ts";
import { pause, Site, until } from "./site.ts";

const { WORK_KILL_ROUNDS, WORK_KILL_SECONDS = "20" } = process.env;
/** `null`: as many as there is time for. */
const ROUNDS = WORK_KILL_ROUNDS === undefined ? null : Number(WORK_KILL_ROUNDS);
/** A round takes half a second, and on a busy machine many times that: it is to end by its number. */
const LONGEST_MS = ROUNDS === null ? Number(WORK_KILL_SECONDS) * 1_000 : ROUNDS * 30_000;
/** What is left to end after the last round grows with what was begun, on a busy machine to as much again. */
const DRAIN_MS = LONGEST_MS + 240_000;
/** Something is always about to end: nothing for so long, and it hangs. */
const STUCK_MS = 120_000;
const TELL_ROUNDS = 50;
const site = new Site({ gpus: 3 });
afterAll(async () => site.close(DRAIN_MS), DRAIN_MS + 30_000);

/** The same sequence for the same seed. */
function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}

const SCRIPTS = [
  "sleep 0.3",
  "exit 3",
  "trap '' TERM; sleep 0.5 & wait; sleep 0.5",
  "(setsid sleep 1000 >/dev/null 2>&1 &); sleep 0.2",
  "(setsid sh -c 'sleep 1000 & sleep 1000' &); sleep 1",
  "exec >&- 2>&-; sleep 0.5",
];

describe("kill -9 at random instants", () => {
  test(
    `no process is left, no GPU is leased twice, and nothing starts more often than it may (seed ${SEED})`,
    async () => {
      const chance = random(SEED);
      const pick = <T>(list: readonly T[]) => list[Math.floor(chance() * list.length)] as T;
      await site.start();
      const ids: string[] = [];
      const began = Date.now();
      let rounds = 0;
      const isEnough = () => (ROUNDS === null ? Date.now() >= began + LONGEST_MS : rounds >= ROUNDS);
      const open = () => ids.filter((id) => !isOver(site.task(id)));
      const restart = async () => {
        if (!site.isUp) await site.startDaemon();
        if (site.worker === null) site.startWorker();
      };
      while (!isEnough()) {
        rounds++;
        await restart();
        if (ROUNDS !== null && rounds % TELL_ROUNDS === 0) {
          const seconds = Math.round((Date.now() - began) / 1_000);
          console.log(`round ${rounds} of ${ROUNDS} after ${seconds} s, ${open().length} tasks open`);
        }
        const command = ["/bin/sh", "-c", pick(SCRIPTS)];
        ids.push(
          site.submit(
            command,
            { stop: { grace: "200ms" }, retry: { lost: pick([0, 1]), backoff: "100ms" } },
            pick([0, 1, 2]),
          ),
        );
        await pause(chance() * 800);
        const live = [...site.books.state.runs.values()].filter(({ phase }) => phase === "running");
        const victim = live.length === 0 ? null : pick(live);
        const first = pick(["daemon", "worker", "second worker", "holder", "child"]);
        for (const kind of new Set([first, pick(["daemon", "worker", "second worker", "holder", "none"])])) {
          if (kind === "daemon") await site.killDaemon();
          // As after kill -9 of a daemon: the first is obeyed until this one has reported.
          else if (kind === "second worker") site.startWorker();
          else if (kind === "worker") await site.killWorker();
          else if (victim !== null && (kind === "holder" || kind === "child")) kill(site.pidOf(victim.id, kind));
        }
        if (chance() < 0.2 && site.isUp) cancel(pick(ids));
      }
      await restart();
      for (let left = open().length; left > 0; left = open().length) {
        await until("another task is over", () => open().length < left, STUCK_MS).catch((error: unknown) => {
          // It says what hangs, and where.
          const hanging = open().map((id) => [site.task(id).slots, site.run(id)]);
          throw new Error(`${error}\n${JSON.stringify(hanging, null, 1)}`);
        });
      }
      await until("every GPU comes back", () => site.leases.freeGpus() === 3, 60_000);
      expect(site.marked()).toEqual([]);
      expect(site.leases.takenFromTheLiving).toEqual([]);
      for (const id of ids) {
        const { retry } = site.task(id);
        const started = [...site.books.state.runs.values()].filter(
          (run) => run.job.uid === id && run.phase === "ended" && run.startedAt !== null,
        );
        expect(started.length, id).toBeLessThanOrEqual(1 + retry.max + retry.lost);
      }
      console.log(`${rounds} rounds, ${ids.length} tasks, SEED ${SEED}`);
    },
    LONGEST_MS + DRAIN_MS,
  );
});

function kill(pid: number | undefined): void {
  try {
    if (pid !== undefined) process.kill(pid, "SIGKILL");
  } catch {
    // It ended by itself.
  }
}

function cancel(id: string): void {
  const task = site.task(id);
  if (!isOver(task)) site.books.command({ type: "cancel-task", id });
}
