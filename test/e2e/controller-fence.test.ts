/** Two built controllers of one host with one PostgreSQL, of which the one that decides is cut off from it. */
import { type ChildProcess, spawn } from "node:child_process";
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
import { Way } from "../controller/store/way.ts";
import { eventually, isBuilt, PROGRAM, startDaemon, type TestDaemon, temporaryFolder } from "./daemon.ts";

const LONG_MS = 240_000;
vi.setConfig({ testTimeout: LONG_MS, hookTimeout: LONG_MS });

const folder = temporaryFolder();

class Controller {
  readonly child: ChildProcess;
  readonly said: string[] = [];
  url = "";

  constructor(name: string, databasePort: number, daemon: string) {
    const cwd = join(folder, name);
    mkdirSync(cwd, { recursive: true });
    writeFileSync(join(cwd, "c.yaml"), `host: {url: "${daemon}", executor: simulated}\n`);
    const database = { DB_HOST: "127.0.0.1", DB_PORT: String(databasePort), DB_NAME: "controller", DB_USER: "root" };
    const env = { ...process.env, ...database, DB_PASSWORD: PASSWORD, DB_SSL: "disable" };
    const given = [PROGRAM, "controller", "--backend", "host", "--port", "0", "--config", "c.yaml"];
    this.child = spawn(process.execPath, given, { cwd, env, stdio: ["ignore", "pipe", "inherit"] });
    createInterface({ input: this.child.stdout as NodeJS.ReadableStream }).on("line", (line) => {
      this.said.push(line);
      const { msg, url } = JSON.parse(line);
      if (msg === "the controller serves") this.url = url;
    });
  }

  async ready(): Promise<void> {
    await eventually(
      async () => this.url !== "" && (await this.call("GET", "/readyz")).status === 200,
      (isReady) => isReady,
      LONG_MS / 4,
    );
  }

  async call(method: string, path: string, body?: object) {
    const answer = await fetch(this.url + path, {
      method,
      headers: { "content-type": "application/json" },
      body: body === undefined ? null : JSON.stringify(body),
    });
    return { status: answer.status, body: JSON.parse(await answer.text()) };
  }

  async decides(): Promise<boolean> {
    const page = await (await fetch(`${this.url}/metrics`)).text();
    return /^llm_orchestrator_leader 1$/m.test(page);
  }

  async stop(): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    const gone = new Promise((exited) => this.child.once("exit", exited));
    this.child.kill("SIGTERM");
    await gone;
  }
}

describe.skipIf(!isBuilt || !HAS_POSTGRES)(`two controllers of one host (needs dist/)${NEEDS_POSTGRES}`, () => {
  let server: TestPostgres;
  let way: Way;
  let daemon: TestDaemon;
  const controllers: Controller[] = [];
  const started = async (name: string, databasePort: number): Promise<Controller> => {
    const controller = new Controller(name, databasePort, daemon.url);
    controllers.push(controller);
    await controller.ready();
    return controller;
  };
  beforeAll(async () => {
    server = await startPostgres();
    await server.database("controller");
    way = new Way(server.port);
    const work = "enabled: true, allow_unauthenticated: true, allow_root: true, allow_same_user: true";
    daemon = await startDaemon({
      config: `work: {${work}, executors: {simulated: {type: simulated}}, dir: w, results_dir: r}\n`,
      simulate: "h100x4",
    });
  });
  afterAll(async () => {
    for (const one of controllers) await one.stop();
    for (const { id } of (await daemon?.call("GET", "/workloads"))?.body ?? []) {
      await daemon.call("DELETE", `/workloads/${id}`);
    }
    await eventually(
      () => daemon.call("GET", "/runs"),
      ({ body }) => body.every(({ state }: { state: string }) => state === "ended"),
      30_000,
    );
    await daemon?.end();
    await way?.close();
    await server?.stop();
  });

  test("never decide both: the one that is cut off goes on alone, and rests when the other takes over", async () => {
    const first = await started("first", await way.open());
    await eventually(
      () => first.decides(),
      (does) => does,
      30_000,
    );
    const made = await first.call("POST", "/internal/deployments/create", {
      ...{ tenant_id: "acme", model_id: "llama-7b", model_name: "llama2", model_path: "meta-llama/Llama-2-7b-hf" },
      ...{ replicas: 1, gpu_per_replica: 1 },
    });
    const path = `/internal/deployments/${made.body.deployment_id}`;
    const serves = (controller: Controller, replicas: number) =>
      eventually(
        () => controller.call("GET", `${path}/status`),
        ({ body }) => body.ready_replicas === replicas && body.replicas === replicas,
        LONG_MS / 2,
      );
    await serves(first, 1);

    way.cut();
    await new Promise((resolve) => setTimeout(resolve, 4_000));
    expect(await first.decides()).toBe(true);

    const second = await started("second", server.port);
    let both = 0;
    const looking = setInterval(async () => {
      const [one, other] = await Promise.all([first, second].map((each) => each.decides().catch(() => false)));
      if (one && other) both++;
    }, 50);
    await eventually(
      () => second.decides(),
      (does) => does,
      60_000,
    );
    expect(await first.decides()).toBe(false);
    expect(first.said.join("\n")).toContain("another controller of this host has taken over");
    expect((await second.call("PUT", path, { replicas: 2 })).status).toBe(200);
    await serves(second, 2);
    // The first still wants one: if it decided, the second one would be stopped again and again.
    await new Promise((resolve) => setTimeout(resolve, 5_000));
    await serves(second, 2);

    way.isCut = false;
    await serves(first, 2);
    await second.stop();
    await eventually(
      () => first.decides(),
      (does) => does,
      60_000,
    );
    clearInterval(looking);
    expect(both).toBe(0);
    await first.call("PUT", path, { replicas: 1 });
    await serves(first, 1);
  });
});
