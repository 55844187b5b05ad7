/** What an LLMModel says of itself, and who may use it. */
import { generateKeyPairSync } from "node:crypto";
import { describe, expect, test } from "vitest";
import type { Model, ModelStatus } from "../../src/controller/objects/model.ts";
import { modelRefusal, signModel, trustedKey } from "../../src/controller/objects/model-rules.ts";
import { ModelStatuses } from "../../src/controller/reconcile/model-statuses.ts";
import { modelStatus } from "../../src/controller/reconcile/models.ts";
import { condition, look, model, NOW, SETTINGS, seen, workload } from "./objects.ts";

const KEYS = generateKeyPairSync("ed25519");
const TRUSTED = new Map([["release", KEYS.publicKey]]);
const FILES = [
  { path: "b.safetensors", size: 20, checksum: "sha256:bb" },
  { path: "a.json", size: 3, checksum: "sha256:aa" },
];

const statusOf = (one: Model, all = [one], workloads = [workload()]) => modelStatus(one, all, workloads, TRUSTED, NOW);
const told = ({ conditions = [] }: ModelStatus) =>
  Object.fromEntries(conditions.map(({ type, status, reason }) => [type, `${status} ${reason}`]));
const accepted = (change: object, models: readonly Model[]) =>
  condition(look(workload(change), seen([], { models })), "Accepted");

describe("an LLMModel", () => {
  test("has a status with what is known, and nothing that nobody has measured", () => {
    const status = statusOf(model({ source: { type: "hub", uri: "a/b" }, files: FILES }));
    expect(told(status)).toEqual({
      Accepted: "True Valid",
      Verified: "Unknown NotYet",
      Signed: "False Unsigned",
      Benchmarked: "Unknown NotYet",
      Available: "True Usable",
    });
    expect(status).toMatchObject({ phase: "Available", observedGeneration: 1, totalSize: 23 });
    expect(status.checksum).toMatch(/^sha256:[0-9a-f]{64}$/);
    expect(status).not.toHaveProperty("benchmarks");
    expect(statusOf(model())).not.toHaveProperty("totalSize");
    expect(statusOf(model())).not.toHaveProperty("checksum");
  });

  test("lists the workloads that use it, and not those that state another or load something else", () => {
    const ready = workload({}, { status: { desiredReplicas: 3, readyReplicas: 2 } });
    const others = [workload({ modelVersion: "13b" }), workload({ engine: { model: "a/b" } })];
    const { deployments, usageStats } = statusOf(model(), undefined, [ready, ...others]);
    const shown = { namespace: "default", name: "chat", tenant: "default", desiredReplicas: 3, readyReplicas: 2 };
    expect(deployments).toEqual([shown]);
    expect(usageStats).toEqual({ deployments: 1, readyReplicas: 2 });
  });

  test("of a source that is not read yet is not accepted, nor is a workload of it, unless that states what is loaded", () => {
    const stored = model({ source: { type: "s3", uri: "s3://bucket/model" } });
    expect(told(statusOf(stored))).toMatchObject({ Accepted: "False NotYet", Available: "False Refused" });
    expect(statusOf(stored).phase).toBe("Failed");
    expect(accepted({}, [stored])).toMatchObject({ status: "False", reason: "NotYet" });
    expect(accepted({ engine: { model: "a/b" } }, [stored])?.status).toBe("True");
  });

  test("of the name and version of an older one says so, and the older one is loaded", () => {
    const [older, newer] = [
      model({ source: { type: "hub", uri: "a/older" } }, "z", NOW - 1),
      model({ source: { type: "hub", uri: "a/newer" } }, "a", NOW),
    ];
    const all = [newer, older];
    expect(told(statusOf(newer, all))).toMatchObject({ Accepted: "False Duplicate", Available: "False Refused" });
    expect(statusOf(newer, all).deployments).toEqual([]);
    expect(statusOf(older, all).phase).toBe("Available");
    const { wanted } = look(workload(), seen([], { models: all }));
    expect(wanted?.plan?.model).toBe("a/older");
  });

  test("that an older CRD let through with a wrong field says which, and no workload is made of it", () => {
    const broken = model({ access: "everybody" });
    expect(statusOf(broken)).toMatchObject({ phase: "Failed" });
    expect(statusOf(broken).conditions?.[0]).toMatchObject({ reason: "Invalid" });
    expect(statusOf(broken).conditions?.[0]?.message).toMatch(/^spec\.access: /);
    expect(accepted({}, [broken])).toMatchObject({ status: "False", reason: "ModelInvalid" });
  });

  test("keeps the time of a condition that stays", () => {
    const one = model();
    const first = modelStatus(one, [one], [], TRUSTED, NOW);
    const again = modelStatus({ ...one, status: first }, [one], [], TRUSTED, NOW + 5_000);
    expect(again).toEqual(first);
  });
});

