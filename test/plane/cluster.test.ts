/**
 * The backend `kubernetes` against a real control plane: its own apiserver, scheduler and controllers, our nodes and pods.
 * The controller is the built program, with the rights that `manifests` gives it and no others.
 *
 * One story in the order of the tests: each goes on where the one before it ended.
 */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import { parseAllDocuments } from "yaml";
import { crds } from "../../src/controller/kubernetes/crds.ts";
import { KubeObjects } from "../../src/controller/kubernetes/objects.ts";
import type { WorkloadDraft } from "../../src/controller/objects/store.ts";
import { isBuilt } from "../e2e/daemon.ts";
import { ControlPlane, isPlaneThere, until } from "./control-plane.ts";
import { ACCOUNT, type Any, applied, install, pathOf, TestController } from "./controller.ts";
import { Kubelet } from "./kubelet.ts";

const SEED = "../shared/fixtures/cluster/s1";
const LONG_MS = 240_000;
vi.setConfig({ testTimeout: LONG_MS, hookTimeout: LONG_MS });

let plane: ControlPlane;
let kubelet: Kubelet;
let controller: TestController;
let account = "";

const NS = "/namespaces/llm-workloads";
const WORKLOADS = `/apis/llm.orchestrator.io/v1${NS}/llmworkloads`;
const DEPLOYMENTS = `/apis/apps/v1${NS}/deployments`;
const get = (path: string) => plane.connection.call<Any>(path);
const gone = (path: string) =>
  get(path).then(
    () => false,
    (error) => error.status === 404,
  );
const merge = (path: string, body: object) =>
  plane.connection.call<Any>(path, { method: "PATCH", contentType: "application/merge-patch+json", body });
const refusal = (call: Promise<unknown>) =>
  call.then(
    () => ({ status: 200, message: "" }),
    ({ status, message }) => ({ status, message }),
  );
const condition = (object: Any, type: string) =>
  (object.status?.conditions ?? []).find((one: Any) => one.type === type);
async function isReady(name: string): Promise<boolean> {
  const object = await get(`${WORKLOADS}/${name}`);
  const { status, observedGeneration, message } = condition(object, "Ready") ?? {};
  if (status === "True" && observedGeneration === object.metadata.generation) return true;
  throw new Error(`${message}; ${JSON.stringify(object.status?.conditions)}`);
}
const ready = (name: string) => until(`${name} is Ready`, () => isReady(name));

const documents = (file: string) =>
  parseAllDocuments(readFileSync(`${SEED}/${file}`, "utf8")).map((one) => one.toJS() as Any);

/** The first seed's sample, as its README has it. */
const SAMPLE = {
  apiVersion: "llm.orchestrator.io/v1",
  kind: "LLMWorkload",
  metadata: { name: "my-llm-workload", namespace: "llm-workloads" },
  spec: {
    modelName: "llama2",
    modelVersion: "7b",
    modelType: "text-generation",
    resources: { cpu: "2000m", memory: "8Gi", gpu: "1" },
    scaling: { minReplicas: 1, maxReplicas: 5 },
    performance: { maxLatency: "500ms", slaRequirements: { availability: 99.9, responseTimeP95: 200 } },
  },
};

