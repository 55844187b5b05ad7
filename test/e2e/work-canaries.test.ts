/** What a task or a service has of its owner's, each as a word that stands nowhere else, and who must not be shown it. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { ManualClock } from "../../src/platform/clock.ts";
import { idleWork } from "../http/idle-work.ts";
import { type Answer, eventually, isBuilt, startDaemon, temporaryFolder } from "./daemon.ts";

const KEYS = { ann: "canary-work-ann-1c9a7e5b", bob: "canary-work-bob-77aa01f3", eye: "canary-work-eye-5512ab90" };
const SECRET = "canary-work-secret-0a1b2c3d";
const OWN = {
  argument: "canary-argument-a1",
  variable: "canary-variable-b2",
  written: "canary-written-c3",
  result: "canary-result-d4",
  label: "canary-annotation-e5",
};

const config = (secret: string) => `
logging: {level: trace}
storage: {path: state.db}
auth:
  enabled: true
  api_keys:
    ${KEYS.ann}: {principal: ann, role: run}
    ${KEYS.bob}: {principal: bob, role: run}
    ${KEYS.eye}: {principal: eye, role: read}
work:
  enabled: true
  allow_root: true
  allow_same_user: true
  executors:
    sh: {type: process, programs: [/bin/sh], user_env: [GREETING]}
  task_types: {job: sh}
  secrets: {TOKEN: {file: ${secret}, principals: [ann]}}
`;

const SCRIPT = `: ${OWN.argument}; echo ${OWN.written}; echo "{\\"ok\\": true, \\"x\\": \\"${OWN.result}\\"}" > $OUT_DIR/responses.json`;
const SPEC = { env: { GREETING: OWN.variable }, secrets: ["TOKEN"] };
const task = {
  apiVersion: "gpu-orchestrator/v1",
  kind: "Task",
  metadata: { name: "job", annotations: { note: OWN.label } },
  spec: { taskType: "job", command: ["/bin/sh", "-c", SCRIPT], ...SPEC },
};
const service = {
  id: "failing",
  name: "failing",
  executor: "sh",
  command: ["/bin/sh", "-c", `${SCRIPT}; exit 3`],
  restart: { policy: "on-failure", backoff: "1s", give_up_after: 1 },
  ...SPEC,
};

const found = (words: readonly string[], text: string) => words.filter((word) => text.includes(word));

test.skipIf(!isBuilt)(
  "what a task or a service is made of, writes and answers is its owner's, by whichever call (needs the built program)",
  async () => {
    const secret = join(temporaryFolder(), "token");
    writeFileSync(secret, SECRET);
    const daemon = await startDaemon({ config: config(secret) });
    // Its worker goes with it, unless it is killed.
    onTestFinished(async () => {
      await daemon.end();
      daemon.removeFolder();
    });
    const as = (who: keyof typeof KEYS) => ({ "X-API-Key": KEYS[who] });
    const get = (path: string, who: keyof typeof KEYS) => daemon.call("GET", path, undefined, as(who));
    const until = (path: string, is: (answer: Answer) => boolean) => eventually(() => get(path, "ann"), is, 120_000);

    await until("/workers", ({ body }) => body.length === 1);
    const { body: submitted } = await daemon.call("POST", "/api/v1/tasks", task, as("ann"));
    const created = await daemon.call("POST", "/workloads", service, as("ann"));
    expect([submitted.ok, created.status]).toEqual([true, 201]);
    const done = await until(`/api/v1/tasks/${submitted.task_id}`, ({ body }) => body.status === "DONE");
    const failed = await until("/workloads/failing", ({ body }) => body.status.phase === "failed");
    // Its owner sees all of it, but for the secret.
    const results = await get(`/api/v1/tasks/${submitted.task_id}/result`, "ann");
    const logs = await get(`/api/v1/tasks/${submitted.task_id}/logs`, "ann");
    const owners = JSON.stringify([done.body, failed.body, results.body, logs.body]);
    expect(found(Object.values(OWN), owners)).toEqual(Object.values(OWN));
    expect(failed.body.status.message).toContain(OWN.written);
    expect(found([SECRET], owners)).toEqual([]);

    const { body: runs } = await get("/runs", "ann");
    const { body: workers } = await get("/workers", "ann");
    const ids = [
      submitted.task_id,
      "failing",
      workers[0].worker_id,
      ...runs.map((run: { run_id: string }) => run.run_id),
    ];
    const templates = idleWork(new ManualClock()).endpoints.filter(({ methods }) => methods.GET !== undefined);
    const leasing = [
      "/gpu/list",
      "/gpu/status",
      "/gpu/allocations",
      "/gpu/usage",
      "/gpu/me",
      "/gpu/history",
      "/metrics",
    ];
    const paths = [...templates.flatMap(({ documented }) => pathsOf(documented, ids)), ...leasing];
    const leaks: string[] = [];
    for (const path of paths) {
      for (const who of ["bob", "eye"] as const) {
        const { body } = await get(path, who);
        for (const word of found([...Object.values(OWN), SECRET], JSON.stringify(body))) leaks.push(`${path}: ${word}`);
      }
    }
    expect(leaks).toEqual([]);
    expect(found([...Object.values(OWN), SECRET, ...Object.values(KEYS)], daemon.log.join("\n"))).toEqual([]);
    expect((await daemon.call("DELETE", "/workloads/failing", undefined, as("bob"))).status).toBe(403);
    expect((await daemon.call("DELETE", "/workloads/failing", undefined, as("ann"))).status).toBe(204);
  },
  240_000,
);

/** A call about each of these. */
function pathsOf(template: string, ids: readonly string[]): readonly string[] {
  if (!template.includes("{id}")) return [template];
  return ids.map((id) => template.replace("{id}", encodeURIComponent(id)).replace("*rest", "responses.json"));
}
