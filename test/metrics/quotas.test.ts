import { expect, test } from "vitest";
import { createMetrics } from "../../src/metrics/metrics.ts";
import { NO_QUOTA, NO_QUOTAS } from "../simulation/simulated-host.ts";
import { family, watched } from "./scrape.ts";

const HOUR_MS = 3_600_000;

test("accounts that the settings name are shown with what they may have and have, and no others", async () => {
  const { daemon, scrape } = await watched("h100x4");
  const { scheduler } = daemon;
  const quotas = {
    ...NO_QUOTAS,
    principals: { ann: { ...NO_QUOTA, maxGpus: 3, gpuTime: { limitMs: 10 * HOUR_MS, periodMs: 24 * HOUR_MS } } },
    services: { a: { ...NO_QUOTA, maxGpus: 1, maxQueued: 5 } },
    defaultService: { ...NO_QUOTA, maxGpus: 4 },
  };
  await scheduler.reconfigure({ ...scheduler.state.policy, quotas }, 5_000);
  for (const serviceName of ["a", "a", "b"]) await daemon.allocate({ serviceName, maxDurationMs: 2 * HOUR_MS });
  const page = await scrape();
  expect(family(page, "gpu_orchestrator_quota_limit")).toEqual({
    'kind="principal",account="ann",resource="gpus"': 3,
    'kind="principal",account="ann",resource="gpu_hours"': 10,
    'kind="service",account="a",resource="gpus"': 1,
    'kind="service",account="a",resource="queued"': 5,
  });
  expect(family(page, "gpu_orchestrator_quota_used")).toEqual({
    'kind="principal",account="ann",resource="gpus"': 0,
    'kind="principal",account="ann",resource="gpu_hours"': 0,
    'kind="service",account="a",resource="gpus"': 1,
    'kind="service",account="a",resource="queued"': 1,
  });
});

test("with keys the page, which asks for none, says nothing of principals", async () => {
  const { daemon } = await watched("h100x4");
  const { scheduler, clock } = daemon;
  const account = { ...NO_QUOTA, maxGpus: 3 };
  const quotas = { ...NO_QUOTAS, principals: { ann: account }, services: { a: account } };
  await scheduler.reconfigure({ ...scheduler.state.policy, quotas }, 5_000);
  const source = { abandonedTotal: 0, stuck: false };
  const { body } = await createMetrics({ version: "1", clock, scheduler, source, hasKeys: true }).render(undefined);
  expect(body).toContain('account="a"');
  expect(body).not.toContain("ann");
});