describe("access", () => {
  const of = (access: object | undefined, tenant: string) =>
    modelRefusal({ labels: {}, namespace: tenant }, workload().spec, [model({ access })], TRUSTED)?.reason ?? null;

  test("is everybody's where nothing is said, or public; else that of the tenants that are named", () => {
    expect(of(undefined, "acme")).toBeNull();
    expect(of({ public: true }, "acme")).toBeNull();
    expect(of({ public: true, tenants: ["other"] }, "acme")).toBeNull();
    expect(of({ tenants: ["acme"] }, "acme")).toBeNull();
    expect(of({ tenants: ["other"] }, "acme")).toBe("ModelForbidden");
    expect(of({ public: false }, "acme")).toBe("ModelForbidden");
    expect(of({}, "acme")).toBe("ModelForbidden");
  });

  test("that a workload lacks stands in Accepted, and nothing is made, whatever engine.model says", () => {
    const models = [model({ access: { tenants: ["other"] } })];
    const outcome = look(workload({ engine: { model: "a/b" } }), seen([], { models }));
    expect(outcome.wanted).toBeNull();
    expect(condition(outcome, "Accepted")).toMatchObject({ status: "False", reason: "ModelForbidden" });
  });
});

describe("a signature", () => {
  const signature = signModel({ files: FILES }, "release", KEYS.privateKey);

  test("holds over paths, sizes and checksums, in whatever order they are listed", () => {
    expect(told(statusOf(model({ files: [...FILES].reverse(), signature })))).toMatchObject({ Signed: "True Signed" });
  });

  test.each([
    ["a size", [{ ...FILES[0], size: 21 }, FILES[1]]],
    ["a checksum", [{ ...FILES[0], checksum: "sha256:cc" }, FILES[1]]],
    ["a path", [{ ...FILES[0], path: "c" }, FILES[1]]],
    ["a file", [FILES[0]]],
  ])("does not hold where %s is another; the model fails, and starts nowhere", (_what, files) => {
    const changed = model({ files, signature });
    expect(told(statusOf(changed))).toMatchObject({ Signed: "False WrongSignature", Available: "False Refused" });
    const refused = modelRefusal(workload().metadata, workload().spec, [changed], TRUSTED);
    expect(refused?.reason).toBe("ModelSignature");
  });

  test("of a key that is not known, or over files without checksums, proves nothing", () => {
    const unknown = { keyId: "another", value: signature?.value };
    expect(told(statusOf(model({ files: FILES, signature: unknown })))).toMatchObject({ Signed: "Unknown UnknownKey" });
    const bare = [{ path: "a.json" }];
    expect(told(statusOf(model({ files: bare, signature })))).toMatchObject({ Signed: "False Incomplete" });
  });

  test("is of Ed25519 only", () => {
    const other = generateKeyPairSync("ec", { namedCurve: "P-256" });
    expect(() => signModel({ files: FILES }, "release", other.privateKey)).toThrow("Ed25519");
    const pem = other.publicKey.export({ type: "spki", format: "pem" }).toString();
    expect(() => trustedKey(pem)).toThrow("Ed25519");
  });
});

describe("statuses of models", () => {
  function world() {
    const writes: string[] = [];
    const state = { models: [model()], fails: false, writes };
    const objects = {
      models: () => state.models,
      workloads: () => [],
      putModelStatus: async (one: Model, status: ModelStatus) => {
        writes.push(one.metadata.name);
        if (state.fails) throw new Error("forbidden");
        state.models = [{ ...one, status }];
      },
    };
    const statuses = new ModelStatuses({
      objects: objects as never,
      trusted: SETTINGS.trustedKeys,
      log: { warn: () => undefined },
    });
    return { state, statuses };
  }

  test("are written when they change, and not again", async () => {
    const { state, statuses } = world();
    await statuses.write(NOW);
    await statuses.write(NOW + 60_000);
    expect(state.writes).toEqual(["llama2-7b"]);
  });

  test("that cannot be written are tried again with growing pauses", async () => {
    const { state, statuses } = world();
    state.fails = true;
    for (const ms of [0, 900, 1_000, 2_900, 3_000]) await statuses.write(NOW + ms);
    expect(state.writes).toHaveLength(3);
    state.fails = false;
    await statuses.write(NOW + 60_000);
    expect(state.models[0]?.status.phase).toBe("Available");
  });

  test("are no news to what was decided by the models' specs", () => {
    const { state, statuses } = world();
    const before = statuses.sameAsBefore(state.models);
    expect(statuses.sameAsBefore([{ ...model(), status: { phase: "Available" } }])).toBe(before);
    const changed = model();
    const next = [{ ...changed, metadata: { ...changed.metadata, generation: 2 } }];
    expect(statuses.sameAsBefore(next)).toBe(next);
  });
});
