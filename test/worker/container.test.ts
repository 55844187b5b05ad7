/** The container executor for real: podman, an image that is made here, and a device that only says which GPU it is. */
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ContainerSteps, STUBBORN } from "./container-steps.ts";
import { Site, until } from "./site.ts";

const IMAGE = "localhost/gpu-orchestrator-test:1";
const NEEDS =
  "needs root, podman, runc, catatonit and busybox-static (Debian), and a host that lets containers be made";
const folder = mkdtempSync(join(tmpdir(), "gpuo-podman-"));
/** Where podman looks for devices: nowhere else. */
const DEVICES = "/var/run/cdi";
const deviceFile = join(DEVICES, `gpu-orchestrator-test-${process.pid}.json`);
/** Of its own, so that nothing of this host's containers is seen or changed. */
const ENV = {
  CONTAINERS_CONF: join(folder, "containers.conf"),
  CONTAINERS_STORAGE_CONF: join(folder, "storage.conf"),
};

function podman(...args: readonly string[]) {
  const env = { PATH: process.env.PATH ?? "", HOME: folder, ...ENV };
  return spawnSync("podman", args, { encoding: "utf8", env, timeout: 60_000 });
}

/** Says why not; `null`: containers can be made here. */
function trouble(): string | null {
  if (process.getuid?.() !== 0) return "not root";
  const busybox = ["/bin/busybox", "/usr/bin/busybox"].find((path) => existsSync(path));
  if (busybox === undefined || spawnSync("podman", ["--version"]).status !== 0) return "not installed";
  const limits = 'default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]';
  const engine = 'cgroup_manager = "cgroupfs"\nruntime = "runc"\nevents_logger = "file"';
  writeFileSync(ENV.CONTAINERS_CONF, `[containers]\n${limits}\n[engine]\n${engine}\n`);
  const roots = `graphroot = "${join(folder, "graph")}"\nrunroot = "${join(folder, "run")}"`;
  writeFileSync(ENV.CONTAINERS_STORAGE_CONF, `[storage]\ndriver = "vfs"\n${roots}\n`);
  const root = join(folder, "image");
  mkdirSync(join(root, "bin"), { recursive: true });
  mkdirSync(join(root, "results"));
  writeFileSync(join(root, "bin", "busybox"), readFileSync(busybox), { mode: 0o755 });
  spawnSync("ln", ["-s", "busybox", join(root, "bin", "sh")]);
  spawnSync("tar", ["-C", root, "-cf", join(folder, "image.tar"), "."]);
  const made = podman("import", join(folder, "image.tar"), IMAGE);
  if (made.status !== 0) return made.stderr;
  const tried = podman(
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

const why = trouble();
let site: Site;

function writeDevices(): void {
  mkdirSync(DEVICES, { recursive: true });
  const devices = ["GPU-0", "GPU-1"].map((name) => ({
    name,
    containerEdits: { env: [`DEVICE_${name.replace("-", "_")}=yes`] },
  }));
  writeFileSync(deviceFile, JSON.stringify({ cdiVersion: "0.5.0", kind: "nvidia.com/gpu", devices }));
}

beforeAll(async () => {
  if (why !== null) return;
  writeDevices();
  site = await new Site({ executors: { container: { type: "container", images: [IMAGE], env: ENV } } }).start();
});
afterAll(async () => {
  // First, whatever fails: two files with one device in them are an error to podman.
  rmSync(deviceFile, { force: true });
  if (why === null) await site.close();
  podman("rm", "--force", "--all");
  // What it has mounted goes with it.
  podman("system", "reset", "--force");
  rmSync(folder, { recursive: true, force: true });
}, 120_000);

const containers = () => podman("ps", "--all", "--format", "{{.Names}}").stdout.trim();
const WAITING = "trap 'exit 0' TERM; echo up; while :; do /bin/busybox sleep 0.1; done";
const steps = new ContainerSteps(() => site, IMAGE, containers);
const submit = steps.submit.bind(steps);
const isUp = steps.isUp.bind(steps);
const isGone = steps.isGone.bind(steps);

describe.skipIf(why !== null)(
  `a container (${NEEDS}${why === null ? "" : `; here: ${why}`})`,
  { timeout: 120_000 },
  () => {
    test("has the device of its lease and no other, its limits, and its result in place", async () => {
      const script =
        'echo "{\\"ok\\": true, \\"devices\\": \\"$(/bin/busybox env | /bin/busybox grep -c ^DEVICE_GPU)\\", \\"run\\": \\"$GPU_ORCHESTRATOR_RUN\\"}" > /results/responses.json; /bin/busybox id; /bin/busybox grep -E "NoNewPrivs|CapEff" /proc/self/status';
      const id = submit(script);
      expect(await site.isOver(id)).toMatchObject({ status: "DONE", error: null });
      const place = join(site.dir, "results", id);
      const read = (file: string) => readFileSync(join(place, file), "utf8");
      expect(JSON.parse(read("responses.json"))).toEqual({ ok: true, devices: "1", run: site.run(id)?.id });
      expect(read("logs/stdout.log")).toMatch(/NoNewPrivs:\s+1/);
      expect(read("logs/stdout.log")).toMatch(/CapEff:\s+0000000000000000/);
      await isGone(id);
    });

    test("that fails has its exit code; one whose image the host has not opened does not start", async () => {
      const failed = submit("exit 7", {}, 0);
      expect((await site.isOver(failed)).status).toBe("FAILED");
      expect(site.run(failed)).toMatchObject({ exitCode: 7 });
      const other = site.submit(["/bin/true"], { executor: "container", image: "docker.io/other:1" }, 0);
      expect((await site.isOver(other)).error).toContain("work.executors.container.images");
      await isGone(failed);
    });

    test("is stopped by its signal, and by force when it ignores that", async () => {
      const polite = submit(WAITING, { stop: { grace: "30s" } });
      await isUp(polite);
      site.books.command({ type: "cancel-task", id: polite });
      await isGone(polite);
      expect(site.run(polite)).toMatchObject({ exitCode: 0 });
      const stubborn = submit(STUBBORN, { stop: { grace: "1s" } });
      await isUp(stubborn);
      site.books.command({ type: "cancel-task", id: stubborn });
      await isGone(stubborn);
    });

    test("goes on without its worker, which the next adopts, and ends with its holder", async () => {
      const id = submit(STUBBORN, { stop: { grace: "1s" } });
      const run = await isUp(id);
      await site.killWorker();
      site.startWorker();
      await until("it is known", () => site.run(id)?.phase === "running");
      expect(containers()).toBe(`go-${run}`);
      process.kill(site.pidOf(run, "holder"), "SIGKILL");
      await isGone(id);
      expect(site.run(id)).toMatchObject({ id: run, reason: "lost" });
    });
  },
);
