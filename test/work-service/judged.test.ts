/** What a document is told when it is sent: what is left out of it, and what others would reach. */
import { expect, test } from "vitest";
import type { WorkConfig } from "../../src/config/work.ts";
import { ManualClock } from "../../src/platform/clock.ts";
import { startDaemon } from "../http/daemon.ts";
import { idleWork, NO_METRICS } from "../http/idle-work.ts";

async function sent(more: Partial<WorkConfig>, path: string, body: object) {
  const daemon = await startDaemon({ metrics: NO_METRICS, work: idleWork(new ManualClock(), more) });
  return daemon.call("POST", path, { body });
}

const REMOTE = { source: { identifier: "org/model", trust_remote_code: true } };
const service = (executor: string, more: object = {}) => ({ name: "chat", executor, model: REMOTE, ...more });

test("trust_remote_code that the host does not allow is dropped, and whoever sends it is told", async () => {
  const { status, json } = await sent({}, "/workloads", service("vllm"));
  expect([status, json.warnings]).toEqual([
    201,
    ["trust_remote_code is dropped: work.executors.vllm.allow_remote_code is false"],
  ]);
  const task = {
    apiVersion: "gpu-orchestrator/v1",
    kind: "Task",
    metadata: { name: "ask" },
    spec: { taskType: "inference", model: REMOTE, inference: { prompts: ["a"] } },
  };
  const plan = await sent({}, "/api/v1/tasks/plan", task);
  expect(plan.json.warnings).toEqual(json.warnings);
  expect(plan.json.argv).not.toContain("--trust-remote-code");
});

test("a service that others than this host would reach needs a key of the admin's", async () => {
  const open = { serviceHost: "0.0.0.0" };
  const secret = (name: string) => ({ secrets: [name] });
  const command = { command: ["/bin/true"] };
  for (const wish of [service("vllm"), service("vllm", secret("TOKEN")), service("process", command)]) {
    const { status, json } = await sent(open, "/workloads", wish);
    expect([status, json.code, json.detail]).toEqual([
      403,
      "not-allowed",
      expect.stringContaining("work.service_host"),
    ]);
  }
  for (const wish of [service("vllm", secret("VLLM_API_KEY")), service("process", { ...command, ...secret("TOKEN") })])
    expect((await sent(open, "/workloads", wish)).status).toBe(201);
  expect((await sent({ serviceHost: "127.0.0.2" }, "/workloads", service("vllm"))).status).toBe(201);
});

test("the same Idempotency-Key makes one service, and none of another body", async () => {
  const daemon = await startDaemon({ metrics: NO_METRICS, work: idleWork(new ManualClock()) });
  const create = (body: object) => {
    return daemon.call("POST", "/workloads", { body, headers: { "idempotency-key": "once" } });
  };
  const [first, again] = [await create({ name: "chat" }), await create({ name: "chat" })];
  expect([first.status, again.status, again.json.id]).toEqual([201, 201, first.json.id]);
  expect((await daemon.call("GET", "/workloads", {})).json).toHaveLength(1);
  expect((await create({ name: "other" })).status).toBe(422);
});
