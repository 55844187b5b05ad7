/** The disk is full of what a run writes: its lines are dropped, and neither the program nor how it ended is lost. */
import { spawnSync } from "node:child_process";
import { mkdirSync, rmSync, statfsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { processOf } from "../../src/worker/processes.ts";
import { Site, until } from "./site.ts";

const MIB = 2 ** 20;
const WAIT_MS = 60_000;
const site = new Site();
const runs = join(site.dir, "runs");
mkdirSync(runs);
const isMounted = spawnSync("mount", ["-t", "tmpfs", "-o", "size=4m", "tmpfs", runs]).status === 0;
if (!isMounted) rmSync(site.dir, { recursive: true });

test.skipIf(!isMounted)(
  "a flood of lines on a full disk blocks no program (needs a host that lets root mount)",
  { timeout: 4 * WAIT_MS },
  async () => {
    onTestFinished(async () => {
      spawnSync("umount", ["--lazy", runs]);
      await site.close();
    });
    await site.start();
    writeFileSync(join(runs, "filler"), Buffer.alloc(MIB));
    const line = "x".repeat(1_000);
    const id = site.submit([
      "/bin/sh",
      "-c",
      `while [ ! -e $OUT_DIR/go ]; do sleep 0.1; done; yes ${line} | head -c 20000000; exit 5`,
    ]);
    const run = await site.phase(id, "running", WAIT_MS);
    const child = site.pidOf(run.id, "child");
    writeFileSync(join(runs, run.id, "out", "go"), "");
    await until("the program has ended", () => processOf(child) === null, WAIT_MS);
    const { bavail, bsize } = statfsSync(runs);
    expect(bavail * bsize).toBeLessThan(MIB / 8);
    rmSync(join(runs, "filler"));
    await site.isOver(id, WAIT_MS);
    expect(site.run(id)).toMatchObject({ phase: "ended", reason: "failed", exitCode: 5 });
    expect((site.read(run.id, "logs/stdout.log") ?? "").length).toBeLessThan(4 * MIB);
    await until("the GPU comes back", () => site.leases.freeGpus() === 2);
  },
);
