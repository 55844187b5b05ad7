/** What the built program tells of a task that has ended: its webhook, and the upload of its result. */
import { Webhook } from "standardwebhooks";
import { expect, onTestFinished, test } from "vitest";
import { eventually, isBuilt, startDaemon, temporaryFolder } from "./daemon.ts";
import { Receiver } from "./receiver.ts";

const SECRET = `whsec_${Buffer.from("a secret of twenty-four b").toString("base64")}`;
const config = `
webhooks: {secret: "${SECRET}", allowed_hosts: [loopback]}
work:
  enabled: true
  allow_unauthenticated: true
  allow_root: true
  allow_same_user: true
  executors:
    echo: {type: echo}
    sh: {type: process, programs: [/bin/sh]}
  task_types: {echo: echo, job: sh}
`;

test.skipIf(!isBuilt)(
  "a task's webhook is signed and sent until it is taken, and its result is uploaded (needs the built program)",
  { timeout: 60_000 },
  async () => {
    const daemon = await startDaemon({ folder: temporaryFolder(), config });
    const [hook, store] = [await Receiver.start(), await Receiver.start()];
    onTestFinished(async () => {
      await Promise.all([hook.stop(), store.stop()]);
      await daemon.end();
      daemon.removeFolder();
    });
    await eventually(
      () => daemon.call("GET", "/workers"),
      ({ body }) => body.length === 1,
      60_000,
    );
    const submit = async (spec: object) => {
      const yaml = JSON.stringify({ apiVersion: "gpu-orchestrator/v1", kind: "Task", metadata: { name: "job" }, spec });
      return daemon.call("POST", "/api/v1/tasks", { yaml });
    };
    hook.status = 500;
    const destination = { type: "http", url: store.url, headers: { Authorization: "Bearer mine" } };
    const { body: task } = await submit({
      taskType: "echo",
      webhook_url: hook.url,
      inference: { prompts: ["hello"] },
      output: { destination },
    });
    await eventually(
      () => Promise.resolve(hook.received.length),
      (count) => count > 0,
      30_000,
    );
    hook.status = 204;
    const { body } = await eventually(
      () => daemon.call("GET", `/api/v1/tasks/${task.task_id}`),
      ({ body: seen }) => seen.deliveries.every(({ state }: { state: string }) => state === "delivered"),
      30_000,
    );
    expect(body.deliveries).toMatchObject([
      { what: "webhook", attempts: 2, http_status: 204 },
      { what: "result", attempts: 1, http_status: 200 },
    ]);
    const [first, second] = hook.received;
    expect(first?.headers["webhook-id"]).toBe(second?.headers["webhook-id"]);
    const headers = second?.headers as Record<string, string>;
    expect(new Webhook(SECRET).verify(JSON.stringify(second?.body), headers)).toMatchObject({
      status: "DONE",
      task_id: task.task_id,
      task: { name: "job", exit_code: 0 },
    });
    const [upload] = store.received;
    expect(upload?.headers.authorization).toBe("Bearer mine");
    const { body: result } = await daemon.call("GET", `/api/v1/tasks/${task.task_id}/result`);
    expect(upload?.body).toEqual({ task_id: task.task_id, result });

    const failed = await submit({ taskType: "job", command: ["/bin/sh", "-c", "exit 3"], webhook_url: hook.url });
    await eventually(
      () => Promise.resolve(hook.received.at(-1)),
      (last) => last?.body.task_id === failed.body.task_id,
      30_000,
    );
    expect(hook.received.at(-1)?.body).toMatchObject({ status: "FAILED", task: { exit_code: 3 } });

    const elsewhere = "http://169.254.169.254/latest";
    for (const spec of [
      { taskType: "echo", webhook_url: elsewhere },
      { taskType: "echo", output: { destination: { type: "http", url: elsewhere } } },
    ]) {
      const refused = await submit(spec);
      expect([refused.status, refused.body.errors[0].message]).toEqual([422, expect.stringContaining("link-local")]);
    }
  },
);
