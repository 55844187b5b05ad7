/** GPUs that are lost or not empty under the built program's runs: real processes, and an `nvidia-smi` that shows what it is told. */
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { FakeNvidiaSmi, oneLost } from "../fixtures/fake-nvidia-smi.ts";
import { type SmiGpu, smiDocument, smiUuid } from "../fixtures/nvidia-smi-document.ts";
import { eventually, isBuilt, type TestDaemon } from "./daemon.ts";
import { startReady } from "./steps.ts";

const WAIT_MS = 60_000;

async function startOn(gpus: readonly SmiGpu[]) {
  const smi = new FakeNvidiaSmi();
  onTestFinished(() => smi[Symbol.dispose]());
  const show = (next: readonly SmiGpu[]) => smi.tell({ mode: "text", text: smiDocument({ gpus: [...next] }) });
  show(gpus);
  const daemon = await startReady({
    simulate: null,
    config: `
monitoring: {nvidia_smi_path: ${JSON.stringify(smi.path)}, refresh_interval: 500ms, timeout: 5s}
allocator: {reclaim_timeout: 4s}
work:
  enabled: true
  allow_unauthenticated: true
  allow_root: true
  allow_same_user: true
  executors: {sh: {type: process, programs: [/bin/sh]}}
  task_types: {job: sh}
`,
    env: { PATH: `${join(process.execPath, "..")}:${process.env.PATH}` },
  });
  return { daemon, show, smi };
}

const spec = (more: object) => ({
  command: ["/bin/sh", "-c", "exec sleep 600"],
  resources: { hardware: { gpu: { count: 1 } } },
  ...more,
});
const submit = async (daemon: TestDaemon, path: string, kind: string, more: object) => {
  const document = { apiVersion: "gpu-orchestrator/v1", kind, metadata: { name: "job" }, spec: spec(more) };
  const body = path === "/workloads" ? document : { yaml: JSON.stringify(document) };
  const answer = await daemon.call("POST", path, body);
  expect(answer.status, JSON.stringify(answer.body)).toBeLessThan(300);
  return answer.body;
};
const runsOf = async (daemon: TestDaemon) =>
  (await daemon.call("GET", "/runs")).body.sort((a: { epoch: number }, b: { epoch: number }) => a.epoch - b.epoch);

test.skipIf(!isBuilt)(
  "a task on a GPU that has left the bus runs again on another (needs dist/)",
  { timeout: 180_000 },
  async () => {
    const { daemon, smi } = await startOn([{}, {}]);
    const { task_id } = await submit(daemon, "/api/v1/tasks", "Task", {
      taskType: "job",
      retry: { lost: 1, backoff: "100ms" },
    });
    const task = () => daemon.call("GET", `/api/v1/tasks/${task_id}`);
    const { body } = await eventually(task, ({ body: now }) => now.attempts.at(-1)?.started_at != null, WAIT_MS);
    const lost = body.attempts[0].gpu_uuids[0];
    expect([smiUuid(0), smiUuid(1)]).toContain(lost);
    smi.tell(oneLost([{}, {}], lost === smiUuid(0) ? 0 : 1));
    const moved = await eventually(task, ({ body: now }) => now.attempts.at(1)?.started_at != null, WAIT_MS);
    expect(moved.body.attempts[0]).toMatchObject({ end_reason: "gpu-failed", gpu_uuids: [lost] });
    expect(moved.body.attempts[1].gpu_uuids).not.toContain(lost);
    await daemon.call("DELETE", `/api/v1/tasks/${task_id}`);
    await eventually(task, ({ body: now }) => now.status === "CANCELLED", WAIT_MS);
  },
);

test.skipIf(!isBuilt)(
  "a service is not started on a GPU on which its last run has left memory (needs dist/)",
  { timeout: 180_000 },
  async () => {
    const { daemon, show } = await startOn([{}, {}]);
    const { id } = await submit(daemon, "/workloads", "Service", {
      executor: "sh",
      restart: { policy: "always", backoff: "100ms" },
    });
    const [first] = await eventually(
      () => runsOf(daemon),
      (runs) => runs[0]?.state === "running",
      WAIT_MS,
    );
    const used = first.gpu_uuids[0];
    const full = (mib: number) => show([0, 1].map((i) => (smiUuid(i) === used ? { memoryUsedMib: mib } : {})));
    full(9_000);
    const status = async () => (await daemon.call("GET", "/gpu/status")).body.gpus;
    await eventually(status, (gpus) => gpus.some((gpu: { memory_used: number }) => gpu.memory_used === 9_000), WAIT_MS);
    // The reading after: one that began before the grant is no proof of use.
    await new Promise((resolve) => setTimeout(resolve, 2_000));
    await daemon.call("POST", `/runs/${first.run_id}/stop`);
    const runs = await eventually(
      () => runsOf(daemon),
      (all) => all.at(-1)?.state === "running" && all.length > 2,
      WAIT_MS,
    );
    expect(runs[1]).toMatchObject({ state: "ended", started_at: null, end_reason: "gpu-not-clean" });
    expect(runs.at(-1).gpu_uuids).not.toContain(used);
    full(0);
    await daemon.call("DELETE", `/workloads/${id}`);
    await eventually(
      () => daemon.call("GET", "/status"),
      ({ body }) => body.runs === 0,
      WAIT_MS,
    );
  },
);
