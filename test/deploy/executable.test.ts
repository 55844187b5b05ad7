/** The program as one executable, in a folder where nothing else is. */
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { isBuilt, TestDaemon, temporaryFolder } from "../e2e/daemon.ts";

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

  async function serving(): Promise<TestDaemon> {
    const child = spawn(EXECUTABLE, ["serve", "--simulate", "h100x2", "--port", "0"], {
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

  test("refuses to run work, whose programs it does not have", () => {
    const file = join(FOLDER, "work.yaml");
    writeFileSync(file, "work:\n  enabled: true\n  allow_root: true\n  allow_same_user: true\n");
    expect(gpuo("check-config", file)).toMatchObject({ status: 78, stderr: expect.stringContaining("Debian") });
  });
});
