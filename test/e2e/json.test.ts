/** What the verbs print with `--json`: the API's own bodies, held against the API's own document. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { GROUPS } from "../../src/cli/cli.ts";
import { programOf } from "../../src/cli/program.ts";
import { EVENT_BODIES } from "../../src/wire/events/answers.ts";
import { Described } from "../http/described.ts";
import { eventually, isBuilt, startDaemon, type TestDaemon } from "./daemon.ts";
import { runProgram } from "./program.ts";
import { Receiver } from "./receiver.ts";

const KEY = "admin-key-0123456789";
const CONFIG = `
auth:
  enabled: true
  store: database
  api_keys:
    ${KEY}: {principal: ada, role: admin}
allocator: {foreign_use: adopt}
quotas:
  principals: {ada: {max_gpus: 8}}
windows:
  - {name: night, schedule: "0 2 * * *", time_zone: UTC, duration: 1h, gpus: 1, for: {workload_types: [inference]}}
work:
  enabled: true
  allow_root: true
  allow_same_user: true
  executors:
    sh: {type: process, programs: [/bin/sh]}
    sim: {type: simulated}
  task_types: {job: sh}
  models:
    llama2: {executor: sim, readiness: {http: /health, interval: 200ms}}
`;
const TASK = `apiVersion: gpu-orchestrator/v1
kind: Task
metadata: {name: hello}
spec: {taskType: job, command: [/bin/sh, -c, "true"], resources: {hardware: {gpu: {count: 1}}}}
`;

// biome-ignore lint/suspicious/noExplicitAny: what is printed is looked into freely.
type Json = any;

/** Verbs that take `--json` and print no body of the API's. */
const WITHOUT_BODY = ["shell", "mcp", "logs", "doctor", "replay"];

/** What they print is what the daemon answers, as of `cordon`; on simulated GPUs there is nothing for them to do. */
const NOTHING_TO_DO = ["adopt", "clear-quarantine"];

