/** The backend `host`: what becomes of the daemon's refusals and words. The daemon is a stand-in here. */
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pino } from "pino";
import { describe, expect, onTestFinished, test } from "vitest";
import type { Client } from "../../src/client/client.ts";
import { ApiProblem } from "../../src/client/errors.ts";
import type { WorkClient, WorkloadRecord } from "../../src/client/work.ts";
import { HostBackend } from "../../src/controller/host/backend.ts";
import { ANNOTATION, LABEL } from "../../src/controller/objects/meta.ts";
import { ReconcileLoop } from "../../src/controller/reconcile/loop.ts";
import { SETTINGS, spec, workload } from "./objects.ts";
import { SqliteObjects } from "./sqlite-objects.ts";

const log = pino({ level: "silent" });
const GPU = { uuid: "GPU-a", name: "NVIDIA H100 80GB HBM3", memory_total: 81_559, state: "free", utilization: 0 };
const WORKER = { worker_id: "node-a" };

interface Daemon {
  readonly drains: object[];
  readonly documents: object[];
  records: readonly WorkloadRecord[];
  refusal: ApiProblem | null;
  /** So often for a workload. */
  asked: number;
}

function host(secrets: string | null = null) {
  const daemon: Daemon = { drains: [], documents: [], records: [], refusal: null, asked: 0 };
  const client = {
    list: async () => ({ gpus: [GPU], allocations: [], drain: null }),
    async drainHost(_act: string, body: object) {
      daemon.drains.push(body);
    },
  } as unknown as Client;
  const work = {
    workloads: async () => daemon.records,
    workers: async () => [WORKER],
    async createWorkload(document: string) {
      daemon.asked++;
      if (daemon.refusal !== null) throw daemon.refusal;
      daemon.documents.push(JSON.parse(document));
    },
  } as unknown as WorkClient;
  const priorities = { premium: 10, standard: 5, basic: 1 };
  return { daemon, backend: new HostBackend(client, work, { executor: "vllm", priorities, secrets }) };
}

const invalid = () =>
  new ApiProblem(422, "invalid-document", "the document is not valid", {
    errors: [{ path: "executor", message: "there is no executor vllm" }],
  });

describe("the backend host", () => {
  test("keeps what the daemon refused in the workload's status, in its words, and writes it once", async () => {
    const { daemon, backend } = host();
    const store = await SqliteObjects.open(":memory:");
    await store.put({ namespace: "default", name: "chat", labels: {}, annotations: {}, spec: spec({ replicas: 1 }) });
    let now = Date.parse("2026-01-01T00:00:00Z");
    const loop = new ReconcileLoop({
      ...{ objects: store, history: store, backend, settings: SETTINGS, log },
      ...{ leads: () => true, newId: () => "1", now: () => now },
    });
    const progress = () => store.workloads()[0]?.status.conditions?.find(({ type }) => type === "Progressing");
    daemon.refusal = invalid();
    await loop.pass();
    const message = "the daemon: the document is not valid; executor: there is no executor vllm";
    expect(progress()).toMatchObject({ status: "False", reason: "BackendRefused", message });
    const written = store.workloads()[0]?.metadata.resourceVersion;
    now += 5_000;
    await loop.pass();
    expect(store.workloads()[0]?.metadata.resourceVersion).toBe(written);
    // Not at each look: of what it refused once it is asked again after a pause.
    expect(daemon.asked).toBe(1);
    daemon.refusal = null;
    const passed = async () => {
      await loop.pass();
      return progress()?.status;
    };
    await expect.poll(passed, { timeout: 10_000 }).toBe("True");
    expect(daemon.asked).toBe(2);
    await store.close();
  });

  test("tells a refusal from a daemon that cannot be reached or is asked too much", async () => {
    const { daemon, backend } = host();
    const wanted = {
      ...{ plan: { qosClass: "basic", cpuMillis: 1, memoryBytes: 1, model: "m", env: {} }, revision: "r1" },
      targets: new Map([["r1", 1]]),
    };
    const codeFor = async (status: number) => {
      daemon.refusal = new ApiProblem(status, "x", "no");
      // Of one each: what was refused is not asked for again at once.
      const of = { ...workload(), metadata: { ...workload().metadata, uid: `uid-${status}` } };
      return backend.apply(of, wanted as never, []).catch((error) => error.code);
    };
    expect(await Promise.all([422, 403, 404].map(codeFor))).toEqual(Array(3).fill("backend-refused"));
    expect(await codeFor(429)).toBe("backend-unavailable");
    expect(await codeFor(503)).toBe("backend-unavailable");
  });

  test("says in the daemon's words why a replica waits that has no run yet", async () => {
    const { daemon, backend } = host();
    const of = workload();
    const labels = { [LABEL.workload]: "default.chat", [LABEL.revision]: "r1" };
    const status = { phase: "pending", message: "no worker has the executor vllm", replicas: 1, readyReplicas: 0 };
    const record = { id: "a", name: "chat", owner: "me", createdAt: "", labels, status: { ...status, nodes: [] } };
    daemon.records = [record];
    const { tracksOf } = await backend.look();
    expect(tracksOf(of)[0]?.replicas[0]).toMatchObject({ phase: "waiting", waiting: { reason: status.message } });
  });

  test("keeps a hub token in files that only its workload names, and takes them away with it", async () => {
    const folder = mkdtempSync(join(tmpdir(), "hub-tokens-"));
    onTestFinished(() => rmSync(folder, { recursive: true }));
    const { daemon, backend } = host(folder);
    const of = workload();
    await backend.keepToken(of, "hf_1");
    // The same request again changes nothing.
    await backend.keepToken(of, "hf_2");
    const at = (name: string) => join(folder, "hf-token-chat", name);
    for (const name of ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"]) {
      expect(readFileSync(at(name), "utf8")).toBe("hf_1");
      expect(statSync(at(name)).mode & 0o007).toBe(0);
    }
    const wanted = {
      ...{ plan: { qosClass: "basic", cpuMillis: 1, memoryBytes: 1, model: "m", env: {} }, revision: "r1" },
      targets: new Map([["r1", 1]]),
    };
    const annotated = { ...of, metadata: { ...of.metadata, annotations: { [ANNOTATION.hubToken]: "secret" } } };
    await backend.apply(annotated, wanted as never, []);
    await backend.apply(of, wanted as never, []);
    expect(daemon.documents).toMatchObject([{ secrets: ["hf-token-chat"] }, {}]);
    expect(daemon.documents[1]).not.toHaveProperty("secrets");
    expect(JSON.stringify(daemon.documents)).not.toContain("hf_1");
    await backend.forget(of);
    expect(existsSync(at("HF_TOKEN"))).toBe(false);
    await expect(host().backend.keepToken(of, "hf_1")).rejects.toMatchObject({ code: "not-yet" });
  });

  test("drains at once by a deadline of one second, the shortest that the daemon takes", async () => {
    const { daemon, backend } = host();
    await backend.drain("node-a", { reason: "now", deadlineMs: 0, force: false });
    await backend.drain("node-a", { reason: "soon", deadlineMs: 1_500, force: false });
    expect(daemon.drains).toEqual([
      { reason: "now", deadline: "1s" },
      { reason: "soon", deadline: "2s" },
    ]);
  });
});
