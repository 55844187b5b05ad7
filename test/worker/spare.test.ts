/** The holder that is started ahead of its run: a run takes it, a dead one is nobody's loss, and it leaves with its worker. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, onTestFinished, test, vi } from "vitest";
import { readIn } from "../../src/worker/folder.ts";
import { isAlive, type ProcessName, processOf } from "../../src/worker/processes.ts";
import { SpareHolder } from "../../src/worker/spare.ts";
import { Site, until } from "./site.ts";

function commandOf(pid: number): string[] {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0");
  } catch {
    // It is gone.
    return [];
  }
}

test("where none can be started another is tried later, and nobody is the worse for it", () => {
  vi.useFakeTimers();
  onTestFinished(() => void vi.useRealTimers());
  let tries = 0;
  const holder = new SpareHolder(() => {
    tries++;
    // Synchronously: Node's spawn throws for all but a few errors.
    throw Object.assign(new Error("spawn ENOMEM"), { code: "ENOMEM" });
  });
  vi.advanceTimersByTime(9_000);
  expect([tries, holder.take("/run")]).toEqual([1, false]);
  vi.advanceTimersByTime(60_000);
  expect(tries).toBeGreaterThan(2);
  holder.stop();
});

describe("a holder that is started ahead of its run", () => {
  let site: Site;
  beforeEach(async () => {
    site = await new Site({ gpus: 2, cage: "session" }).start();
  });
  afterEach(() => site.close());

  /** The one that waits, once there is one. */
  async function spare(): Promise<ProcessName> {
    const worker = site.worker?.pid;
    const waiting = () => {
      const all = readdirSync("/proc").flatMap((name) => processOf(Number(name) || 0) ?? []);
      return all.find(({ pid, parent }) => parent === worker && commandOf(pid).includes("--spare"));
    };
    await until("a holder waits", () => waiting() !== undefined);
    return waiting() as ProcessName;
  }

  const holderOf = (run: string) => readIn<ProcessName>(join(site.dir, "runs", run), "holder");

  test("a run has the holder that waited, which says in the list of processes whose it is; then another waits", async () => {
    const first = await spare();
    const id = site.submit(["/bin/sleep", "30"]);
    const { id: run } = await site.phase(id, "running");
    expect(holderOf(run)).toMatchObject({ pid: first.pid, startTime: first.startTime });
    expect(commandOf(first.pid).join(" ")).toContain(join(site.dir, "runs", run));
    const second = await spare();
    expect(second.pid).not.toBe(first.pid);
    const other = site.submit(["/bin/sh", "-c", "exit 0"]);
    await site.isOver(other);
    expect(site.task(other)?.status).toBe("DONE");
  });

  test("where the one that waited is dead, the run has one of its own", async () => {
    const dead = await spare();
    process.kill(dead.pid, "SIGKILL");
    await until("it is gone", () => !isAlive(dead));
    const id = site.submit(["/bin/sleep", "30"]);
    const { id: run } = await site.phase(id, "running");
    const own = holderOf(run) as ProcessName;
    expect(own.pid).not.toBe(dead.pid);
    expect(commandOf(own.pid)).toContain(join(site.dir, "runs", run));
  });

  test.each(["SIGKILL", "SIGTERM"] as const)(
    "it leaves when its worker ends by %s, and the run that took one stays",
    async (signal) => {
      await spare();
      const id = site.submit(["/bin/sleep", "30"]);
      const { id: run } = await site.phase(id, "running");
      const waiting = await spare();
      site.worker?.kill(signal);
      await until("it has left", () => !isAlive(waiting));
      const holder = holderOf(run) as ProcessName;
      expect(processOf(holder.pid)?.startTime).toBe(holder.startTime);
      // Whoever ends what is left.
      site.startWorker();
    },
  );
});
