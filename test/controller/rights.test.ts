/** A right to read that is missing holds up what needs it, and nothing else. */
import { afterEach, describe, expect, test } from "vitest";
import {
  apply,
  beginWithout,
  condition,
  controller,
  DEPLOYMENT,
  end,
  ends,
  running,
  server,
  started,
  until,
} from "./fake-cluster.ts";

const POLICIES = "/apis/networking.k8s.io/v1/networkpolicies";
const REVISIONS = "/apis/apps/v1/controllerrevisions";
const words = (kind: string) => `${kind} is forbidden: cannot list`;
const security = { encryption: false, complianceLevel: "basic", dataClassification: "internal" };

describe("without the right to read", () => {
  afterEach(end);

  test("NetworkPolicies, only a workload that asks for isolation is held up, and says which right is missing", async () => {
    await beginWithout(new Map([[POLICIES, words("networkpolicies")]]));
    await running();
    apply({ security: { ...security, accessControl: ["web"] }, replicas: 3 });
    await until(() => condition("Progressing")?.reason === "BackendRefused", "BackendRefused");
    expect(condition("Progressing").message).toContain(words("networkpolicies"));
    expect(server.get(DEPLOYMENT).spec.replicas).toBe(2);
    apply({ replicas: 3 });
    await until(() => server.get(DEPLOYMENT).spec.replicas === 3, "three replicas");
  });

  test("ControllerRevisions, what runs goes on from its own template, and a new revision names the right", async () => {
    await beginWithout(new Map());
    await running();
    const before = server.get(DEPLOYMENT).spec.template;
    for (const one of ends.splice(0)) await one();
    server.unreadable.set(REVISIONS, words("controllerrevisions"));
    // Its own default would be another image.
    controller(started.url, {}, { image: "vllm/vllm-openai:another" });
    apply({ replicas: 3 });
    await until(() => server.get(DEPLOYMENT).spec.replicas === 3, "three replicas");
    expect(server.get(DEPLOYMENT).spec.template).toEqual(before);
    apply({ modelVersion: "13b" });
    await until(() => condition("Progressing")?.reason === "BackendRefused", "BackendRefused");
    expect(condition("Progressing").message).toContain(words("controllerrevisions"));
    expect(server.get(DEPLOYMENT).spec.template).toEqual(before);
  });

  test("something that all need, nothing is decided", async () => {
    await beginWithout(new Map([["/api/v1/services", words("services")]]));
    await until(() => started.loop.trouble?.includes(words("services")) === true, "a trouble");
    expect(started.loop.looks).toBe(0);
  });
});
