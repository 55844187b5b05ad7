/** The built controller beside a control plane, under the rights of its service account and no others. */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { manifests } from "../../src/controller/kubernetes/manifests.ts";
import { PROGRAM } from "../e2e/daemon.ts";
import { type Audited, type ControlPlane, until } from "./control-plane.ts";

// biome-ignore lint/suspicious/noExplicitAny: objects of any kind.
export type Any = any;

export const ACCOUNT = "system:serviceaccount:llm-orchestrator:llm-orchestrator";

/** Where the API has an object. */
export function pathOf({ apiVersion, kind, metadata }: Any): string {
  const base = apiVersion === "v1" ? "/api/v1" : `/apis/${apiVersion}`;
  const plural = kind.endsWith("y") ? `${kind.slice(0, -1)}ies` : kind.endsWith("s") ? `${kind}es` : `${kind}s`;
  const within = metadata.namespace === undefined ? "" : `/namespaces/${metadata.namespace}`;
  return `${base}${within}/${plural.toLowerCase()}/${metadata.name}`;
}

export async function applied(plane: ControlPlane, object: Any, manager = "kubectl"): Promise<Any> {
  return plane.connection.call(pathOf(object), {
    method: "PATCH",
    query: { fieldManager: manager },
    contentType: "application/apply-patch+yaml",
    body: object,
  });
}

/** All that `manifests` prints. */
export async function installed(plane: ControlPlane): Promise<void> {
  const settings = { image: "gpu-orchestrator", namespace: "llm-orchestrator", replicas: 0 };
  for (const object of manifests({ ...settings, workloadNamespaces: ["llm-workloads"] })) {
    await until(`applied ${(object as Any).kind}`, () => applied(plane, object).then(() => true), 60_000);
  }
}

/** That, and a token of the account that it makes. */
export async function install(plane: ControlPlane, through: string | null = null): Promise<string> {
  await installed(plane);
  const at = "/api/v1/namespaces/llm-orchestrator/serviceaccounts/llm-orchestrator/token";
  const body = { apiVersion: "authentication.k8s.io/v1", kind: "TokenRequest", spec: {} };
  const answer = await plane.connection.call<Any>(at, { method: "POST", body });
  return plane.kubeconfig("account", answer.status.token, true, through);
}

const LEASE = "/leases/llm-orchestrator-leader";
/** What only the one that leads writes; the API, of whichever controller, writes workloads and nodes. */
const LED =
  /\/(deployments|services|configmaps|poddisruptionbudgets|controllerrevisions|networkpolicies|eviction|status)\b/;
/** A leader stops this long after it last renewed, and calls that are under way may take two seconds. */
const LED_FOR_MS = 10_000 + 2_000;

/** Writes of a controller that had not renewed its Lease in time, by the apiserver's own log. */
export function strayWrites(plane: ControlPlane): readonly Audited[] {
  const renewed = new Map<string, number>();
  return plane.writes(ACCOUNT).filter((one) => {
    if (one.path.endsWith(LEASE) || one.path.endsWith("/leases")) {
      if (one.code < 300) renewed.set(one.agent, one.at);
      return false;
    }
    return LED.test(one.path) && one.at - (renewed.get(one.agent) ?? Number.NEGATIVE_INFINITY) > LED_FOR_MS;
  });
}

/** What is written for other reasons than that time passes. */
export function idleWrites(plane: ControlPlane, since: number): readonly Audited[] {
  return plane.writes(ACCOUNT, since).filter(({ path }) => !path.includes("/leases"));
}

export class TestController {
  readonly child: ChildProcess;
  readonly url: string;
  readonly log: readonly Any[];

  static async start(
    plane: ControlPlane,
    kubeconfig: string,
    name: string,
    more: readonly string[] = [],
    env: Readonly<Record<string, string>> = {},
  ) {
    // Each has a folder of its own, and so a database.
    const cwd = join(plane.folder, `controller-${name}`);
    mkdirSync(cwd, { recursive: true });
    const argv = ["controller", "--kubeconfig", kubeconfig, "--port", "0", ...more];
    const child = spawn(process.execPath, [PROGRAM, ...argv], {
      cwd,
      env: { ...process.env, TMPDIR: cwd, ...env },
      stdio: ["ignore", "pipe", "inherit"],
    });
    const log: Any[] = [];
    const url = await new Promise<string>((serving, reject) => {
      child.once("exit", (code) => reject(new Error(`exited with ${code}: ${JSON.stringify(log)}`)));
      createInterface({ input: child.stdout as NodeJS.ReadableStream }).on("line", (line) => {
        const said = JSON.parse(line);
        log.push(said);
        if (said.msg === "the controller serves") serving(said.url);
      });
    });
    return new TestController(child, url, log);
  }

  private constructor(child: ChildProcess, url: string, log: readonly Any[]) {
    this.child = child;
    this.url = url;
    this.log = log;
  }

  async get(path: string): Promise<{ readonly status: number; readonly body: Any }> {
    return this.call("GET", path);
  }

  async call(method: string, path: string, body?: unknown): Promise<{ readonly status: number; readonly body: Any }> {
    const answer = await fetch(this.url + path, {
      method,
      headers: body === undefined ? {} : { "content-type": "application/json" },
      body: body === undefined ? null : JSON.stringify(body),
    });
    return { status: answer.status, body: JSON.parse(await answer.text()) };
  }

  get hasEnded(): boolean {
    return this.child.exitCode !== null || this.child.signalCode !== null;
  }

  async stop(signal: NodeJS.Signals = "SIGTERM"): Promise<void> {
    if (this.hasEnded) return;
    const ended = new Promise((resolve) => this.child.once("exit", resolve));
    this.child.kill(signal);
    await ended;
  }
}
