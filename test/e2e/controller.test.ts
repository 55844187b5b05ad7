/** The controller on simulated GPUs, from outside: the built program, its daemon, its workers, real sockets. */
import { type ChildProcess, spawn } from "node:child_process";
import { generateKeyPairSync, verify } from "node:crypto";
import { existsSync, readdirSync, readFileSync, readlinkSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { text } from "node:stream/consumers";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { parse } from "yaml";
import { type Answer, eventually, isBuilt, PROGRAM, temporaryFolder } from "./daemon.ts";

const SAMPLE = "../shared/fixtures/cluster/s1/readme-workload.yaml";
const ADMIN = { authorization: "Bearer admin-key-0123456789" };
const ACME = { authorization: "Bearer acme-key-01234567890" };
const CONFIG = `
auth:
  api_keys:
    admin-key-0123456789: {principal: root, role: admin}
    acme-key-01234567890: {principal: acme, role: run, tenants: [acme]}
`;
const OBJECTS = "/apis/llm.orchestrator.io/v1/namespaces/llm-workloads/llmworkloads/my-llm-workload";
const OBJECTS_LIST = "/apis/llm.orchestrator.io/v1/llmworkloads";
const folder = temporaryFolder();
/** Eight processes start here, one after the other in a rollout: on a busy machine that takes a while. */
const LONG_MS = 240_000;
vi.setConfig({ testTimeout: LONG_MS, hookTimeout: LONG_MS });
let child: ChildProcess;
let url = "";

async function call(
  method: string,
  path: string,
  body?: unknown,
  headers: Record<string, string> = ADMIN,
): Promise<Answer> {
  const answer = await fetch(url + path, {
    method,
    headers: { ...(body === undefined ? {} : { "content-type": "application/json" }), ...headers },
    body: body === undefined ? null : JSON.stringify(body),
  });
  return { status: answer.status, headers: answer.headers, body: JSON.parse(await answer.text()) };
}

function start(): Promise<string> {
  const file = join(folder, "config.yaml");
  writeFileSync(file, CONFIG);
  const argv = [PROGRAM, "controller", "--backend", "host", "--simulate", "h100x8", "--port", "0", "--config", file];
  // In a group of its own, as a shell starts it: Ctrl-C is for all of the group.
  child = spawn(process.execPath, argv, { cwd: folder, stdio: ["ignore", "pipe", "inherit"], detached: true });
  return new Promise((serving, reject) => {
    child.once("exit", (code) => reject(new Error(`exited with ${code}`)));
    createInterface({ input: child.stdout as NodeJS.ReadableStream }).on("line", (line) => {
      const { msg, url: at } = JSON.parse(line);
      if (msg === "the controller serves") serving(at);
    });
  });
}

function fileIn(path: string): string {
  try {
    return readFileSync(path, "latin1");
  } catch {
    return "";
  }
}

function commandOf(pid: string): string {
  return fileIn(`/proc/${pid}/cmdline`);
}

/** The sockets that a process has open, by inode. */
function socketsOf(pid: number): ReadonlySet<string> {
  const fds = `/proc/${pid}/fd`;
  const links = readdirSync(fds).map((fd) => {
    try {
      return readlinkSync(join(fds, fd));
    } catch {
      return "";
    }
  });
  return new Set(links.flatMap((link) => /^socket:\[(\d+)\]$/.exec(link)?.[1] ?? []));
}

/** All of the host's, with their ports (proc_pid_net(5)). */
function tcp() {
  const lines = ["tcp", "tcp6"].flatMap((name) => fileIn(`/proc/net/${name}`).split("\n").slice(1, -1));
  const portOf = (address = "") => Number.parseInt(address.split(":")[1] ?? "", 16);
  return lines.map((line) => {
    const [, local, remote, state, , , , , , inode = ""] = line.trim().split(/\s+/);
    return { inode, local: portOf(local), remote: portOf(remote), isListening: state === "0A" };
  });
}

/** `gpuo cluster`, as somebody with the admin's key calls it. */
async function cli(args: readonly string[]) {
  return shell(`exec "$NODE" "$PROGRAM" cluster "$@"`, args);
}

async function shell(script: string, args: readonly string[] = []) {
  const own = { NODE: process.execPath, PROGRAM, GPU_ORCHESTRATOR_CONTROLLER_URL: url };
  const env = { ...process.env, ...own, GPU_ORCHESTRATOR_API_KEY: "admin-key-0123456789" };
  const started = spawn("sh", ["-c", script, "sh", ...args], {
    env,
    stdio: ["ignore", "pipe", "inherit"],
    cwd: folder,
  });
  const [stdout, code] = await Promise.all([
    text(started.stdout),
    new Promise<number | null>((resolve) => started.once("exit", resolve)),
  ]);
  return { stdout, code };
}

const create = (body: object, headers = ACME) => call("POST", "/internal/deployments/create", body, headers);
const status = (id: string) => call("GET", `/internal/deployments/${id}/status`);
const until = (id: string, holds: (body: Answer["body"]) => boolean) =>
  eventually(
    () => status(id),
    ({ body }) => holds(body),
    LONG_MS - 10_000,
  );
const LLAMA = { model_id: "llama-7b", model_name: "llama2", model_path: "meta-llama/Llama-2-7b-hf" };

describe.skipIf(!isBuilt)("the controller with simulated GPUs (needs dist/)", () => {
  beforeAll(async () => {
    url = await start();
    await eventually(
      () => call("GET", "/readyz"),
      (answer) => answer.status === 200,
      LONG_MS - 10_000,
    );
  });
  afterAll(async () => {
    const gone = new Promise((resolve) => child.once("exit", resolve));
    process.kill(-(child.pid as number), "SIGINT");
    expect(await gone).toBe(0);
    // Holders and stand-ins name the folder that they run in.
    const left = () => readdirSync("/proc").filter((pid) => /^\d+$/.test(pid) && commandOf(pid).includes(folder));
    await eventually(
      async () => left(),
      (pids) => pids.length === 0,
      LONG_MS - 10_000,
    );
    rmSync(folder, { recursive: true, force: true });
  });

  test("serves a deployment in two calls, whose replica answers", async () => {
    const made = await create({ ...LLAMA, replicas: 2, gpu_per_replica: 2, vllm_config: { max_model_len: 4096 } });
    expect(made).toMatchObject({ status: 200, body: { tenant_id: "acme", status: "pending", total_gpus: 4 } });
    const id: string = made.body.deployment_id;
    expect(id).toMatch(/^vllm-llama-7b-[0-9a-f]{8}$/);
    const { body } = await until(id, (seen) => seen.status === "running");
    expect(body).toMatchObject({ ready_replicas: 2, pods: [{ ready: true, gpu_count: 2 }, { ready: true }] });
    const where = await call("GET", "/internal/models/llama-7b/endpoint", undefined, ACME);
    expect((await fetch(`${where.body.endpoint_url}/v1/models`)).status).toBe(200);
    const free = await call("GET", "/internal/resources/available");
    expect(free.body).toMatchObject({ total_gpus: 8, available_gpus: 4, max_deployable_gpus: 4 });
  });

  test("calls its daemon at a socket in a folder of its own user alone, and never over TCP", async () => {
    const socket = join(folder, "data", "controller-daemon", "daemon.sock");
    expect(statSync(join(socket, "..")).mode & 0o077).toBe(0);
    // Of proc_pid_net(5): 03 is the state of one that is connected.
    const isConnected = async () =>
      fileIn("/proc/net/unix")
        .split("\n")
        .some((line) => line.endsWith(` ${socket}`) && line.split(/\s+/)[5] === "03");
    await eventually(isConnected, (holds) => holds, LONG_MS - 10_000);
    const { pid: daemon } = JSON.parse(fileIn(join(folder, "data", "controller-daemon", "daemon.pid")));
    const its = socketsOf(daemon);
    const ports = new Set(
      tcp().flatMap(({ inode, local, isListening }) => (isListening && its.has(inode) ? [local] : [])),
    );
    expect(ports.size).toBeGreaterThan(0);
    const ours = socketsOf(child.pid as number);
    expect(tcp().filter(({ inode, remote }) => ours.has(inode) && ports.has(remote))).toEqual([]);
  });

  test("makes one deployment for one Idempotency-Key, however often it is sent", async () => {
    const keyed = { ...ACME, "idempotency-key": "once" };
    const ask = { ...LLAMA, model_id: "once", replicas: 0 };
    const [first, second] = [await create(ask, keyed), await create(ask, keyed)];
    expect(second.body.deployment_id).toBe(first.body.deployment_id);
    expect(await create({ ...ask, replicas: 1 }, keyed)).toMatchObject({ status: 422 });
    await call("DELETE", `/internal/deployments/${first.body.deployment_id}`);
    await eventually(
      () => call("GET", "/internal/deployments?model_id=once"),
      ({ body }) => body.length === 0,
      LONG_MS - 10_000,
    );
  });

  test("takes a model that the command line has signed, and says whose signature it is and who uses it", async () => {
    const { publicKey, privateKey } = generateKeyPairSync("ed25519");
    writeFileSync(join(folder, "release.pem"), privateKey.export({ type: "pkcs8", format: "pem" }));
    const file = join(folder, "model.yaml");
    const hub = { type: "hub", uri: LLAMA.model_path };
    const spec = { name: "ours", version: "latest", type: "text-generation", framework: "pytorch", source: hub };
    const ask = { model_id: "ours", model_name: "ours", replicas: 1 };
    expect(await create(ask)).toMatchObject({ status: 404, body: { code: "model-not-found" } });
    const files = [{ path: "model.safetensors", size: 7, checksum: "sha256:00" }];
    const head = { apiVersion: "llm.orchestrator.io/v1", kind: "LLMModel", metadata: { name: "ours" } };
    writeFileSync(file, JSON.stringify({ ...head, spec: { ...spec, files, access: { tenants: ["acme"] } } }));
    const signed = await cli([
      "models",
      "sign",
      "-f",
      file,
      "--key",
      join(folder, "release.pem"),
      "--key-id",
      "release",
    ]);
    expect(signed.code).toBe(0);
    const { signature } = parse(signed.stdout).spec;
    const listed = Buffer.from('[{"checksum":"sha256:00","path":"model.safetensors","size":7}]');
    expect(verify(null, listed, publicKey, Buffer.from(signature.value, "base64"))).toBe(true);
    const sign = `"$NODE" "$PROGRAM" cluster models sign -f model.yaml --key release.pem --key-id release`;
    expect((await shell(`${sign} | "$NODE" "$PROGRAM" cluster apply -f -`)).stdout).toBe("llmmodel/ours applied\n");
    const told = await eventually(
      () => cli(["models", "verify", "ours"]),
      ({ stdout }) => stdout.includes("Available=True"),
      LONG_MS - 10_000,
    );
    // Whose key it is nobody has told this controller.
    expect(told).toMatchObject({ code: 1, stdout: expect.stringContaining("Signed=Unknown  UnknownKey") });
    const made = await create(ask);
    const { stdout } = await eventually(
      () => cli(["models", "ls", "--json"]),
      (answer) => JSON.parse(answer.stdout).status.usageStats.readyReplicas === 1,
      LONG_MS - 10_000,
    );
    expect(JSON.parse(stdout)).toMatchObject({
      status: { phase: "Available", totalSize: 7, deployments: [{ tenant: "acme" }] },
    });
    const foreign = await create({ ...ask, tenant_id: "other" }, ADMIN);
    expect(foreign).toMatchObject({ status: 403, body: { error: "the LLMModel ours is not for the tenant other" } });
    await call("DELETE", `/internal/deployments/${made.body.deployment_id}`);
    await eventually(
      () => call("GET", "/internal/deployments?model_id=ours"),
      ({ body }) => body.length === 0,
      LONG_MS - 10_000,
    );
    expect((await cli(["models", "rm", "ours"])).code).toBe(0);
    const registering = ["models", "register", "theirs/v1.5", "--hub", LLAMA.model_path, "--tenant", "acme"];
    expect((await cli(registering)).code).toBe(0);
    expect((await cli(registering)).code).toBe(64);
    expect((await cli(["models", "register", "theirs", "--hub", LLAMA.model_path])).code).toBe(64);
    const registered = JSON.parse((await cli(["models", "get", "theirs-v1-5", "--json"])).stdout);
    expect(registered.spec).toMatchObject({
      ...{ name: "theirs", version: "v1.5", type: "text-generation", access: { tenants: ["acme"] } },
      source: { type: "hub", uri: LLAMA.model_path },
    });
    const theirs = { ...ask, model_id: "theirs", model_name: "theirs", model_version: "v1.5" };
    expect((await create({ ...theirs, tenant_id: "other" }, ADMIN)).status).toBe(403);
    const used = await create(theirs);
    expect(used.status).toBe(200);
    await call("DELETE", `/internal/deployments/${used.body.deployment_id}`);
    await eventually(
      () => call("GET", "/internal/deployments?model_id=theirs"),
      ({ body }) => body.length === 0,
      LONG_MS - 10_000,
    );
    expect((await cli(["models", "rm", "theirs-v1-5"])).code).toBe(0);
    const clusters = await cli(["clusters", "ls", "--json"]);
    expect(JSON.parse(clusters.stdout)).toMatchObject({ backend: "host", reachable: true, nodes: 1, total_gpus: 8 });
  });

  test("is killed and started again: its deployments are there, and what served goes on", async () => {
    const [{ deployment_id: id }] = (await call("GET", "/internal/deployments", undefined, ACME)).body;
    const before = (await status(id)).body.pods.map(({ name }: { name: string }) => name).sort();
    expect(before).toHaveLength(2);
    const gone = new Promise((resolve) => child.once("exit", resolve));
    child.kill("SIGKILL");
    await gone;
    url = await start();
    // What was written before says so at once; who runs is seen by the first look.
    const { body } = await until(id, ({ pods }) => pods.filter(({ ready }: { ready: boolean }) => ready).length === 2);
    expect(body.pods.map(({ name }: { name: string }) => name).sort()).toEqual(before);
  });

  test("gives a replica the hub token that a caller brings, and nobody else: no answer, database or log has it", async () => {
    const token = "hf_canary4711";
    // In the environment it is one, too.
    const ask = { ...LLAMA, tenant_id: "acme", environment_vars: { HF_TOKEN: token } };
    const made = await create(ask);
    const id = made.body.deployment_id;
    await until(id, ({ ready_replicas }) => ready_replicas === 1);
    const holding = readdirSync("/proc").filter(
      (pid) => /^\d+$/.test(pid) && fileIn(`/proc/${pid}/environ`).includes(token),
    );
    expect(holding.length).toBeGreaterThan(0);
    const answers = [
      made,
      await status(id),
      await call("GET", `/admin/v1/deployments/${id}`),
      await call("GET", OBJECTS_LIST),
    ];
    expect(JSON.stringify(answers.map(({ body }) => body))).not.toContain(token);
    // The order of a run has its environment, for its worker alone.
    const files = readdirSync(join(folder, "data"), { recursive: true, withFileTypes: true }).filter(
      (one) => one.isFile() && one.name !== "order.json",
    );
    const having = files
      .map(({ parentPath, name }) => join(parentPath, name))
      .filter((one) => fileIn(one).includes(token));
    expect(having.map((one) => one.slice(one.indexOf("/secrets/")))).toEqual([
      `/secrets/hf-token-${id}/HF_TOKEN`,
      `/secrets/hf-token-${id}/HUGGING_FACE_HUB_TOKEN`,
    ]);
    await call("DELETE", `/internal/deployments/${id}`, undefined, ACME);
    await eventually(
      () => Promise.resolve(having.filter((one) => existsSync(one))),
      (left) => left.length === 0,
      LONG_MS - 10_000,
    );
  });

  test("binds a key to its tenants", async () => {
    const foreign = await create({ ...LLAMA, tenant_id: "other" });
    expect(foreign).toMatchObject({ status: 403, body: { code: "tenant-foreign", status_code: 403 } });
    const made = await create({ ...LLAMA, model_id: "theirs", tenant_id: "other", replicas: 0 }, ADMIN);
    const id: string = made.body.deployment_id;
    expect((await call("GET", `/internal/deployments/${id}`, undefined, ACME)).status).toBe(403);
    expect((await call("GET", "/internal/deployments", undefined, ACME)).body).toHaveLength(1);
    expect((await call("GET", "/internal/deployments", undefined, { ...ACME, "x-tenant-id": "other" })).status).toBe(
      403,
    );
    expect((await call("GET", "/admin/v1/infrastructure/nodes", undefined, ACME)).status).toBe(403);
    await call("DELETE", `/internal/deployments/${id}`);
  });

  test("refuses what never fits, and what is free nowhere now if it is not to wait", async () => {
    expect(await create({ ...LLAMA, gpu_per_replica: 9 })).toMatchObject({ status: 422, body: { code: "never-fits" } });
    const now = await call("POST", "/api/v1/deployments?queue=false", { ...LLAMA, gpu_per_replica: 5 }, ACME);
    expect(now).toMatchObject({ status: 503, body: { code: "no-gpu-free" } });
  });

  test("scales by hand, and tells of it", async () => {
    const [{ deployment_id: id }] = (await call("GET", "/internal/deployments", undefined, ACME)).body;
    const asked = await call("POST", "/admin/v1/models/llama-7b/scale", { replicas: 4, reason: "a launch" });
    expect(asked).toMatchObject({ status: 202, body: { from_replicas: 2, to_replicas: 4, status: "in_progress" } });
    await until(id, (seen) => seen.ready_replicas === 4);
    const told = await eventually(
      () => call("GET", "/admin/v1/scaling/events"),
      ({ body }) => body[0].status === "success",
      LONG_MS - 10_000,
    );
    expect(told.body).toMatchObject([
      { event_id: asked.body.event_id, scaling_type: "manual", to_replicas: 4, trigger_reason: "a launch" },
    ]);
  });

  test("rolls with every GPU taken, one replica after the other", async () => {
    const [{ deployment_id: id }] = (await call("GET", "/internal/deployments", undefined, ACME)).body;
    const before = (await status(id)).body.pods[0].revision;
    await call("POST", `/internal/deployments/${id}/restart`, undefined, ACME);
    let least = 4;
    await until(id, ({ ready_replicas: ready, pods, status: state }) => {
      least = Math.min(least, ready);
      return state === "running" && pods.every((pod: { revision: string }) => pod.revision !== before);
    });
    expect(least).toBe(3);
  });

  test.skipIf(!existsSync(SAMPLE))(
    "has the first seed's sample wait for a GPU, say why, and run when there is one (needs ../shared)",
    async () => {
      const sample = parse(readFileSync(SAMPLE, "utf8"));
      expect((await call("PUT", OBJECTS, sample)).status).toBe(201);
      const waiting = await eventually(
        () => call("GET", OBJECTS),
        ({ body }) => body.status.queue !== undefined,
        LONG_MS - 10_000,
      );
      expect(waiting.body.status).toMatchObject({ state: "pending", queue: { position: 1 } });
      await call("POST", "/admin/v1/models/llama-7b/scale", { replicas: 1 });
      const { body } = await eventually(
        () => call("GET", OBJECTS),
        ({ body: seen }) => seen.status.state === "running",
        LONG_MS - 10_000,
      );
      expect(body.status.conditions.find(({ type }: { type: string }) => type === "Ready")).toMatchObject({
        status: "True",
      });
      const canary = { ...sample, spec: { ...sample.spec, deploymentStrategy: { type: "canary" } } };
      await call("PUT", OBJECTS, canary);
      const refused = await eventually(
        () => call("GET", OBJECTS),
        ({ body: seen }) => seen.status.conditions[0].status === "False",
        LONG_MS - 10_000,
      );
      expect(refused.body.status.readyReplicas).toBe(1);
      expect(refused.body.status.conditions[0]).toMatchObject({ type: "Accepted", reason: "NotYet" });
    },
  );
});

test.skipIf(!isBuilt)(
  "a controller whose terminal is closed while it starts takes its daemon along (needs dist/)",
  async () => {
    const own = temporaryFolder();
    const argv = [PROGRAM, "controller", "--backend", "host", "--simulate", "h100x8", "--port", "0"];
    const started = spawn(process.execPath, argv, { cwd: own, stdio: ["ignore", "ignore", "inherit"], detached: true });
    const gone = new Promise((resolve) => started.once("exit", resolve));
    const left = () => readdirSync("/proc").filter((pid) => /^\d+$/.test(pid) && commandOf(pid).includes(own));
    await eventually(
      async () => left(),
      (pids) => pids.length > 0,
      LONG_MS - 10_000,
    );
    process.kill(-(started.pid as number), "SIGHUP");
    expect(await gone).toBe(0);
    await eventually(
      async () => left(),
      (pids) => pids.length === 0,
      LONG_MS - 10_000,
    );
    rmSync(own, { recursive: true, force: true });
  },
);
