/** The built controller on a real PostgreSQL, which hangs and is killed. */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import {
  HAS_POSTGRES,
  NEEDS_POSTGRES,
  PASSWORD,
  startPostgres,
  type TestPostgres,
} from "../controller/store/postgres-server.ts";
import { eventually, isBuilt, PROGRAM, temporaryFolder } from "./daemon.ts";

const LONG_MS = 240_000;
vi.setConfig({ testTimeout: LONG_MS, hookTimeout: LONG_MS });
/** How long the database is away; DATABASE_AWAY_SECONDS=60 is what the contract asks for. */
const AWAY_MS = Number(process.env.DATABASE_AWAY_SECONDS ?? 10) * 1_000;

const folder = temporaryFolder();

interface Controller {
  readonly url: string;
  readonly child: ChildProcess;
  readonly said: string[];
}

function start(port: number, name: string, argv: readonly string[]): Promise<Controller> {
  const cwd = join(folder, name);
  mkdirSync(cwd, { recursive: true });
  const env = {
    ...process.env,
    ...{ DB_HOST: "127.0.0.1", DB_PORT: String(port), DB_NAME: "controller", DB_USER: "root", DB_PASSWORD: PASSWORD },
    ...{ DB_SSL: "disable", RESOURCE_TRACK_INTERVAL: "1" },
  };
  const given = [PROGRAM, "controller", "--backend", "host", "--port", "0", ...argv];
  const child = spawn(process.execPath, given, { cwd, env, stdio: ["ignore", "pipe", "inherit"], detached: true });
  const said: string[] = [];
  return new Promise((serving, reject) => {
    child.once("exit", (code) => reject(new Error(`exited with ${code}: ${said.join("\n")}`)));
    createInterface({ input: child.stdout as NodeJS.ReadableStream }).on("line", (line) => {
      said.push(line);
      const { msg, url } = JSON.parse(line);
      if (msg === "the controller serves") serving({ url, child, said });
    });
  });
}

async function call({ url }: Controller, method: string, path: string, body?: object) {
  const answer = await fetch(url + path, {
    method,
    headers: { "content-type": "application/json" },
    body: body === undefined ? null : JSON.stringify(body),
  });
  const text = await answer.text();
  return { status: answer.status, body: path === "/metrics" ? text : JSON.parse(text) };
}

async function stopped({ child }: Controller): Promise<void> {
  if (child.exitCode !== null) return;
  const gone = new Promise((exited) => child.once("exit", exited));
  child.kill("SIGTERM");
  await gone;
}

const LLAMA = { tenant_id: "acme", model_id: "llama-7b", model_name: "llama2", model_path: "meta-llama/Llama-2-7b-hf" };
const ready = (controller: Controller) =>
  eventually(
    () => call(controller, "GET", "/readyz"),
    ({ status }) => status === 200,
    LONG_MS / 4,
  );
const figure = async (controller: Controller, name: string): Promise<number> => {
  const { body } = await call(controller, "GET", "/metrics");
  return Number(new RegExp(`^llm_orchestrator_${name} (\\S+)$`, "m").exec(body)?.[1]);
};

