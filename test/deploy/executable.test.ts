/** The program as one executable, in a folder where nothing else is. */
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { cpSync, linkSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { eventually, isBuilt, TestDaemon, temporaryFolder } from "../e2e/daemon.ts";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const FOLDER = temporaryFolder();
const EXECUTABLE = join(FOLDER, "bin/gpuo");
const EMPTY = join(FOLDER, "empty");
const MOST_MIB = 140;

/** Nothing of this machine's Node. */
const env = { PATH: "/usr/bin:/bin", HOME: EMPTY };

describe.skipIf(!isBuilt)("the single executable (needs the built program)", () => {
  let daemon: TestDaemon;

  beforeAll(async () => {
    execFileSync(process.execPath, ["scripts/executable.mjs", EXECUTABLE], { cwd: ROOT, stdio: "ignore" });
    mkdirSync(EMPTY);
    daemon = await serving();
  }, 180_000);

  afterAll(async () => {
    await daemon?.end();
    rmSync(FOLDER, { recursive: true, force: true });
  });

  async function serving(program = EXECUTABLE, ...further: string[]): Promise<TestDaemon> {
    const child = spawn(program, ["serve", "--simulate", "h100x2", "--port", "0", ...further], {
      cwd: EMPTY,
      env,
      stdio: "pipe",
    });
    const log: string[] = [];
    for await (const line of createInterface({ input: child.stdout })) {
      log.push(line);
      const url = /"url":"(http:[^"]+)".*"msg":"serving"/.exec(line)?.[1];
      if (url === undefined) continue;
      child.stdout.resume();
      return new TestDaemon(EMPTY, url, child, log);
    }
    throw new Error(log.join("\n"));
  }

  const gpuo = (...args: string[]) => {
    const { status, stdout, stderr } = spawnSync(EXECUTABLE, args, {
      cwd: EMPTY,
      env: { ...env, GPU_ORCHESTRATOR_URL: daemon.url },
      encoding: "utf8",
    });
    return { status, stdout, stderr };
  };

  test("is of a size that can be carried about, and tells its version", () => {
    expect(statSync(EXECUTABLE).size / 2 ** 20).toBeLessThan(MOST_MIB);
    const { version } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8"));
    expect(gpuo("--version")).toEqual({ status: 0, stdout: `${version}\n`, stderr: "" });
  });

  test("serves the page, its script, and the API's page", async () => {
    for (const path of ["/", "/docs", "/docs/swagger-ui.css", "/docs/swagger-ui-bundle.js", "/openapi.json"]) {
      const answer = await daemon.call("GET", path, undefined, { accept: "text/html" });
      expect([path, answer.status]).toEqual([path, 200]);
    }
    const { body } = await daemon.call("GET", "/", undefined, { accept: "text/html" });
    const script = /"(\/page\/main\.js[^"]*)"/.exec(body)?.[1] ?? "";
    expect((await daemon.call("GET", script)).body).toContain("fetch");
  });

  test("runs a command with a keeper of its own, and gives its GPUs back", async () => {
    const { status, stdout } = gpuo("run", "-g", "2", "--", "sh", "-c", "echo $CUDA_VISIBLE_DEVICES; exit 7");
    expect([status, stdout.trim().split(",").length]).toEqual([7, 2]);
    expect((await daemon.call("GET", "/gpu/list")).body.allocations).toEqual([]);
  });

  test("starts the database's thread from within itself, for turns that write much", async () => {
    const threads = () =>
      Number(/^Threads:\s+(\d+)/m.exec(readFileSync(`/proc/${daemon.process.pid}/status`, "utf8"))?.[1]);
    const ask = () => daemon.allocate({ required_gpus: 2 });
    await ask();
    const before = threads();
    // What ends all at once is one turn.
    for (let rounds = 0; rounds < 8 && threads() <= before; rounds++) {
      await Promise.all(Array.from({ length: 400 }, ask));
      await daemon.call("POST", "/gpu/release", { service_name: "svc" });
    }
    expect(threads()).toBeGreaterThan(before);
    // One that cannot start ends at once.
    await new Promise((resolve) => setTimeout(resolve, 500));
    expect(threads()).toBeGreaterThan(before);
    expect((await ask()).status).toBe(200);
  });

  const WORK =
    "work:\n  enabled: true\n  allow_root: true\n  allow_same_user: true\n  allow_unauthenticated: true\n  cage: session\n";

  test("refuses to run work where it is alone, without the Python that it starts", () => {
    const file = join(FOLDER, "work.yaml");
    writeFileSync(file, WORK);
    expect(gpuo("check-config", file)).toMatchObject({ status: 78, stderr: expect.stringContaining("Debian") });
  });

  test("runs work with what is beside it in the package: its worker, holder and stand-in are the executable itself", async () => {
    const installed = join(FOLDER, "lib/gpuo");
    cpSync(join(ROOT, "executors"), join(FOLDER, "lib/executors"), { recursive: true });
    linkSync(EXECUTABLE, installed);
    const config = join(FOLDER, "installed.yaml");
    const executors =
      "  executors: {sim: {type: simulated, env: {SIMULATED_SECONDS: '1'}}}\n  task_types: {echo: sim}\n";
    writeFileSync(config, `${WORK}${executors}storage: {path: ${join(FOLDER, "work.db")}}\n`);
    const worked = await serving(installed, "--config", config);
    try {
      const task =
        "apiVersion: gpu-orchestrator/v1\nkind: Task\nmetadata: {name: job}\nspec: {taskType: echo, data: {prompts: [hi]}}\n";
      const sent = await fetch(`${worked.url}/api/v1/tasks`, {
        method: "POST",
        headers: { "content-type": "text/yaml" },
        body: task,
      });
      const { task_id: id } = (await sent.json()) as { readonly task_id: string };
      const holders = () =>
        spawnSync("pgrep", ["-f", `^${installed} work:holder `], { encoding: "utf8" }).stdout.trim();
      const held: string[] = [];
      const { body } = await eventually(
        () => {
          held.push(holders());
          return worked.call("GET", `/api/v1/tasks/${id}`);
        },
        ({ body }) => ["DONE", "FAILED", "CANCELLED"].includes(body.status),
        90_000,
      );
      expect([body.status, held.some((pid) => pid !== "")]).toEqual(["DONE", true]);
    } finally {
      await worked.end();
    }
  }, 120_000);

  test("is the same bytes when it is made again", () => {
    const again = join(FOLDER, "again");
    execFileSync(process.execPath, ["scripts/executable.mjs", again], { cwd: ROOT, stdio: "ignore" });
    expect(readFileSync(again).equals(readFileSync(EXECUTABLE))).toBe(true);
  }, 180_000);
});
