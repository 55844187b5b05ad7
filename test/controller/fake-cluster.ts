/**
 * A controller of the backend `kubernetes` against an apiserver in memory, with a kubelet of the test: what the tests of
 * the backend share.
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pino } from "pino";
import { createApiServer, createOpenServer } from "../../src/controller/api/server.ts";
import { Cluster } from "../../src/controller/kubernetes/cluster.ts";
import { ReconcileLoop } from "../../src/controller/reconcile/loop.ts";
import type { ReconcileSettings } from "../../src/controller/reconcile/settings.ts";
import { loadSettings } from "../../src/controller/settings/settings.ts";
import { Idempotency } from "../../src/http/exchange/idempotency.ts";
import { type Any, FakeApiserver } from "./fake-apiserver.ts";
import { SETTINGS, spec } from "./objects.ts";
import { SqliteObjects } from "./sqlite-objects.ts";

export const WORKLOAD = "/apis/llm.orchestrator.io/v1/namespaces/ns/llmworkloads/chat";
export const DEPLOYMENT = "/apis/apps/v1/namespaces/ns/deployments/chat";
export const NODE = "/api/v1/nodes/n1";
const folder = mkdtempSync(join(tmpdir(), "cluster-"));
process.once("exit", () => rmSync(folder, { recursive: true, force: true }));
const log = pino({ level: "silent" });

export let server: FakeApiserver;
export let ends: (() => Promise<void>)[] = [];
export let started: ReturnType<typeof controller>;

function kubeconfig(url: string): string {
  const file = join(folder, "kubeconfig");
  writeFileSync(
    file,
    JSON.stringify({
      clusters: [{ name: "c", cluster: { server: url } }],
      users: [{ name: "u", user: { token: "t" } }],
      contexts: [{ name: "c", context: { cluster: "c", user: "u" } }],
      "current-context": "c",
    }),
  );
  return file;
}

/** @param decides is not so of one that stands by: all of this process would hold the same Lease. */
export function controller(
  url: string,
  flags: { readonly namespace?: string; readonly config?: string } = {},
  change: Partial<ReconcileSettings> = {},
  decides = true,
) {
  const given = { backend: "kubernetes", kubeconfig: kubeconfig(url), ...flags };
  const settings = { ...loadSettings(given, {}), reconcile: { ...SETTINGS, ...change } };
  let soon: () => void = () => undefined;
  const cluster = new Cluster(settings, () => soon(), log);
  const history = new SqliteObjects(":memory:");
  const { objects, backend } = cluster;
  let count = 0;
  const clock = { newId: () => String(count++), now: () => Date.now() };
  const stores = { objects, history, backend };
  const loop = new ReconcileLoop({
    ...stores,
    ...clock,
    settings: settings.reconcile,
    leads: () => decides && cluster.leads,
    log,
  });
  const idempotency = new Idempotency(objects);
  const parts = { ...stores, ...clock, loop, settings, version: "1", idempotency, database: history };
  const [api, open] = [createApiServer(parts, log), createOpenServer(parts, log)];
  soon = () => loop.soon();
  cluster.start(() => undefined);
  loop.start();
  ends.push(async () => {
    await loop.stop();
    await cluster.stop();
    await history.close();
  });
  return { cluster, loop, api, open, url };
}

export async function until(holds: () => boolean, what: string): Promise<void> {
  const late = Date.now() + 45_000;
  while (!holds()) {
    if (Date.now() > late) throw new Error(`not within 45 s: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** As Deployment controller, scheduler and kubelet would: pods of the template, bound to the node, and ready. */
export function kubelet(): void {
  const { spec: wanted } = server.get(DEPLOYMENT);
  for (const pod of server.all("pods")) {
    const revision = "llm-orchestrator.io/revision";
    if (pod.metadata.labels[revision] !== wanted.template.metadata.labels[revision]) {
      server.remove(`/api/v1/namespaces/ns/pods/${pod.metadata.name}`);
    }
  }
  for (let index = 0; index < wanted.replicas; index++) {
    const { labels } = wanted.template.metadata;
    const name = `chat-${labels["llm-orchestrator.io/revision"]}-${index}`;
    server.set(`/api/v1/namespaces/ns/pods/${name}`, {
      metadata: { name, namespace: "ns", labels },
      spec: { ...wanted.template.spec, nodeName: "n1" },
      status: { phase: "Running", podIP: "127.0.0.1", conditions: [{ type: "Ready", status: "True" }] },
    });
  }
}

export const condition = (type: string) =>
  (server.get(WORKLOAD)?.status?.conditions ?? []).find((one: Any) => one.type === type);
export const apply = (change: object = {}, metadata: object = {}) => {
  const old = server.get(WORKLOAD);
  server.set(WORKLOAD, {
    apiVersion: "llm.orchestrator.io/v1",
    kind: "LLMWorkload",
    ...old,
    metadata: { name: "chat", namespace: "ns", ...old?.metadata, ...metadata },
    spec: { ...spec({ replicas: 2 }), ...change },
  });
};

/** Calls an API as a client that names its request. */
export async function creating(api: ReturnType<typeof createApiServer>) {
  const { port } = await api.listen("127.0.0.1", 0);
  ends.push(() => api.drain());
  return async (ask: object, key = "once", method = "POST", path = "/internal/deployments/create") => {
    const headers = { "content-type": "application/json", "idempotency-key": key };
    const answer = await fetch(`http://127.0.0.1:${port}${path}`, { method, headers, body: JSON.stringify(ask) });
    const replayed = answer.headers.get("idempotency-replayed");
    return { status: answer.status, body: JSON.parse(await answer.text()), replayed };
  };
}

export async function running(): Promise<void> {
  apply();
  await until(() => server.get(DEPLOYMENT) !== undefined, "a Deployment");
  kubelet();
  await until(() => condition("Ready")?.status === "True", "Ready");
}

export function begin(): Promise<void> {
  return beginWithout(new Map());
}

/** @param unreadable are the collections that the controller may not read, by path. */
export async function beginWithout(unreadable: ReadonlyMap<string, string>): Promise<void> {
  server = new FakeApiserver();
  for (const [path, words] of unreadable) server.unreadable.set(path, words);
  const url = await server.start();
  server.set(NODE, {
    metadata: { name: "n1", labels: { "nvidia.com/gpu.product": "H100", "nvidia.com/gpu.memory": "81559" } },
    spec: {},
    status: { allocatable: { "nvidia.com/gpu": "8" }, conditions: [{ type: "Ready", status: "True" }] },
  });
  started = controller(url);
}

export async function end(): Promise<void> {
  for (const end of ends) await end();
  ends = [];
  await server.stop();
}
