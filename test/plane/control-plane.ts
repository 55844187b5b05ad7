/**
 * A real control plane: etcd, kube-apiserver, kube-controller-manager and kube-scheduler, on free ports of loopback, with
 * an audit log of every write. `npm run test:cluster` builds the four programs (scripts/control-plane.mjs).
 */
import { type ChildProcess, spawn } from "node:child_process";
import { generateKeyPairSync } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { KubeConnection } from "../../src/controller/kubernetes/connection.ts";

/** A folder with the four programs. */
const ASSETS = process.env.KUBEBUILDER_ASSETS ?? "";
const PROGRAMS = ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"] as const;
type Program = (typeof PROGRAMS)[number];
const isThere = (name: Program) => ASSETS !== "" && existsSync(join(ASSETS, name));
export const isPlaneThere = PROGRAMS.every(isThere);
/** Two of the four, which CI has the time to build. */
export const isApiserverThere = (["etcd", "kube-apiserver"] as const).every(isThere);

const ADMIN_TOKEN = "admin-token-of-the-tests";
const START_MS = 180_000;

/** What the audit log says of one request. */
export interface Audited {
  readonly user: string;
  readonly agent: string;
  readonly verb: string;
  readonly path: string;
  readonly code: number;
  readonly at: number;
}

export class ControlPlane {
  readonly folder: string;
  readonly #ports: { readonly client: number; readonly peer: number; readonly apiserver: number };
  readonly #children = new Map<Program, ChildProcess>();
  readonly connection: KubeConnection;
  readonly #graceSeconds: number | null;

  /** @param graceSeconds is how long a node may be silent; `null`: nobody looks, nor makes or places pods: there is an apiserver only. */
  static async start(graceSeconds: number | null = 10): Promise<ControlPlane> {
    const [client, peer, apiserver] = await Promise.all([freePort(), freePort(), freePort()]);
    const plane = new ControlPlane({ client, peer, apiserver }, graceSeconds);
    try {
      await plane.#begin();
      return plane;
    } catch (error) {
      await plane.stop();
      throw error;
    }
  }

  private constructor(ports: { client: number; peer: number; apiserver: number }, graceSeconds: number | null) {
    this.#ports = ports;
    this.#graceSeconds = graceSeconds;
    this.folder = mkdtempSync(join(tmpdir(), "control-plane-"));
    mkdirSync(join(this.folder, "certificates"));
    const kubeconfig = this.kubeconfig("admin", ADMIN_TOKEN, false);
    this.connection = new KubeConnection({ kubeconfig, context: null, allowInsecure: true });
  }

  get url(): string {
    return `https://127.0.0.1:${this.#ports.apiserver}`;
  }

  /** Of a user with `token`; `through` is what stands in front of the apiserver. */
  kubeconfig(name: string, token: string, verified = true, through: string | null = null): string {
    const file = join(this.folder, `${name}.kubeconfig`);
    const server = through ?? this.url;
    const trust =
      through !== null
        ? {}
        : verified
          ? { "certificate-authority": join(this.folder, "certificates", "apiserver.crt") }
          : { "insecure-skip-tls-verify": true };
    const config = {
      apiVersion: "v1",
      kind: "Config",
      clusters: [{ name: "c", cluster: { server, ...trust } }],
      users: [{ name: "u", user: { token } }],
      contexts: [{ name: "c", context: { cluster: "c", user: "u" } }],
      "current-context": "c",
    };
    writeFileSync(file, JSON.stringify(config));
    return file;
  }

