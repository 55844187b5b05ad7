/**
 * A controller, its nodes and two Redis on a network of their own: built daemons, real holders and processes, TLS. What
 * runs writes down when it lived and on which GPUs, and is judged by that.
 */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pause } from "../../worker/site.ts";
import { startDaemon, type TestDaemon } from "../daemon.ts";
import { Network } from "./network.ts";

const KEY = "a-key-of-at-least-16-letters";
/** The shortest that leaves room for a fence with a grace of a second: it ends a run 4 s after the last heartbeat. */
const TTL_S = 20;
const REDIS_ADDRESS = 10;
const TLS_PORT = 6379;
const PLAIN_PORT = 6380;
/** Beside five daemons, their workers and what they run, on as few cores as there are. */
const START_MS = 120_000;
const BEAT_S = 0.2;
/** Later than its last line a run was not seen alive; its next would have come by then. */
const SLACK_MS = 150;

export const HEAD = "head";
const PLACES: Readonly<Record<string, number>> = {
  "redis-a": 11,
  "redis-b": 12,
  head: 20,
  "node-a": 21,
  "node-b": 22,
  "node-c": 23,
};

/** From its first sign of life to its last. */
interface Life {
  readonly task: string;
  readonly run: string;
  readonly node: string;
  readonly gpus: readonly string[];
  readonly from: number;
  readonly to: number;
}

export class Rack {
  readonly folder = mkdtempSync(join(tmpdir(), "gpuo-rack-"));
  readonly network = new Network();
  readonly daemons = new Map<string, TestDaemon>();
  readonly nodes: readonly string[];
  readonly #servers = new Map<string, ChildProcess>();
  /** Of every process of a host's daemon, and of its workers. */
  readonly #logs = new Map<string, (readonly string[])[]>();
  #isKept = false;
  /** Which of the two has the address now. */
  master = "redis-a";

  constructor(...nodes: readonly string[]) {
    this.nodes = nodes;
    mkdirSync(join(this.folder, "lives"));
  }

  async start(): Promise<this> {
    writeFileSync(join(this.folder, "secret"), "the-same-on-all-of-the-hosts");
    const names = `subjectAltName=IP:${this.network.addressOf(REDIS_ADDRESS)}`;
    const made = [
      "req",
      "-x509",
      "-newkey",
      "rsa:2048",
      "-nodes",
      "-days",
      "2",
      "-subj",
      "/CN=redis",
      "-addext",
      names,
    ];
    spawnSync("openssl", [...made, "-keyout", this.#file("key.pem"), "-out", this.#file("cert.pem")], {
      stdio: "ignore",
    });
    await this.network.start();
    for (const name of ["redis-a", "redis-b", HEAD, ...this.nodes])
      await this.network.plug(name, PLACES[name] as number);
    await this.#startRedis("redis-a");
    this.network
      .on("redis-a")
      .run("ip", "address", "add", `${this.network.addressOf(REDIS_ADDRESS)}/24`, "dev", "eth0");
    await this.#startRedis("redis-b");
    this.#redis("redis-b", "REPLICAOF", this.network.addressOf(PLACES["redis-a"] as number), String(PLAIN_PORT));
    for (const name of [HEAD, ...this.nodes]) await this.startDaemon(name);
    return this;
  }

