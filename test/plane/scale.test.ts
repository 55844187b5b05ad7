/** A small cluster for the controller, with the bounds that CI holds it to. `npm run bench:cluster` is the large one. */
import { describe, expect, test } from "vitest";
import { isBuilt } from "../e2e/daemon.ts";
import { isPlaneThere } from "./control-plane.ts";
import { scaleRun } from "./scale.ts";

describe.skipIf(!isPlaneThere || !isBuilt)("50 nodes with 200 replicas (npm run test:cluster builds it)", () => {
  test("are looked after in time, and left alone while nothing changes", { timeout: 1_200_000 }, async () => {
    const shape = { nodes: 50, workloads: 20, replicas: 200, idleSeconds: 300, samples: 10 };
    const figures = await scaleRun(shape, () => undefined);
    console.log(JSON.stringify(figures));
    expect(figures.idle_writes).toBe(0);
    expect(figures.sync_ms).toBeLessThan(30_000);
    expect(figures.rss_mib).toBeLessThan(400);
    expect(figures.drift_repaired_p99_ms).toBeLessThan(10_000);
    expect(figures.apiserver_restart_to_converged_ms).toBeLessThan(60_000);
    expect(figures.leader_change_ms).toBeLessThan(30_000);
  });
});
