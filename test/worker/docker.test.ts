/**
 * The container executor with Docker, for real: a daemon of its own, an image that is made here, and in place of NVIDIA's hook
 * a program that does nothing, which is all that Docker wants to take `--gpus`.
 */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ContainerSteps, STUBBORN } from "./container-steps.ts";
import { pause, Site, until } from "./site.ts";

const IMAGE = "localhost/gpu-orchestrator-test:1";
const NEEDS = "needs root, docker.io and busybox-static (Debian), and a host that lets containers be made";
const START_SECONDS = 60;
const folder = mkdtempSync(join(tmpdir(), "gpuo-docker-"));
const ENV = { DOCKER_HOST: `unix://${join(folder, "docker.sock")}`, DOCKER_CONFIG: folder };
let daemon: ChildProcess | null = null;
let site: Site;

function docker(...args: readonly string[]) {
  const env = { PATH: process.env.PATH ?? "", HOME: folder, ...ENV };
  return spawnSync("docker", args, { encoding: "utf8", env, timeout: 60_000 });
}

/** Says why not; `null`: containers can be made here. */
async function trouble(): Promise<string | null> {
  if (process.getuid?.() !== 0) return "not root";
  const busybox = ["/bin/busybox", "/usr/bin/busybox"].find((path) => existsSync(path));
  if (busybox === undefined || spawnSync("dockerd", ["--version"]).status !== 0) return "not installed";
  const root = join(folder, "image");
  for (const name of ["image/bin", "image/results", "hooks"]) mkdirSync(join(folder, name), { recursive: true });
  writeFileSync(join(root, "bin", "busybox"), readFileSync(busybox), { mode: 0o755 });
  spawnSync("tar", ["-C", root, "-cf", join(folder, "image.tar"), "."]);
  const hook = join(folder, "hooks", "nvidia-container-runtime-hook");
  writeFileSync(hook, "#!/bin/sh\ncat >/dev/null\n", { mode: 0o755 });
  const places = [
    "--data-root",
    join(folder, "data"),
    "--exec-root",
    join(folder, "exec"),
    "--pidfile",
    join(folder, "pid"),
  ];
  const quiet = ["--iptables=false", "--ip6tables=false", "--bridge=none", "--storage-driver=vfs"];
  const env = { PATH: join(folder, "hooks") + delimiter + process.env.PATH, HOME: folder };
  daemon = spawn("dockerd", [...places, ...quiet, "-H", ENV.DOCKER_HOST], { env, stdio: "ignore" });
  for (let i = 0; docker("info").status !== 0; i++) {
    if (i >= START_SECONDS || daemon.exitCode !== null) return "its daemon does not start";
    await pause(1_000);
  }
  const made = docker("import", join(folder, "image.tar"), IMAGE);
  if (made.status !== 0) return made.stderr;
  const tried = docker(
    "run",
    "--rm",
    "--init",
    "--network",
    "none",
    "--memory",
    "268435456",
    IMAGE,
    "/bin/busybox",
    "true",
  );
  return tried.status === 0 ? null : tried.stderr.trim();
}

const why = await trouble();

beforeAll(async () => {
  if (why !== null) return;
  const settings = { type: "container", engine: "docker", cdi: false, images: [IMAGE], env: ENV } as const;
  site = await new Site({ executors: { container: settings } }).start();
});
afterAll(async () => {
  if (why === null) await site.close();
  if (daemon !== null && daemon.exitCode === null) {
    const gone = new Promise((resolve) => daemon?.once("exit", resolve));
    daemon.kill("SIGTERM");
    await gone;
  }
  rmSync(folder, { recursive: true, force: true });
}, 120_000);

const containers = () => docker("ps", "--all", "--format", "{{.Names}}").stdout.trim();
const steps = new ContainerSteps(() => site, IMAGE, containers);
const submit = steps.submit.bind(steps);
const isUp = steps.isUp.bind(steps);
const isGone = steps.isGone.bind(steps);

describe.skipIf(why !== null)(
  `a container of Docker (${NEEDS}${why === null ? "" : `; here: ${why}`})`,
  { timeout: 180_000 },
  () => {
    test("has the GPU of its lease and no other, no rights, and its result in place", async () => {
      const script =
        'echo "{\\"ok\\": true, \\"gpus\\": \\"$NVIDIA_VISIBLE_DEVICES\\"}" > /results/responses.json; /bin/busybox grep -E "NoNewPrivs|CapEff" /proc/self/status';
      const id = submit(script);
      expect(await site.isOver(id)).toMatchObject({ status: "DONE", error: null });
      const read = (file: string) => readFileSync(join(site.dir, "results", id, file), "utf8");
      expect(JSON.parse(read("responses.json"))).toEqual({ ok: true, gpus: expect.stringMatching(/^GPU-[01]$/) });
      expect(read("logs/stdout.log")).toMatch(/NoNewPrivs:\s+1/);
      expect(read("logs/stdout.log")).toMatch(/CapEff:\s+0000000000000000/);
      await isGone(id);
    });

    test("that fails has its exit code", async () => {
      const failed = submit("exit 7", {}, 0);
      expect((await site.isOver(failed)).status).toBe("FAILED");
      expect(site.run(failed)).toMatchObject({ exitCode: 7 });
      await isGone(failed);
    });

    test("is ended by force when it ignores its signal, also after its worker has died", async () => {
      const id = submit(STUBBORN, { stop: { grace: "1s" } });
      const run = await isUp(id);
      await site.killWorker();
      site.startWorker();
      await until("it is known", () => site.run(id)?.phase === "running");
      expect(containers()).toBe(`go-${run}`);
      site.books.command({ type: "cancel-task", id });
      await isGone(id);
    });

    test("ends with its holder", async () => {
      const id = submit(STUBBORN, { stop: { grace: "1s" } });
      const run = await isUp(id);
      process.kill(site.pidOf(run, "holder"), "SIGKILL");
      await isGone(id);
      expect(site.run(id)).toMatchObject({ id: run, reason: "lost" });
    });
  },
);
