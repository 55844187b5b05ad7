/** What Kubernetes does by itself beside what the controller does, on one control plane. `npm run bench:cluster-peers` is the long form. */
import { describe, expect, test } from "vitest";
import { isBuilt } from "../e2e/daemon.ts";
import { isPlaneThere } from "./control-plane.ts";
import { peersRun } from "./peers.ts";

describe.skipIf(!isPlaneThere || !isBuilt)("beside a Deployment (npm run test:cluster builds the plane)", () => {
  test("a rollout with every GPU taken comes through where a Deployment's hangs", { timeout: 600_000 }, async () => {
    const figures = await peersRun({ replicas: [2], patienceMs: 60_000, samples: 2 }, () => undefined);
    console.log(JSON.stringify(figures));
    const [{ deployment, ours }] = figures.rollouts as [PeersRollout];
    expect(deployment.took_ms).toBeNull();
    expect(ours.took_ms).not.toBeNull();
    expect(ours.least_serving).toBe(1);
    expect(figures.drain.least_serving).toBeGreaterThanOrEqual(1);
  });
});

type PeersRollout = Awaited<ReturnType<typeof peersRun>>["rollouts"][number];