describe.skipIf(!isPlaneThere || !isBuilt)(
  "a workload on a real control plane (npm run test:cluster builds it)",
  () => {
    beforeAll(async () => {
      plane = await ControlPlane.start();
      kubelet = new Kubelet(plane.connection);
      for (const name of ["n1", "n2"]) await kubelet.addNode({ name, gpus: 2 });
    });
    // What follows a failure tells nothing, and would only wait in vain.
    let isBroken = false;
    beforeEach(({ skip }) => skip(isBroken, "an earlier part of the story failed"));
    afterEach(({ task }) => {
      if (task.result?.state !== "fail") return;
      isBroken = true;
      console.error(
        controller?.log
          .slice(-20)
          .map((one) => JSON.stringify(one))
          .join("\n"),
      );
    });
    afterAll(async () => {
      await controller?.stop();
      await kubelet?.stop();
      await plane?.stop();
    });

    test.skipIf(!existsSync(SEED))(
      "the first seed's CRDs are taken over with their objects (needs ../shared)",
      async () => {
        for (const file of ["namespace.yaml", "crd.yaml", "rbac.yaml"]) {
          for (const object of documents(file)) await applied(plane, object);
        }
        const [sample] = documents("readme-workload.yaml");
        await until("the CRD serves", () => applied(plane, sample).then(() => true), 60_000);
        const before = await get(pathOf(sample));
        const early = await TestController.start(plane, join(plane.folder, "admin.kubeconfig"), "seed");
        const readiness = () => early.get("/readyz");
        await until("it says which CRDs it wants", async () =>
          JSON.stringify((await readiness()).body).includes("gpuo cluster crds"),
        );
        expect((await readiness()).status).toBe(503);
        const own = { method: "PATCH", query: { fieldManager: "kubectl", force: "true" } } as const;
        for (const crd of crds(true)) {
          await plane.connection.call(pathOf(crd), { ...own, contentType: "application/apply-patch+yaml", body: crd });
        }
        await until("the status subresource", () => get(`${pathOf(sample)}/status`).then(() => true), 60_000);
        const after = await get(pathOf(sample));
        expect(after.metadata.uid).toBe(before.metadata.uid);
        expect(after.spec).toMatchObject(before.spec);
        await until("it is ready", async () => (await readiness()).status === 200);
        await ready(sample.metadata.name);
        await plane.connection.call(pathOf(sample), { method: "DELETE" });
        await until("the sample is gone", () => gone(pathOf(sample)));
        await early.stop();
      },
    );

    test("what `manifests` prints is taken, and its CRDs refuse what breaks a rule", async () => {
      account = await install(plane);
      await until("the workloads are served", () => get(WORKLOADS).then(() => true), 60_000);
      const wrong = structuredClone(SAMPLE) as Any;
      wrong.spec.scaling = { minReplicas: 5, maxReplicas: 2 };
      expect((await refusal(applied(plane, wrong))).message).toContain("minReplicas must not be above maxReplicas");
      wrong.spec = { ...SAMPLE.spec, resources: { cpu: "many", memory: "8Gi" } };
      expect((await refusal(applied(plane, wrong))).status).toBe(422);
    });

    test("what had entries and has none any more is taken, in specs and in statuses", async () => {
      const objects = new KubeObjects(plane.connection, null);
      const { metadata, spec } = SAMPLE as Any;
      const draft = (env: object, parameters: object) =>
        ({ ...metadata, labels: {}, annotations: {}, spec: { ...spec, parameters, engine: { env } } }) as WorkloadDraft;
      const made = await objects.put(draft({ A: "1" }, { p: "1" }));
      await objects.put(draft({}, {}));
      await objects.putStatus(made, { currentMetrics: { queue_length: 1 } });
      await objects.putStatus(made, { currentMetrics: {} });
      const { status, spec: stored } = await get(pathOf(SAMPLE));
      expect([status.currentMetrics, stored.parameters, stored.engine.env]).toEqual([{}, {}, {}]);
      await plane.connection.call(pathOf(SAMPLE), { method: "DELETE" });
    });

    test("a controller with those rights becomes ready, and leads", async () => {
      controller = await TestController.start(plane, account, "a");
      await until("it is ready", async () => {
        const { status, body } = await controller.get("/readyz");
        if (status !== 200) throw new Error(JSON.stringify(body));
        return true;
      });
      await until("it leads", () => controller.log.some(({ msg }) => msg === "this controller leads"));
    });

    test("the seed's sample goes from an apply to Ready, by pods that serve", async () => {
      await applied(plane, SAMPLE);
      await ready("my-llm-workload");
      const made = await get(`${DEPLOYMENTS}/my-llm-workload`);
      expect(made.status.readyReplicas).toBe(1);
      expect(made.metadata.managedFields.map((one: Any) => one.manager)).toContain("gpu-orchestrator");
      const { status } = await get(`${WORKLOADS}/my-llm-workload`);
      expect(status).toMatchObject({ phase: "Running", state: "running", readyReplicas: 1 });
      expect(status.endpoints).toEqual(["http://my-llm-workload.llm-workloads.svc"]);
      const [pod] = kubelet.pods as Any[];
      expect((await fetch(`http://${pod.status.podIP}:8000/v1/models`)).status).toBe(200);
      expect(
        (await refusal(merge(`${WORKLOADS}/my-llm-workload`, { spec: { modelName: "other" } }))).message,
      ).toContain("modelName cannot change");
    });

    test("has an Event for each change of a condition", async () => {
      const own = async () =>
        ((await get(`/apis/events.k8s.io/v1${NS}/events`)).items as Any[]).filter(
          ({ reportingController }) => reportingController === "gpu-orchestrator",
        );
      // They come after everything else that is written.
      await until("the last one is told", async () => {
        const notes = (await own()).map(({ type, reason, note }) => `${type} ${reason} ${note}`);
        return notes.includes("Normal AllReady Ready is True: 1 of 1 replicas of this revision serve");
      });
      const events = await own();
      expect(events.map(({ note }) => note)).toContain("Accepted is True");
      expect(events[0].regarding).toMatchObject({ kind: "LLMWorkload", name: "my-llm-workload" });
    });

    test("a model says how it is and who uses it, and is withheld from tenants that it is not for", async () => {
      const path = "/apis/llm.orchestrator.io/v1/llmmodels/llama2-7b";
      const spec = { name: "llama2", version: "7b", type: "text-generation", framework: "pytorch" };
      const own = { apiVersion: "llm.orchestrator.io/v1", kind: "LLMModel", metadata: { name: "llama2-7b" } };
      const accepted = async () => condition(await get(`${WORKLOADS}/my-llm-workload`), "Accepted");
      await applied(plane, { ...own, spec: { ...spec, access: { tenants: ["llm-workloads"] } } });
      await until("its status", async () => (await get(path)).status?.phase === "Available");
      const { status } = await get(path);
      const used = { namespace: "llm-workloads", name: "my-llm-workload", desiredReplicas: 1, readyReplicas: 1 };
      expect(status.deployments).toMatchObject([used]);
      expect(condition({ status }, "Verified")).toMatchObject({ status: "Unknown", reason: "NotYet" });
      await merge(path, { spec: { access: { tenants: ["other"] } } });
      await until("it is withheld", async () => (await accepted()).reason === "ModelForbidden");
      await merge(path, { spec: { access: { public: true } } });
      await until("it is allowed", async () => (await accepted()).status === "True");
      await ready("my-llm-workload");
      const told = (await get("/apis/events.k8s.io/v1/namespaces/default/events")).items as Any[];
      expect(told.some(({ regarding }) => regarding.kind === "LLMModel")).toBe(true);
    });

    test("writes nothing while nothing changes, but for its Lease", async () => {
      await until("it is quiet", async () => {
        const before = plane.writes(ACCOUNT).filter(({ path }) => !path.includes("/leases/")).length;
        await new Promise((resolve) => setTimeout(resolve, 3_000));
        return plane.writes(ACCOUNT).filter(({ path }) => !path.includes("/leases/")).length === before;
      });
    });

    test("is scaled through its scale subresource, as an HPA or KEDA does", async () => {
      await merge(`${WORKLOADS}/my-llm-workload/scale`, { spec: { replicas: 4 } });
      await ready("my-llm-workload");
      const scale = await get(`${WORKLOADS}/my-llm-workload/scale`);
      expect(scale.status).toMatchObject({ replicas: 4, selector: "llm-orchestrator.io/workload=my-llm-workload" });
      expect((await get(`/apis/policy/v1${NS}/poddisruptionbudgets/my-llm-workload`)).spec.maxUnavailable).toBe(1);
    });

    test("rolls to a new version with every GPU taken, and never misses more than one replica", async () => {
      let least = Number.POSITIVE_INFINITY;
      const looking = setInterval(() => {
        const serving = kubelet.pods.filter((pod) =>
          ((pod.status as Any)?.conditions ?? []).some((one: Any) => one.type === "Ready" && one.status === "True"),
        );
        least = Math.min(least, serving.filter(({ metadata }) => metadata.deletionTimestamp === undefined).length);
      }, 20);
      await merge(`${WORKLOADS}/my-llm-workload`, { spec: { modelVersion: "13b" } });
      await ready("my-llm-workload").finally(() => clearInterval(looking));
      expect(least).toBe(3);
      const pods = kubelet.pods.filter(({ metadata }) => metadata.deletionTimestamp === undefined);
      expect(new Set(pods.map(({ metadata }) => metadata.labels?.["llm-orchestrator.io/revision"])).size).toBe(1);
    });

    test("puts back what somebody else changed, and leaves what others added", async () => {
      await merge(`${DEPLOYMENTS}/my-llm-workload`, {
        metadata: { annotations: { theirs: "1" } },
        spec: { replicas: 1 },
      });
      await until("four replicas again", async () => (await get(`${DEPLOYMENTS}/my-llm-workload`)).spec.replicas === 4);
      expect((await get(`${DEPLOYMENTS}/my-llm-workload`)).metadata.annotations.theirs).toBe("1");
      await ready("my-llm-workload");
    });

    test("says in the apiserver's words what that refuses of its children", async () => {
      const elsewhere = structuredClone(SAMPLE) as Any;
      elsewhere.metadata = { name: "elsewhere", namespace: "default" };
      await applied(plane, elsewhere);
      const path = pathOf(elsewhere);
      await until(
        "the missing right is named",
        async () => condition(await get(path), "Progressing")?.status === "False",
      );
      const { reason, message } = condition(await get(path), "Progressing");
      expect(reason).toBe("BackendRefused");
      // It is asked for again with growing pauses, not at every look.
      await new Promise((resolve) => setTimeout(resolve, 6_000));
      const asked = plane
        .writes(ACCOUNT)
        .filter((one) => one.path.includes("/namespaces/default/controllerrevisions/"));
      expect(asked.length).toBeLessThanOrEqual(6);
      expect(message).toMatch(/cannot (patch|create) resource "controllerrevisions".*namespace "default"/);
      await plane.connection.call(path, { method: "DELETE" });
      await until("it goes all the same", () => gone(path));
    });

    test("a Deployment that the LLM Orchestrator made is in the way until somebody deletes it", async () => {
      const labels = { app: "old", "llm-orchestrator.io/version": "7b" };
      const spec = {
        replicas: 0,
        selector: { matchLabels: labels },
        template: { metadata: { labels }, spec: { containers: [{ name: "llm-server", image: "llm-server:latest" }] } },
      };
      const metadata = { name: "old", namespace: "llm-workloads" };
      await applied(plane, { apiVersion: "apps/v1", kind: "Deployment", metadata, spec });
      const resources = { cpu: "1", memory: "1Gi", gpu: "0" };
      await applied(plane, { ...SAMPLE, metadata, spec: { ...SAMPLE.spec, resources } });
      const path = `${WORKLOADS}/old`;
      await until("it says so", async () => condition(await get(path), "Progressing")?.reason === "BackendRefused");
      expect(condition(await get(path), "Progressing").message).toContain(
        "deployments/old is there already and was not made for this workload",
      );
      await plane.connection.call(`${DEPLOYMENTS}/old`, { method: "DELETE" });
      await ready("old");
      await plane.connection.call(path, { method: "DELETE" });
      await until("it is gone", () => gone(path));
    });

    test("a pod whose image cannot be had makes it Stuck, with the kubelet's words", async () => {
      await merge(`${WORKLOADS}/my-llm-workload/scale`, { spec: { replicas: 1 } });
      await ready("my-llm-workload");
      kubelet.fate = () => ({ reason: "ImagePullBackOff", message: "no such image" });
      await merge(`${WORKLOADS}/my-llm-workload/scale`, { spec: { replicas: 2 } });
      const path = `${WORKLOADS}/my-llm-workload`;
      await until("it is Stuck", async () => condition(await get(path), "Stuck")?.status === "True");
      expect(condition(await get(path), "Stuck")).toMatchObject({ reason: "ImagePull" });
      expect(condition(await get(path), "Stuck").message).toContain("no such image");
      kubelet.fate = () => null;
      await ready("my-llm-workload");
    });

    test("a deployment of the second seed's API has its hub token in a Secret of its own, and nowhere else", async () => {
      const ask = {
        tenant_id: "acme",
        model_id: "Llama 7B",
        model_name: "llama2",
        model_path: "meta-llama/Llama-2-7b-hf",
        gpu_per_replica: 1,
        huggingface_token: "hf_0123456789",
      };
      // The controller's default namespace is not one that it may make children in.
      const refused = await controller.call("POST", "/internal/deployments/create", ask);
      expect(refused).toMatchObject({ status: 502, body: { code: "backend-refused" } });
      expect(refused.body.error).toContain('namespace "default"');
      await until(
        "nothing is left of it",
        async () => (await controller.get("/internal/deployments")).body.length === 1,
      );
      await controller.stop();
      controller = await TestController.start(plane, account, "a2", [], { K8S_NAMESPACE: "llm-workloads" });
      await until("it is ready", async () => (await controller.get("/readyz")).status === 200);
      const { status, body } = await controller.call("POST", "/internal/deployments/create", ask);
      expect(status).toBe(200);
      const id = body.deployment_id;
      await ready(id);
      const { data, metadata } = await get(`/api/v1${NS}/secrets/hf-token-${id}`);
      expect(Buffer.from(data.HF_TOKEN, "base64").toString()).toBe("hf_0123456789");
      expect(metadata.ownerReferences[0].name).toBe(id);
      const shown = [body, (await controller.get(`/internal/deployments/${id}/status`)).body, controller.log];
      shown.push(await get(`${WORKLOADS}/${id}`), await get(`${DEPLOYMENTS}/${id}`));
      expect(JSON.stringify(shown)).not.toContain("hf_0123456789");
      expect((await controller.call("DELETE", `/internal/deployments/${id}`)).status).toBe(200);
      await until("it is gone", () => gone(`${WORKLOADS}/${id}`));
      await until("its Secret is gone", () => gone(`/api/v1${NS}/secrets/hf-token-${id}`));
    });

    test("a node is drained by evictions that respect the budget, and its replicas serve elsewhere", async () => {
      const drained = await controller.call("POST", "/admin/v1/infrastructure/nodes/n1/drain", { deadline: 120 });
      expect(drained.status).toBe(202);
      await until("n1 is empty", () => !kubelet.pods.some((pod) => pod.spec?.nodeName === "n1"));
      await ready("my-llm-workload");
      expect((await get("/api/v1/nodes/n1")).spec.unschedulable).toBe(true);
      const again = await controller.call("POST", "/admin/v1/infrastructure/nodes/n1/drain", { deadline: 120 });
      expect(again.body.data.status).toBe("drained");
      await controller.call("POST", "/admin/v1/infrastructure/nodes/n1/uncordon");
      expect((await get("/api/v1/nodes/n1")).spec.unschedulable ?? false).toBe(false);
    });

    test("outlives the apiserver, and goes on with what was changed right after it came back", async () => {
      await plane.killApiserver();
      await until("it says that it is not ready", async () => (await controller.get("/readyz")).status === 503);
      plane.startApiserver();
      await until("the workloads are served again", () =>
        merge(`${WORKLOADS}/my-llm-workload/scale`, { spec: { replicas: 3 } }).then(() => true),
      );
      const back = Date.now();
      const lease = "/apis/coordination.k8s.io/v1/namespaces/llm-orchestrator/leases/llm-orchestrator-leader";
      await until("it leads, with a Lease that it renewed since", async () => {
        // One that could not renew it for 10 s ends, and is started again, as by its Deployment.
        if (controller.hasEnded) controller = await TestController.start(plane, account, "a3");
        const { holderIdentity, renewTime } = (await get(lease)).spec;
        return holderIdentity.endsWith(`_${controller.child.pid}`) && Date.parse(renewTime) > back;
      });
      await ready("my-llm-workload");
      expect((await get(`${DEPLOYMENTS}/my-llm-workload`)).spec.replicas).toBe(3);
      await until("it is ready again", async () => (await controller.get("/readyz")).status === 200);
    });

    test("another controller takes over from one that was killed, and only the one that leads writes", async () => {
      const second = await TestController.start(plane, account, "b");
      try {
        const lease = "/apis/coordination.k8s.io/v1/namespaces/llm-orchestrator/leases/llm-orchestrator-leader";
        const holder = async () => (await get(lease)).spec.holderIdentity as string;
        const before = await holder();
        await until("the second sees the workloads", async () => (await second.get("/readyz")).status === 200);
        expect(second.log.some(({ msg }) => msg === "this controller leads")).toBe(false);
        await controller.stop("SIGKILL");
        await until(
          "the second leads",
          async () => (await holder()) !== before && second.log.some(({ msg }) => msg === "this controller leads"),
        );
        await merge(`${WORKLOADS}/my-llm-workload/scale`, { spec: { replicas: 2 } });
        await ready("my-llm-workload");
        expect((await get(`${DEPLOYMENTS}/my-llm-workload`)).spec.replicas).toBe(2);
      } finally {
        controller = second;
      }
    });

    test("one that was stopped for longer than its Lease writes nothing more when it goes on, and ends", async () => {
      const third = await TestController.start(plane, account, "d");
      await until("the third is ready", async () => (await third.get("/readyz")).status === 200);
      const stopped = controller;
      stopped.child.kill("SIGSTOP");
      controller = third;
      await until("the third leads", () => third.log.some(({ msg }) => msg === "this controller leads"));
      await merge(`${WORKLOADS}/my-llm-workload/scale`, { spec: { replicas: 1 } });
      await ready("my-llm-workload");
      const since = Date.now();
      const ended = new Promise((resolve) => stopped.child.once("exit", resolve));
      stopped.child.kill("SIGCONT");
      expect(await ended).toBe(1);
      const written = plane.writes(ACCOUNT, since).filter(({ agent }) => agent.includes(`_${stopped.child.pid})`));
      expect(written).toEqual([]);
      await merge(`${WORKLOADS}/my-llm-workload/scale`, { spec: { replicas: 2 } });
      await ready("my-llm-workload");
    });

    test.skipIf(!existsSync(SEED))(
      "the first seed's own Deployment starts it, its configuration unchanged (needs ../shared)",
      async () => {
        const objects = documents("deployment.yaml");
        const config = objects.find(({ kind }) => kind === "ConfigMap").data["config.yaml"];
        const [container] = objects.find(({ kind }) => kind === "Deployment").spec.template.spec.containers;
        const file = join(plane.folder, "config.yaml");
        // Nothing can be written below /sys: the history stays in memory, as on the read-only root of that Deployment.
        writeFileSync(file, `${config}\ndatabase: /sys/kernel/controller.db\n`);
        const args = container.args.map((arg: string) =>
          arg.replace("/etc/config/config.yaml", file).replace(/=:\d+$/, "=127.0.0.1:0"),
        );
        const third = await TestController.start(plane, account, "c", args);
        try {
          await until("it is ready", async () => (await third.get("/readyz")).status === 200);
          expect(third.log.some(({ msg }) => msg.includes("stays in memory"))).toBe(true);
          const served = third.log.find(({ msg }) => msg === "probes and scrapes are answered there, too");
          expect(served.urls).toHaveLength(2);
          expect((await fetch(`${served.urls[1]}/readyz`)).status).toBe(200);
          expect(await (await fetch(`${served.urls[0]}/metrics`)).text()).toContain("llm_orchestrator_backend_up 1");
          expect((await fetch(`${served.urls[0]}/internal/resources/available`)).status).toBe(404);
        } finally {
          await third.stop();
        }
      },
    );

    test("replicas of a node that dies are replaced on another", async () => {
      const on = (name: string) =>
        kubelet.pods.filter(
          ({ spec, metadata }) => spec?.nodeName === name && metadata.deletionTimestamp === undefined,
        );
      await kubelet.addNode({ name: "n3", gpus: 2 });
      const dead = on("n1").length > 0 ? "n1" : "n2";
      kubelet.kill(dead);
      await until(`nothing is left on ${dead}`, () => on(dead).length === 0);
      await until("two serve elsewhere", async () => {
        const { status } = await get(`${WORKLOADS}/my-llm-workload`);
        return status.readyReplicas === 2;
      });
      // What was there is Terminating for as long as nobody says that the node will not come back.
      for (const { metadata } of kubelet.pods.filter(({ spec }) => spec?.nodeName === dead)) {
        const path = `/api/v1/namespaces/${metadata.namespace}/pods/${metadata.name}`;
        await plane.connection.call(path, { method: "DELETE", query: { gracePeriodSeconds: "0" } });
      }
    });

    test("is deleted with all that it made", async () => {
      await plane.connection.call(`${WORKLOADS}/my-llm-workload`, { method: "DELETE" });
      await until("it is gone", () => gone(`${WORKLOADS}/my-llm-workload`));
      for (const path of [
        `${DEPLOYMENTS}/my-llm-workload`,
        `/api/v1${NS}/services/my-llm-workload`,
        `/api/v1${NS}/configmaps/my-llm-workload-config`,
        `/apis/policy/v1${NS}/poddisruptionbudgets/my-llm-workload`,
      ]) {
        await until(`${path} is gone`, () => gone(path));
      }
    });

    test("was refused no write but where it has no rights", () => {
      const refused = plane.writes(ACCOUNT).filter(({ code }) => code >= 400 && code < 500 && code !== 409);
      const expected = ["/namespaces/default/", "/eviction", "/deployments/old"];
      expect(refused.filter(({ path }) => !expected.some((part) => path.includes(part)))).toEqual([]);
    });
  },
);
