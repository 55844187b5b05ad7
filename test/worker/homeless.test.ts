/** A worker whose folder is removed, or replaced: nobody can reach it there to tell it that another has taken over. */
import { mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { afterEach, expect, onTestFinished, test } from "vitest";
import { signalAll } from "../../src/worker/cages.ts";
import { ProcessTable } from "../../src/worker/processes.ts";
import { pause, Site, until } from "./site.ts";

/** It asks every half second. */
const SEVERAL_LOOKS_MS = 2_000;

let site: Site;
afterEach(() => site.close());

const hasEnded = () => site.worker?.exitCode !== null;

test("ends, but not before the last of its runs", async () => {
  site = await new Site({ cage: "session" }).start();
  const run = await site.phase(site.submit(["/bin/sh", "-c", "sleep 600"]), "running");
  // Whatever becomes of its worker: its folder, by which it would be found, is gone.
  onTestFinished(() => signalAll(new ProcessTable().family(null, run.id), "SIGKILL"));
  await site.killDaemon();
  rmSync(site.dir, { recursive: true });
  await pause(SEVERAL_LOOKS_MS);
  expect(hasEnded()).toBe(false);
  signalAll(new ProcessTable().family(null, run.id), "SIGKILL");
  await until("the worker has ended", hasEnded);
});

test("ends where another folder has taken the place of its own, and goes on while only the daemon is away", async () => {
  site = await new Site({ cage: "session" }).start();
  await site.killDaemon();
  await pause(SEVERAL_LOOKS_MS);
  expect(hasEnded()).toBe(false);
  rmSync(site.dir, { recursive: true });
  mkdirSync(join(site.dir, "runs"), { recursive: true });
  await until("the worker has ended", hasEnded);
});