  #file(name: string): string {
    return join(this.folder, name);
  }

  async #startRedis(name: string): Promise<void> {
    const tls = [
      "--tls-port",
      String(TLS_PORT),
      "--tls-cert-file",
      this.#file("cert.pem"),
      "--tls-key-file",
      this.#file("key.pem"),
    ];
    const rest = [
      "--tls-auth-clients",
      "no",
      "--port",
      String(PLAIN_PORT),
      "--protected-mode",
      "no",
      "--save",
      "",
      "--dir",
      this.folder,
    ];
    const [program = "", ...args] = [...this.network.on(name).under, "redis-server", ...tls, ...rest];
    this.#servers.set(name, spawn(program, args, { stdio: "ignore" }));
    for (let i = 0; i < 100; i++, await pause(100)) {
      try {
        if (this.#redis(name, "PING") === "PONG") return;
      } catch {
        // Not yet.
      }
    }
    throw new Error(`${name} does not answer`);
  }

  #redis(name: string, ...command: readonly string[]): string {
    return this.network.on(name).run("redis-cli", "-p", String(PLAIN_PORT), ...command);
  }

  flush(): void {
    this.#redis(this.master, "FLUSHALL");
  }

  /** The master dies, and its replica takes its address. The dead one comes back as the replica's replica. */
  async failOver(): Promise<void> {
    const [old, next] = this.master === "redis-a" ? ["redis-a", "redis-b"] : ["redis-b", "redis-a"];
    const server = this.#servers.get(old);
    const gone = new Promise((resolve) => server?.once("exit", resolve));
    server?.kill("SIGKILL");
    await gone;
    this.#redis(next, "REPLICAOF", "NO", "ONE");
    this.network.move(REDIS_ADDRESS, old, next);
    this.master = next;
    await this.#startRedis(old);
    this.#redis(old, "REPLICAOF", this.network.addressOf(PLACES[next] as number), String(PLAIN_PORT));
  }

  async startDaemon(name: string): Promise<void> {
    const folder = join(this.folder, name);
    mkdirSync(folder, { recursive: true });
    const role = name === HEAD ? "controller" : "member";
    const url = `rediss://${this.network.addressOf(REDIS_ADDRESS)}:${TLS_PORT}`;
    const times = `heartbeat_interval: 1s, heartbeat_ttl: ${TTL_S}s`;
    const config = `
auth: {enabled: true, api_keys: {${KEY}: {principal: me, role: run}}}
server: {socket: ${join(folder, "api.sock")}}
work:
  enabled: true
  allow_root: true
  allow_same_user: true
  node: ${name}
  worker: ${name === HEAD ? "external" : "embedded"}
  executors: {shell: {type: process, programs: [/bin/sh], env: {LIVES: ${join(this.folder, "lives")}}}}
  task_types: {hello: shell}
cluster: {role: ${role}, redis_url: "${url}", secret_file: "${this.#file("secret")}", ${times}}
`;
    const { under } = this.network.on(name);
    const env = { NODE_EXTRA_CA_CERTS: this.#file("cert.pem") };
    // The controller has no worker, so that all goes to the nodes.
    const daemon = await startDaemon({ folder, config, simulate: "h100x2", under, env, startMs: START_MS });
    this.daemons.set(name, daemon);
    this.#logs.set(name, [...(this.#logs.get(name) ?? []), daemon.log]);
  }

  async kill(name: string, signal: NodeJS.Signals = "SIGKILL"): Promise<void> {
    await this.daemons.get(name)?.end(signal);
  }

  // biome-ignore lint/suspicious/noExplicitAny: answers are looked into freely by tests.
  ask(method: string, path: string, body?: object, name = HEAD): Promise<any> {
    const socketPath = join(this.folder, name, "api.sock");
    const headers = { authorization: `Bearer ${KEY}`, "content-type": "application/json" };
    return new Promise((resolve, reject) => {
      const asked = request({ socketPath, method, path, headers }, (answer) => {
        let text = "";
        answer.on("data", (data: Buffer) => {
          text += data.toString();
        });
        answer.on("end", () => resolve(JSON.parse(text === "" ? "null" : text)));
      });
      asked.on("error", reject);
      asked.end(body === undefined ? undefined : JSON.stringify(body));
    });
  }

  /** Says every moment that it lives, for so many seconds, on so many GPUs. */
  async submit(seconds: number, gpus: number, lost: number): Promise<string> {
    const beat = `date +%s%3N >> $LIVES/$GPU_ORCHESTRATOR_TASK.$GPU_ORCHESTRATOR_RUN`;
    const first = `echo "$GPU_ORCHESTRATOR_NODE $CUDA_VISIBLE_DEVICES" > $LIVES/$GPU_ORCHESTRATOR_TASK.$GPU_ORCHESTRATOR_RUN`;
    const script = `${first}; for i in $(seq ${Math.ceil(seconds / BEAT_S)}); do ${beat}; sleep ${BEAT_S}; done`;
    const spec = {
      taskType: "hello",
      command: ["/bin/sh", "-c", script],
      resources: { hardware: gpus === 0 ? {} : { gpu: { count: gpus } } },
      stop: { grace: "1s" },
      retry: { lost, backoff: "100ms" },
    };
    const yaml = JSON.stringify({ apiVersion: "gpu-orchestrator/v1", kind: "Task", metadata: { name: "beats" }, spec });
    const { task_id: id } = await this.ask("POST", "/api/v1/tasks", { yaml });
    return id;
  }

  // biome-ignore lint/suspicious/noExplicitAny: answers are looked into freely by tests.
  task(id: string): Promise<any> {
    return this.ask("GET", `/api/v1/tasks/${id}`);
  }

  lives(): Life[] {
    const folder = join(this.folder, "lives");
    return readdirSync(folder).flatMap((name) => {
      const [task = "", run = ""] = name.split(".");
      const [first = "", ...beats] = readFileSync(join(folder, name), "utf8").trim().split("\n");
      const [node = "", gpus = ""] = first.split(" ");
      if (beats.length === 0) return [];
      return [
        { task, run, node, gpus: gpus.split(",").filter(Boolean), from: Number(beats[0]), to: Number(beats.at(-1)) },
      ];
    });
  }

  /** What must not be: a task that lived twice at once, a GPU that two had. */
  faults(): string[] {
    const lives = this.lives();
    return lives.flatMap((one, i) =>
      lives.slice(i + 1).flatMap((other) => {
        const isAtOnce = one.from < other.to + SLACK_MS && other.from < one.to + SLACK_MS;
        if (!isAtOnce) return [];
        const shared = one.node === other.node ? one.gpus.filter((gpu) => other.gpus.includes(gpu)) : [];
        const when = `(${timesOf(one)}; ${timesOf(other)})`;
        return [
          ...(one.task === other.task
            ? [`${one.run} on ${one.node} lived beside ${other.run} on ${other.node} ${when}`]
            : []),
          ...shared.map((gpu) => `${gpu} of ${one.node} was used by ${one.run} and ${other.run} ${when}`),
        ];
      }),
    );
  }

  async freeGpus(): Promise<number> {
    let free = 0;
    for (const name of this.nodes) {
      const { gpus } = await this.ask("GET", "/gpu/list", undefined, name);
      free += gpus.filter(({ state }: { readonly state: string }) => state === "free").length;
    }
    return free;
  }

  /** What was found wrong: databases, folders of runs and logs are kept for whoever looks into it. */
  keep(): void {
    this.#isKept = true;
    for (const [name, lines] of this.#logs) writeFileSync(join(this.folder, `${name}.log`), lines.flat().join("\n"));
  }

  async stop(): Promise<void> {
    for (const daemon of this.daemons.values()) await daemon.end();
    for (const server of this.#servers.values()) server.kill("SIGKILL");
    this.network.stop();
    if (this.#isKept) console.log(`kept: ${this.folder}`);
    else rmSync(this.folder, { recursive: true, force: true });
  }
}

const timesOf = ({ from, to }: Life) => `${new Date(from).toISOString()} to ${new Date(to).toISOString()}`;