describe.skipIf(!isBuilt || !HAS_POSTGRES)(`the controller on a PostgreSQL (needs dist/)${NEEDS_POSTGRES}`, () => {
  let server: TestPostgres;
  let first: Controller;
  let second: Controller;
  let id = "";
  beforeAll(async () => {
    server = await startPostgres();
    await server.database("controller");
    first = await start(server.port, "first", ["--simulate", "h100x2"]);
    await ready(first);
  });
  afterAll(async () => {
    for (const one of [second, first]) if (one !== undefined) await stopped(one);
    await server?.stop();
  });

  const running = (controller: Controller, replicas: number) =>
    eventually(
      () => call(controller, "GET", `/internal/deployments/${id}/status`),
      ({ body }) => body.ready_replicas === replicas && body.status === "running",
      LONG_MS / 2,
    );
  const rows = async (sql: string) => (await server.query("controller", sql)).rows;

  test("keeps deployments, their pods and their history in its tables", async () => {
    const { body } = await call(first, "POST", "/internal/deployments/create", {
      ...LLAMA,
      replicas: 1,
      gpu_per_replica: 1,
    });
    id = body.deployment_id;
    await running(first, 1);
    const found = await eventually(
      () =>
        rows(`SELECT d.status, d.ready_replicas, p.is_ready, n.gpu_count FROM orchestration.deployments d
        JOIN orchestration.pod_allocations p USING (deployment_id) JOIN orchestration.gpu_nodes n USING (node_id)`),
      ([row]) => row?.is_ready === true && row.status === "running",
      20_000,
    );
    expect(found).toEqual([{ status: "running", ready_replicas: 1, is_ready: true, gpu_count: 2 }]);
    await eventually(
      () => rows("SELECT action, object, result FROM orchestration.audit"),
      (audit) => audit.some(({ action, result }) => action.includes("deployments/create") && result === "done"),
      20_000,
    );
  });

  test("lets a second controller serve the same objects, of which the first one decides", async () => {
    // Its daemon is nobody: if it decided, replicas would be lost to it.
    second = await start(server.port, "second", ["--config", configFor("http://127.0.0.1:1")]);
    const { body } = await eventually(
      () => call(second, "GET", `/internal/deployments/${id}`),
      ({ status }) => status === 200,
      20_000,
    );
    expect(body).toMatchObject({ tenant_id: "acme", ready_replicas: 1 });
    const put = await call(second, "PUT", `/internal/deployments/${id}`, { replicas: 2 });
    expect(put.status).toBe(200);
    await running(first, 2);
    await running(second, 2);
    await stopped(second);
  });

  const configFor = (url: string) => {
    const path = join(folder, "second.yaml");
    writeFileSync(path, `host: {url: "${url}"}\n`);
    return path;
  };

  /** A replica dies meanwhile, and comes back: nobody asks the database whether it may. */
  async function loseOneReplica(): Promise<void> {
    const all = execFileSync("ps", ["-eo", "pid,ppid,args"], { encoding: "utf8" });
    const known = all.split("\n").map((line) => line.trim().split(/\s+/));
    const holders = known.flatMap(([pid, , ...args]) =>
      args.some((arg) => arg.startsWith(join(folder, "first"))) && args.join(" ").includes("holder.js") ? [pid] : [],
    );
    const [engine] = known.flatMap(([pid, parent]) => (holders.includes(parent) ? [Number(pid)] : []));
    expect(engine).toBeGreaterThan(1);
    const restarts = ({ pods }: { pods: { restart_count: number }[] }) =>
      pods.reduce((sum, pod) => sum + pod.restart_count, 0);
    const status = () => call(first, "GET", `/internal/deployments/${id}/status`);
    const before = restarts((await status()).body);
    process.kill(engine as number, "SIGKILL");
    await eventually(status, ({ body }) => restarts(body) > before && body.ready_replicas === 2, 60_000);
  }

  async function awayFor(ms: number, back: () => unknown): Promise<void> {
    const until = Date.now() + ms;
    const looks = await figure(first, "looks_total");
    const refused = await call(first, "PUT", `/internal/deployments/${id}`, { replicas: 1 });
    expect(refused).toMatchObject({ status: 503, body: { code: "storage-unavailable" } });
    expect(await call(first, "GET", `/internal/deployments/${id}`)).toMatchObject({
      status: 200,
      body: { replicas: 2 },
    });
    expect((await call(first, "GET", "/admin/v1/scaling/events")).body.length).toBeGreaterThan(0);
    expect((await call(first, "GET", "/health")).body).toMatchObject({
      status: "degraded",
      components: { database: "unhealthy" },
    });
    expect(await figure(first, "database_up")).toBe(0);
    await loseOneReplica();
    while (Date.now() < until) await new Promise((resolve) => setTimeout(resolve, 200));
    expect(await figure(first, "looks_total")).toBeGreaterThan(looks + ms / 2_000);
    expect(await figure(first, "database_buffered_rows")).toBeGreaterThan(0);
    await back();
    await eventually(
      () => Promise.all([figure(first, "database_up"), figure(first, "database_buffered_rows")]),
      ([up, buffered]) => up === 1 && buffered === 0,
      30_000,
    );
    expect(await figure(first, "database_dropped_rows_total")).toBe(0);
    const refusals = await rows(
      "SELECT result FROM orchestration.audit WHERE action LIKE 'PUT %' AND result <> 'done'",
    );
    expect(new Set(refusals.map(({ result }) => result))).toEqual(new Set(["storage-unavailable"]));
    const changed = await call(first, "PUT", `/internal/deployments/${id}`, { replicas: 2 });
    expect(changed.status).toBe(200);
  }

  test("goes on while PostgreSQL hangs, and has forgotten nothing afterwards", async () => {
    for (const pid of processesOf(server.pid)) process.kill(pid, "SIGSTOP");
    await awayFor(AWAY_MS, () => {
      for (const pid of processesOf(server.pid)) process.kill(pid, "SIGCONT");
    });
  });

  test("goes on while PostgreSQL is dead, and has forgotten nothing afterwards", async () => {
    for (const pid of processesOf(server.pid)) process.kill(pid, "SIGKILL");
    await awayFor(AWAY_MS, () => server.restart());
  });

  test("never says the password", async () => {
    const config = (await call(first, "GET", "/admin/v1/config")).body;
    expect(config.database).toBe(`postgres://root@127.0.0.1:${server.port}/controller`);
    const health = JSON.stringify((await call(first, "GET", "/health")).body);
    expect([...first.said, ...second.said, JSON.stringify(config), health].join("\n")).not.toContain(PASSWORD);
  });
});

/** A server and its sessions. */
function processesOf(pid: number): number[] {
  const all = execFileSync("ps", ["-eo", "pid,ppid"], { encoding: "utf8" });
  const children = all.split("\n").flatMap((line) => {
    const [own, parent] = line.trim().split(/\s+/).map(Number);
    return parent === pid ? [own as number] : [];
  });
  return [pid, ...children];
}