  async #begin(): Promise<void> {
    const { privateKey, publicKey } = generateKeyPairSync("rsa", { modulusLength: 2_048 });
    this.#write("account.key", privateKey.export({ type: "pkcs8", format: "pem" }) as string);
    this.#write("account.pub", publicKey.export({ type: "spki", format: "pem" }) as string);
    this.#write("tokens.csv", `${ADMIN_TOKEN},admin,admin,"system:masters"\n`);
    this.#write(
      "audit.json",
      JSON.stringify({
        apiVersion: "audit.k8s.io/v1",
        kind: "Policy",
        omitStages: ["RequestReceived", "ResponseStarted"],
        rules: [{ level: "None", verbs: ["get", "list", "watch"] }, { level: "Metadata" }],
      }),
    );
    const { client, peer } = this.#ports;
    const url = (port: number) => `http://127.0.0.1:${port}`;
    this.#spawn("etcd", [
      `--data-dir=${join(this.folder, "etcd")}`,
      `--listen-client-urls=${url(client)}`,
      `--advertise-client-urls=${url(client)}`,
      `--listen-peer-urls=${url(peer)}`,
      `--initial-advertise-peer-urls=${url(peer)}`,
      `--initial-cluster=default=${url(peer)}`,
      "--unsafe-no-fsync",
      "--log-level=error",
    ]);
    this.startApiserver();
    await this.serves();
    if (this.#graceSeconds === null) return;
    const kubeconfig = `--kubeconfig=${this.kubeconfig("admin", ADMIN_TOKEN)}`;
    this.#spawn("kube-controller-manager", [
      kubeconfig,
      "--leader-elect=false",
      "--secure-port=0",
      "--controllers=deployment-controller,replicaset-controller,disruption-controller,garbage-collector-controller,namespace-controller,serviceaccount-controller,node-lifecycle-controller,taint-eviction-controller,resourcequota-controller,horizontal-pod-autoscaler-controller",
      "--horizontal-pod-autoscaler-sync-period=2s",
      "--node-monitor-period=1s",
      `--node-monitor-grace-period=${this.#graceSeconds}s`,
      "--kube-api-qps=200",
      "--kube-api-burst=400",
    ]);
    this.#spawn("kube-scheduler", [
      kubeconfig,
      "--leader-elect=false",
      "--secure-port=0",
      "--kube-api-qps=200",
      "--kube-api-burst=400",
    ]);
  }

  /** Unless it runs. */
  startApiserver(): void {
    if (this.#children.has("kube-apiserver")) return;
    const file = (name: string) => join(this.folder, name);
    this.#spawn("kube-apiserver", [
      `--etcd-servers=http://127.0.0.1:${this.#ports.client}`,
      `--secure-port=${this.#ports.apiserver}`,
      "--bind-address=127.0.0.1",
      "--advertise-address=127.0.0.1",
      "--endpoint-reconciler-type=none",
      `--cert-dir=${file("certificates")}`,
      `--token-auth-file=${file("tokens.csv")}`,
      "--authorization-mode=RBAC",
      "--service-account-issuer=https://kubernetes.default.svc",
      `--service-account-key-file=${file("account.pub")}`,
      `--service-account-signing-key-file=${file("account.key")}`,
      `--audit-policy-file=${file("audit.json")}`,
      `--audit-log-path=${file("audit.log")}`,
      "--audit-log-mode=blocking",
      // In MiB: one file, whatever is written.
      "--audit-log-maxsize=10000",
      "--service-cluster-ip-range=10.0.0.0/16",
      "--default-not-ready-toleration-seconds=2",
      "--default-unreachable-toleration-seconds=2",
    ]);
  }

  async killApiserver(): Promise<void> {
    await this.#end("kube-apiserver", "SIGKILL");
  }

  /** All that etcd has of the past goes: a watch that asks for it is refused. */
  async compact(): Promise<void> {
    const ask = async (path: string, body: object) => {
      const answer = await fetch(`http://127.0.0.1:${this.#ports.client}${path}`, {
        method: "POST",
        body: JSON.stringify(body),
      });
      if (!answer.ok) throw new Error(await answer.text());
      return (await answer.json()) as { readonly header: { readonly revision: string } };
    };
    const { header } = await ask("/v3/kv/range", { key: Buffer.from("a").toString("base64") });
    await ask("/v3/kv/compaction", { revision: header.revision, physical: true });
  }

  /** Waits until the apiserver is ready. It serves some kinds long before, and a controller-manager does not wait long. */
  async serves(): Promise<void> {
    // Its yes is "ok", which is no JSON.
    const isReady = () => this.connection.call("/readyz").catch(({ message }) => message.includes("no object in JSON"));
    await until("the apiserver is ready", async () => (await isReady()) === true, START_MS);
  }

  async stop(): Promise<void> {
    await this.connection.close();
    for (const name of [...PROGRAMS].reverse()) await this.#end(name, "SIGKILL");
    rmSync(this.folder, { recursive: true, force: true, maxRetries: 3 });
  }

  /** What the audit log has of `user`'s writes, as they came: a line is written when its request is over. */
  writes(user: string, since = 0): Audited[] {
    return linesWith(readFileSync(join(this.folder, "audit.log")), user)
      .map((line): Audited => {
        const event = JSON.parse(line);
        return {
          user: event.user.username,
          agent: event.userAgent ?? "",
          verb: event.verb,
          path: event.requestURI.split("?")[0],
          code: event.responseStatus?.code ?? 0,
          at: Date.parse(event.requestReceivedTimestamp),
        };
      })
      .filter((one) => one.user === user && one.at >= since)
      .sort((one, other) => one.at - other.at);
  }

  /** What each of its programs has had of the processors so far, in seconds of one. */
  cpuSeconds(): Readonly<Record<Program, number>> {
    const of = (name: Program) => cpuSecondsOf(this.#children.get(name));
    return Object.fromEntries(PROGRAMS.map((name) => [name, of(name)])) as Record<Program, number>;
  }

  log(name: Program): string {
    return readFileSync(join(this.folder, `${name}.log`), "utf8").slice(-4_000);
  }

  #write(name: string, text: string): void {
    writeFileSync(join(this.folder, name), text);
  }

  #spawn(name: Program, argv: readonly string[]): void {
    const log = openSync(join(this.folder, `${name}.log`), "a");
    this.#children.set(name, spawn(join(ASSETS, name), argv, { cwd: this.folder, stdio: ["ignore", log, log] }));
  }

  async #end(name: Program, signal: NodeJS.Signals): Promise<void> {
    const child = this.#children.get(name);
    this.#children.delete(name);
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise((resolve) => child.once("exit", resolve));
    child.kill(signal);
    await ended;
  }
}

/** In seconds of one processor; of no process: 0. */
export function cpuSecondsOf(child: ChildProcess | undefined): number {
  if (child === undefined) return 0;
  const fields = readFileSync(`/proc/${child.pid}/stat`, "utf8").split(") ").at(-1)?.split(" ") ?? [];
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

/** The lines of a file that is too large for one string. */
function linesWith(file: Buffer, words: string): string[] {
  const found: string[] = [];
  for (let begin = 0, end = file.indexOf(10); end !== -1; begin = end + 1, end = file.indexOf(10, begin)) {
    const line = file.subarray(begin, end);
    if (line.includes(words)) found.push(line.toString("utf8"));
  }
  return found;
}

/** Asks until it holds; errors count as "not yet", and the last one is told when the time is over. */
export async function until(what: string, holds: () => boolean | Promise<boolean>, withinMs = 120_000): Promise<void> {
  const late = Date.now() + withinMs;
  let trouble = "";
  for (;;) {
    try {
      if (await holds()) return;
      trouble = "";
    } catch (error) {
      trouble = `: ${(error as Error).message}`;
    }
    if (Date.now() > late) throw new Error(`not within ${withinMs / 1_000} s: ${what}${trouble}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
  const { port } = server.address() as { port: number };
  await new Promise((closed) => server.close(closed));
  return port;
}