describe.skipIf(!isBuilt)("--json (needs the built program)", () => {
  let daemon: TestDaemon;
  let described: Described;
  let receiver: Receiver;
  const tried = new Set<string>();

  /** What a verb prints, a line an object. */
  async function printed(...args: readonly string[]): Promise<Json[]> {
    tried.add(args[0] as string);
    const env = { GPU_ORCHESTRATOR_URL: daemon.url, GPU_ORCHESTRATOR_API_KEY: KEY, HOME: daemon.folder };
    const { end, stdout, stderr } = await runProgram([...args, ...(args.includes("--json") ? [] : ["--json"])], {
      cwd: daemon.folder,
      env,
    });
    expect([end, stderr], args.join(" ")).toEqual([0, ""]);
    return stdout
      .trim()
      .split("\n")
      .filter((line) => line !== "")
      .map((line) => JSON.parse(line));
  }

  /** A verb whose one line is the body of a call. */
  async function one(call: string, status: number, ...args: readonly string[]): Promise<Json> {
    const lines = await printed(...args);
    expect(lines, args.join(" ")).toHaveLength(1);
    const [method = "", template = ""] = call.split(" ");
    described.expectBody(method, template, status, lines[0]);
    return lines[0];
  }

  /** A verb whose lines are the elements of an answer. */
  async function each(path: string, field: string, template: string, ...args: readonly string[]): Promise<Json[]> {
    const lines = await printed(...args);
    expect(lines.length, args.join(" ")).toBeGreaterThan(0);
    const { body } = await daemon.call("GET", path, undefined, { authorization: `Bearer ${KEY}` });
    described.expectBody("GET", template, 200, field === "" ? lines : { ...body, [field]: lines });
    return lines;
  }

  beforeAll(async () => {
    daemon = await startDaemon({ config: CONFIG });
    receiver = await Receiver.start();
    const { body } = await daemon.call("GET", "/openapi.json", undefined, { authorization: `Bearer ${KEY}` });
    described = new Described(body);
    writeFileSync(join(daemon.folder, "task.yaml"), TASK);
  });

  afterAll(async () => {
    await receiver.stop();
    await daemon.end();
    daemon.removeFolder();
  });

  test("of leases and requests has the fields of the API's document", async () => {
    const asked = ["-g", "6", "--max-duration", "1h", "--ttl", "30m", "--webhook", receiver.url];
    const held = await one("POST /gpu/allocate", 200, "allocate", ...asked);
    const queued = await one("POST /gpu/allocate", 202, "allocate", "-g", "4", "--name", "waiter");
    await each("/gpu/list", "allocations", "/gpu/list", "leases");
    await each("/gpu/list", "queue", "/gpu/list", "queue");
    await one("POST /gpu/plan", 200, "plan", "-g", "2");
    await one("POST /gpu/plan", 200, "run", "--dry-run", "--json", "true");
    for (const id of [held.id, queued.id]) {
      await one("GET /gpu/allocations/{id}", 200, "show", id);
      await one("GET /gpu/allocations/{id}/why", 200, "why", id);
    }
    await one("GET /gpu/allocations/{id}", 200, "wait", held.id);
    await one("POST /gpu/allocations/{id}/renew", 200, "renew", held.id);
    await one("POST /gpu/allocations/{id}/extend", 200, "extend", held.id, "2h");
    await one("POST /gpu/allocations/{id}/nudge", 200, "nudge", held.id, "-m", "done?");
    await one("GET /gpu/allocations/{id}", 200, "cancel", queued.id);
    await one("GET /gpu/allocations/{id}", 200, "release", held.id);
    await one("POST /gpu/allocate", 200, "allocate", "--name", "twice");
    await one("POST /gpu/release", 200, "release", "--service", "twice");
    const last = await one("POST /gpu/allocate", 200, "allocate");
    await one("POST /gpu/allocations/{id}/revoke", 200, "revoke", last.id, "--reason", "x");
    await each("/gpu/allocations?status=ended", "allocations", "/gpu/allocations", "history");
    const kept = await one("POST /gpu/reservations", 201, "reserve", "--from", "tomorrow 14:00", "--for", "1h");
    await each("/gpu/reservations", "reservations", "/gpu/reservations", "reservations");
    await one("DELETE /gpu/reservations/{id}", 200, "reservations", "cancel", kept.id);
  });

  test("of the host and its GPUs has them, too", async () => {
    const [status] = await printed("status");
    const { body: list } = await daemon.call("GET", "/gpu/list", undefined, { authorization: `Bearer ${KEY}` });
    expect(Object.keys(status)).toEqual(["gpus", "simulated", "drain"]);
    described.expectBody("GET", "/gpu/list", 200, { ...list, ...status });
    await one("GET /gpu/list", 200, "top");
    const [gpu] = await printed("show", "0");
    described.expectBody("GET", "/gpu/list", 200, { ...list, gpus: [gpu] });
    await one("GET /gpu/gpus/{id}/why", 200, "why", "0");
    const reason = ["--reason", "x"];
    for (const act of ["cordon", "drain"]) await one(`POST /gpu/gpus/{id}/${act}`, 200, act, "0", ...reason);
    for (const act of ["uncordon", "undrain"]) await one("POST /gpu/gpus/{id}/uncordon", 200, act, "0", ...reason);
    for (const act of ["drain", "undrain"]) await one(`POST /gpu/${act}`, 200, act, ...reason);
    await one("POST /gpu/drain", 200, "pause-queue", ...reason);
    await one("POST /gpu/undrain", 200, "resume-queue", ...reason);
  });

  test("of what was and what is allowed has them, too", async () => {
    const events = await printed("events");
    expect(events.map(({ event }) => event)).toContain("granted");
    for (const { id, event, data, ...more } of events) {
      expect([Number.isInteger(id), more]).toEqual([true, {}]);
      const schema = EVENT_BODIES[event as keyof typeof EVENT_BODIES];
      expect(schema.strict().safeParse(data).error?.issues ?? [], event).toEqual([]);
    }
    await one("GET /gpu/usage", 200, "usage");
    await each("/gpu/quotas", "accounts", "/gpu/quotas", "quotas");
    await each("/gpu/windows", "windows", "/gpu/windows", "windows");
    await each("/gpu/audit", "entries", "/gpu/audit", "audit");
    await one("POST /gpu/webhooks/test", 200, "webhooks", "test", receiver.url);
    const deliveries = await each("/gpu/webhooks/deliveries", "deliveries", "/gpu/webhooks/deliveries", "webhooks");
    const [first] = await printed("webhooks", "show", deliveries[0].id);
    expect(Object.keys(first)).toEqual(Object.keys(deliveries[0]));
    await one("POST /gpu/webhooks/deliveries/{id}/redeliver", 200, "webhooks", "redeliver", deliveries[0].id);
    const made = await one("POST /gpu/keys", 201, "keys", "create", "bob");
    await each("/gpu/keys", "keys", "/gpu/keys", "keys", "list");
    await one("DELETE /gpu/keys/{id}", 200, "keys", "revoke", made.id);
  });

  test("of work has them, too", async () => {
    await one("POST /api/v1/tasks/plan", 200, "submit", "task.yaml", "--dry-run");
    const { task_id: id } = await one("POST /api/v1/tasks", 200, "submit", "task.yaml");
    await one("GET /api/v1/tasks/{id}", 200, "wait", id.slice(0, 20));
    await one("GET /api/v1/tasks/{id}/result", 200, "results", id);
    writeFileSync(
      join(daemon.folder, "service.yaml"),
      "apiVersion: gpu-orchestrator/v1\nkind: Service\nmetadata: {name: chat}\nspec: {executor: sim, model: {source: {identifier: org/llama2}}, resources: {replicas: 1, hardware: {gpu: {count: 1}}}, readiness: {http: /health, interval: 200ms}}\n",
    );
    const service = await one("POST /workloads", 201, "submit", "service.yaml");
    await one("GET /workloads/{id}", 200, "wait", service.id);
    const lines = await printed("ps", "--all");
    const tasks = lines.filter((line) => "task_id" in line);
    const workloads = lines.filter((line) => !("task_id" in line));
    expect([tasks.length, workloads.length]).toEqual([1, 1]);
    described.expectBody("GET", "/api/v1/tasks", 200, tasks);
    described.expectBody("GET", "/workloads", 200, workloads);
    await each("/workers", "", "/workers", "workers");
    // None is of lost books; test/e2e/work-lost-books.test.ts has some.
    expect(await printed("adopt-run")).toEqual([]);
    await one("PATCH /workloads/{id}", 200, "scale", service.id, "2");
    // What runs goes on without its daemon.
    expect(await printed("stop", service.id, "-q")).toEqual([]);
    const headers = { authorization: `Bearer ${KEY}` };
    await eventually(
      () => daemon.call("GET", "/runs", undefined, headers),
      ({ body }) => body.every(({ state }: Json) => state === "ended"),
      60_000,
    );
  });

  test("is of every verb that takes it", () => {
    const takes = programOf(GROUPS).commands.filter(({ options }) => options.some(({ long }) => long === "--json"));
    const names = takes
      .map((command) => command.name())
      .filter((name) => ![...WITHOUT_BODY, ...NOTHING_TO_DO].includes(name));
    expect(names.filter((name) => !tried.has(name))).toEqual([]);
  });
});
