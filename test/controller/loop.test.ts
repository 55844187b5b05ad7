import { expect, onTestFinished, test } from "vitest";
import { ReconcileLoop } from "../../src/controller/reconcile/loop.ts";

test("changes that never end do not put the next look off for ever", async () => {
  const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
  const look = async () => {
    await pause(200);
    return { nodes: [], tracksOf: () => [], loadOf: () => [], serviceOf: () => null, isolates: false };
  };
  const loop = new ReconcileLoop({
    objects: { workloads: () => [], subscribe: () => () => undefined },
    backend: { look, tend: async () => undefined },
    leads: () => true,
    now: () => Date.now(),
    log: { info: () => undefined, warn: () => undefined, error: () => undefined },
  } as never);
  onTestFinished(() => loop.stop());
  loop.start();
  const changes = setInterval(() => loop.soon(), 10);
  await expect
    .poll(() => loop.looks, { timeout: 20_000, interval: 50 })
    .toBeGreaterThan(4)
    .finally(() => clearInterval(changes));
});
