/** Every call of the API's document, in an order in which somebody would try them at /docs, and what each answers. */
import { onTestFinished } from "vitest";
import { eventually, type TestDaemon } from "../e2e/daemon.ts";
import { FakeNvidiaSmi } from "../fixtures/fake-nvidia-smi.ts";
import { smiDocument } from "../fixtures/nvidia-smi-document.ts";
import { started } from "./browser.ts";

export const KEY = "a-key-of-a-test";
export const AS_TESTER = { "x-api-key": KEY };
const GPUS = 4;
const NOBODY = "http://127.0.0.1:9/";
/** Everything is switched on that has calls, and somebody of no lease is on the first GPU. */
const config = (nvidiaSmi: string) => `
auth: { enabled: true, store: database, api_keys: { ${KEY}: { principal: tester, role: admin } } }
monitoring: { nvidia_smi_path: ${nvidiaSmi} }
allocator: { foreign_use: adopt, foreign_use_readings: 1 }
work:
  enabled: true
  allow_root: true
  allow_same_user: true
  executors: { echo: { type: echo }, sh: { type: process, programs: [/bin/sh] } }
  task_types: { job: sh, echo: echo }
`;

/** What must have happened before the next press. */
export interface Meanwhile {
  readonly until: (daemon: TestDaemon) => Promise<unknown>;
}

function call(daemon: TestDaemon, method: string, path: string, body?: unknown) {
  return daemon.call(method, path, body, AS_TESTER);
}

function tasksAre(daemon: TestDaemon, satisfied: (tasks: { name: string; status: string }[]) => boolean) {
  return eventually(
    () => call(daemon, "GET", "/api/v1/tasks"),
    ({ body }) => satisfied(body),
    120_000,
  );
}

const HELLO_IS_DONE: Meanwhile = {
  until: (daemon) =>
    tasksAre(daemon, (tasks) => tasks.some(({ name, status }) => name === "hello" && status === "DONE")),
};
/** It takes its time to end when it is told to, so that its task is open all the while. */
const STUBBORN = "trap '' TERM; echo begun; i=0; while [ $i -lt 60 ]; do sleep 1; i=$((i+1)); done";
const A_TASK_RUNS: Meanwhile = {
  until: async (daemon) => {
    await call(daemon, "POST", "/api/v1/tasks", task("runs", { command: ["/bin/sh", "-c", STUBBORN] }));
    await eventually(
      () => call(daemon, "GET", "/runs?state=running"),
      ({ body }) => body.length === 1,
      120_000,
    );
  },
};

function task(name: string, spec: object) {
  return { apiVersion: "gpu-orchestrator/v1", kind: "Task", metadata: { name }, spec: { taskType: "job", ...spec } };
}

export type Press = readonly [operation: string, status: number];
/**
 * Every call of the document, in an order in which somebody would try them: what one makes the next ones take. Each works,
 * but for those that say why not.
 */
export const PRESSES: readonly (Press | Meanwhile)[] = [
  ...(["status", "list", "windows", "quotas", "usage", "history", "me"] as const).map((one): Press => [one, 200]),
  ...(["healthz", "livez", "readyz", "metrics", "openapi", "docs", "page", "health"] as const).map(
    (one): Press => [one, 200],
  ),
  ["streamEvents", 200],
  ["streamReadings", 200],
  ["planAllocation", 200],
  ["analyzeWorkload", 200],
  ["listReservations", 200],
  ["reserve", 201],
  ["cancelReservation", 200],
  ["allocate", 200],
  ["listAllocations", 200],
  ["readAllocation", 200],
  ["explainAllocation", 200],
  ["renewAllocation", 200],
  ["extendAllocation", 200],
  ["nudgeHolder", 200],
  ["revokeAllocation", 200],
  ["listDeliveries", 200],
  ["redeliver", 200],
  ["testWebhook", 200],
  ["explainGpu", 200],
  // Whoever is on the first GPU.
  ["adoptUse", 200],
  ["endAllocation", 200],
  ["release", 200],
  ["drainGpu", 200],
  ["cordonGpu", 200],
  ["uncordonGpu", 200],
  ["clearQuarantine", 200],
  // Only one that is gone for good is struck off: the example must not be one.
  ["removeGpu", 409],
  ["drainHost", 200],
  ["undrainHost", 200],
  ["audit", 200],
  ["listKeys", 200],
  ["createKey", 201],
  ["revokeKey", 200],
  ["learned", 200],
  ["forgetLearned", 200],
  ["planTask", 200],
  ["submitTask", 200],
  ["readTask", 200],
  HELLO_IS_DONE,
  ["taskResult", 200],
  ["result", 200],
  ["taskFile", 200],
  ["taskLogs", 200],
  ["listTasks", 200],
  ["createWorkload", 201],
  ["listWorkloads", 200],
  ["readWorkload", 200],
  ["changeWorkload", 200],
  // "Not yet": no host has the settings of the example's model by itself.
  ["schedule", 202],
  ["restartWorkload", 202],
  ["deleteWorkload", 204],
  A_TASK_RUNS,
  ["work", 200],
  ["listRuns", 200],
  ["readRun", 200],
  ["runLogs", 200],
  // Only one whose books are lost.
  ["adoptRun", 409],
  ["stopRun", 202],
  ["cancelTask", 200],
  ["listWorkers", 200],
  ["readWorker", 200],
  ["cleanUp", 200],
  ["workStatus", 200],
];

export function isPress(one: Press | Meanwhile): one is Press {
  return !("until" in one);
}

/** A daemon on which all of them can work. */
export async function startBusy(): Promise<TestDaemon> {
  const somebody = { pid: process.pid, type: "C", name: "python", usedMemoryMib: 4_000 };
  const gpus = Array.from({ length: GPUS }, (_, i) => (i === 0 ? { processes: [somebody] } : {}));
  const smi = new FakeNvidiaSmi({ mode: "text", text: smiDocument({ gpus }) });
  onTestFinished(() => smi[Symbol.dispose]());
  const daemon = await started({ simulate: null, config: config(smi.path) });
  await eventually(
    () => call(daemon, "GET", "/workers"),
    ({ body }) => body.length === 1,
    60_000,
  );
  const { body } = await call(daemon, "POST", "/gpu/allocate", { service_name: "told", webhook_url: NOBODY });
  await call(daemon, "POST", `/gpu/allocations/${body.id}/revoke`, { reason: "its holder is told" });
  return daemon;
}
