/** Two built daemons and a real Redis: a task goes to the one that has the GPUs, and is looked at through the other. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { hasRedis, NEEDS_REDIS, TestRedis } from "../work-service/redis.ts";
import { eventually, isBuilt, startDaemon, type TestDaemon, temporaryFolder } from "./daemon.ts";
import { freePort } from "./free-port.ts";

const runs = isBuilt && hasRedis;
const KEY = { authorization: "Bearer a-key-of-at-least-16-letters" };
const daemons: TestDaemon[] = [];
let redis: TestRedis;

async function start(role: string, node: string, simulate: string): Promise<TestDaemon> {
  const folder = temporaryFolder();
  const port = await freePort();
  const secret = join(folder, "secret");
  writeFileSync(secret, "the-same-on-both-of-the-hosts");
  const cluster = `role: ${role}, redis_url: "${redis.url}", secret_file: "${secret}", node_url: "http://127.0.0.1:${port}"`;
  const config = `
auth: {enabled: true, api_keys: {a-key-of-at-least-16-letters: {principal: me, role: run}}}
work:
  enabled: true
  allow_root: true
  allow_same_user: true
  node: ${node}
  executors: {shell: {type: process, programs: [/bin/sh]}}
  task_types: {hello: shell}
cluster: {${cluster}, heartbeat_interval: 1s}
`;
  const daemon = await startDaemon({ folder, config, port, simulate });
  daemons.push(daemon);
  return daemon;
}

beforeAll(async () => {
  if (runs) redis = await TestRedis.start();
});
afterAll(async () => {
  for (const daemon of daemons) {
    await daemon.end();
    daemon.removeFolder();
  }
  if (runs) await redis.stop();
});

describe.skipIf(!runs)(`two daemons (needs dist/; ${NEEDS_REDIS})`, () => {
  test("a task runs where its GPUs are; its logs, result and files come through the controller", {
    timeout: 180_000,
  }, async () => {
    const head = await start("controller", "head", "h100x1");
    const member = await start("member", "gpu-17", "h100x4");
    const get = (path: string) => head.call("GET", path, undefined, KEY);
    await eventually(
      () => get("/workers"),
      // A member is listed before its worker has reported, and takes nothing until then.
      ({ body }) => body.length === 2 && body.every(({ status }: { status: string }) => status !== "STARTING"),
      60_000,
    );
    const script = "echo line; mkdir $OUT_DIR/artifacts; printf made > $OUT_DIR/artifacts/a; sleep 2; echo last";
    const yaml = `apiVersion: gpu-orchestrator/v1
kind: Task
metadata: {name: hello}
spec: {taskType: hello, command: [/bin/sh, -c, '${script}'], resources: {hardware: {gpu: {count: 3}}}}
`;
    const plan = await head.call("POST", "/api/v1/tasks/plan", { yaml }, KEY);
    expect(plan.body).toMatchObject({ node: "gpu-17", fits: true, starts_now: true });
    const grace = yaml.replace("spec: {", "spec: {retry: {lost: 1}, stop: {grace: 110s}, ");
    const warned = await head.call("POST", "/api/v1/tasks/plan", { yaml: grace }, KEY);
    expect(warned.body.warnings).toEqual([expect.stringContaining("spec.retry.lost counts 0")]);
    const { body } = await head.call("POST", "/api/v1/tasks", { yaml }, KEY);
    expect(body).toMatchObject({ ok: true, topic: "tasks.hello" });
    const id = body.task_id;
    await eventually(
      () => get(`/api/v1/tasks/${id}`),
      (answer) => answer.body.assigned_worker === "gpu-17" && answer.body.started_at !== null,
      60_000,
    );
    const followed = await eventually(
      () => get(`/api/v1/tasks/${id}/logs?follow=true`),
      ({ status }) => status === 200,
      60_000,
    );
    expect(followed.body).toBe("line\nlast\n");
    const over = await eventually(
      () => get(`/api/v1/tasks/${id}?wait=10s`),
      (answer) => answer.body.status === "DONE",
      60_000,
    );
    expect(over.body.attempts).toMatchObject([{ node: "gpu-17", end_reason: "exited" }]);
    expect(over.body.attempts[0].gpu_uuids).toHaveLength(3);
    expect((await get(`/api/v1/tasks/${id}/result`)).body).toEqual({ ok: true, exit_code: 0 });
    expect((await get(`/api/v1/tasks/${id}/files/artifacts/a`)).body).toBe("made");
    expect((await get(`/api/v1/tasks/${id}/files/nope`)).status).toBe(404);
    expect((await get("/metrics")).body).toContain('gpu_orchestrator_cluster_nodes{state="up"} 2');
    // Without the secret a node's own door is shut, with a key too.
    const run = over.body.attempts[0].run_id;
    expect((await member.call("GET", `/cluster/runs/${run}/logs`, undefined, KEY)).status).toBe(404);
    await eventually(
      () => member.call("GET", "/gpu/list", undefined, KEY),
      (list) => list.body.allocations.length === 0,
      30_000,
    );
  });
});
