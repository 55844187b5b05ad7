import { existsSync, readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { parse } from "yaml";
import { revisionOf } from "../../src/controller/objects/revision.ts";
import { readSpec } from "../../src/controller/objects/rules.ts";
import type { Workload, WorkloadSpec } from "../../src/controller/objects/workload.ts";
import { isPlan, planOf } from "../../src/controller/reconcile/plan.ts";
import { condition, look, NOW, node, replica, SETTINGS, seen, spec, track, workload } from "./objects.ts";

const SAMPLE = "../shared/fixtures/cluster/s1/readme-workload.yaml";
const revision = (change: Partial<WorkloadSpec> = {}) => revisionOf({ annotations: {} }, spec(change));

describe("a workload", () => {
  test.skipIf(!existsSync(SAMPLE))("of the first seed's README is taken as it stands (needs ../shared)", () => {
    const read = readSpec(parse(readFileSync(SAMPLE, "utf8")).spec);
    if ("breaches" in read) throw new Error(JSON.stringify(read.breaches));
    const outcome = look(workload(read.spec));
    expect(condition(outcome, "Accepted")).toMatchObject({ status: "True" });
    expect(outcome.wanted?.plan).toMatchObject({ model: "meta-llama/Llama-2-7b-hf", gpus: 1, qosClass: "standard" });
  });

  test("that breaks a rule is not accepted, with every path, and nothing is made or changed", () => {
    const outcome = look(
      workload({
        scaling: { minReplicas: 5, maxReplicas: 2, strategy: "horizontal" },
        resources: { cpu: "0", memory: "8Gi" },
      }),
      seen([track("old", ["ready"])]),
    );
    expect(outcome.wanted).toBeNull();
    expect(condition(outcome, "Accepted")).toMatchObject({
      status: "False",
      reason: "Invalid",
      message:
        "spec.scaling: minReplicas must not be above maxReplicas\nspec.resources.cpu: expected more than 0 cores",
    });
  });

  test("that asks for what is not there yet says NotYet, and is not served by something else", () => {
    for (const change of [
      { deploymentStrategy: { type: "canary" } },
      { placement: { clusters: ["a"] } },
      { scaling: { minReplicas: 1, maxReplicas: 2, strategy: "vertical" } },
    ] as Partial<WorkloadSpec>[]) {
      const outcome = look(workload(change));
      expect(outcome.wanted).toBeNull();
      expect(condition(outcome, "Accepted")).toMatchObject({ status: "False", reason: "NotYet" });
    }
  });

  test("is ready when all desired replicas of its revision serve and no older one is left", () => {
    const two = workload({ replicas: 2 });
    const old = track("old", ["ready", "ready"]);
    expect(condition(look(two, seen([old])), "Ready")).toMatchObject({ status: "False" });
    const current = track(revision({ replicas: 2 }), ["ready", "ready"]);
    expect(condition(look(two, seen([current, track("old", ["stopping"])])), "Ready")).toMatchObject({
      status: "False",
    });
    expect(look(two, seen([current])).status).toMatchObject({ state: "running", phase: "Running", readyReplicas: 2 });
  });

  test("that waits for GPUs is pending without an end, and says why", () => {
    const outcome = look(
      workload({ replicas: 1 }),
      seen([track(revision(), ["waiting"])], { nodes: [node({ usedGpus: 8 })] }),
    );
    expect(outcome.status).toMatchObject({ state: "pending", queue: { reason: "no-gpu-free", position: 1 } });
    const later = look(
      workload({ replicas: 1 }, { status: outcome.status }),
      seen([track(revision(), ["waiting"])], { now: NOW + 86_400_000 }),
      outcome.memory,
    );
    expect(later.status.state).toBe("pending");
    expect(condition(later, "Stuck")).toMatchObject({ status: "False" });
  });

  test("that is no longer accepted says nothing of what is not looked at any more", () => {
    const waits = look(workload({ replicas: 1 }), seen([track(revision(), ["waiting"])]));
    expect(condition(waits, "Schedulable")).toMatchObject({ status: "False" });
    const edited = workload({ deploymentStrategy: { type: "canary" } }, { status: waits.status });
    const outcome = look(edited, seen([track(revision(), ["waiting"])]));
    expect(condition(outcome, "Accepted")).toMatchObject({ status: "False", reason: "NotYet" });
    for (const type of ["Schedulable", "Progressing", "Stuck", "ScalingActive"]) {
      expect(condition(outcome, type), type).toMatchObject({ status: "Unknown", reason: "NotAccepted" });
    }
    expect(look(workload({ deploymentStrategy: { type: "canary" } })).status.conditions).toHaveLength(2);
  });

  test("says nothing of security when none is asked for any more", () => {
    const secure = look(
      workload({ security: { encryption: true, complianceLevel: "basic", dataClassification: "public" } }),
    );
    expect(condition(secure, "SecurityApplied")).toMatchObject({ status: "False", reason: "NotEnforced" });
    expect(condition(look(workload({}, { status: secure.status })), "SecurityApplied")).toBeUndefined();
  });

  test("that does not come up within its time is stuck and failed, and runs if it comes up after all", () => {
    const at = (now: number, phase: "starting" | "ready") => seen([track(revision(), [phase])], { now });
    const first = look(workload({ replicas: 1 }), at(NOW, "starting"));
    expect(first.status.state).toBe("creating");
    const late = look(workload({ replicas: 1 }, { status: first.status }), at(NOW + 600_000, "starting"), first.memory);
    expect(condition(late, "Stuck")).toMatchObject({ status: "True", reason: "NoProgress" });
    expect(late.status).toMatchObject({ state: "failed", phase: "Failed" });
    const up = look(workload({ replicas: 1 }, { status: late.status }), at(NOW + 700_000, "ready"), late.memory);
    expect(up.status).toMatchObject({ state: "running", phase: "Running" });
  });

  test("that has never served is not updated by a change, but made, and fails when that does not come up either", () => {
    const first = look(workload({ replicas: 1 }), seen([track(revision(), ["waiting"])]));
    expect(first.status.state).toBe("pending");
    const change = { replicas: 1, modelVersion: "13b", engine: { model: "acme/large" } };
    const of = (status: Workload["status"]) => workload(change, { status });
    const rolling = look(of(first.status), seen([track(revision(), ["waiting"])]), first.memory);
    expect(rolling.status.state).toBe("pending");
    const started = (now: number) => seen([track(revision(change), ["starting"])], { now });
    const second = look(of(rolling.status), started(NOW + 1_000), rolling.memory);
    expect(second.status.state).toBe("creating");
    const late = look(of(second.status), started(NOW + 86_400_000), second.memory);
    expect(late.status).toMatchObject({ state: "failed", phase: "Failed" });
    expect(condition(late, "Stuck")?.message).toMatch(/^nothing has moved for \d+ s: .* on node-a is starting$/);
  });

  test("that scales for over five minutes is stuck by name, and goes on scaling until it has its GPUs", () => {
    const at = (now: number, phases: readonly ("ready" | "waiting")[]) => seen([track(revision(), phases)], { now });
    const one = look(workload({ replicas: 1 }), at(NOW, ["ready"]));
    expect(one.status.state).toBe("running");
    const two = workload({ replicas: 2 }, { status: one.status });
    const asked = look(two, at(NOW + 1_000, ["ready"]), one.memory);
    const again = (status: Workload["status"]) => workload({ replicas: 2 }, { status });
    const soon = look(again(asked.status), at(NOW + 300_000, ["ready", "waiting"]), asked.memory);
    expect(condition(soon, "Stuck")).toMatchObject({ status: "False" });
    expect(soon.status.state).toBe("scaling");
    const late = look(again(soon.status), at(NOW + 301_000, ["ready", "waiting"]), soon.memory);
    expect(condition(late, "Stuck")).toMatchObject({
      status: "True",
      reason: "Unschedulable",
      message: expect.stringMatching(/scales for 5 minutes and more; .*-1 has no node: no-gpu-free/),
    });
    const later = look(again(late.status), at(NOW + 86_400_000, ["ready", "waiting"]), late.memory);
    expect(later.status.state).toBe("scaling");
    const there = look(again(later.status), at(NOW + 86_401_000, ["ready", "ready"]), later.memory);
    expect(there.status.state).toBe("running");
    expect(condition(there, "Stuck")).toMatchObject({ status: "False" });
  });

  test("of which fewer serve than before for ten minutes is in error, and runs when they are back", () => {
    const at = (now: number, phases: readonly ("ready" | "waiting")[]) => seen([track(revision(), phases)], { now });
    const both = look(workload({ replicas: 2 }), at(NOW, ["ready", "ready"]));
    const of = (status: Workload["status"]) => workload({ replicas: 2 }, { status });
    const lost = look(of(both.status), at(NOW + 1_000, ["ready", "waiting"]), both.memory);
    expect(lost.status.state).toBe("scaling");
    const late = look(of(lost.status), at(NOW + 601_000, ["ready", "waiting"]), lost.memory);
    expect(late.status.state).toBe("error");
    const back = look(of(late.status), at(NOW + 602_000, ["ready", "ready"]), late.memory);
    expect(back.status.state).toBe("running");
  });

  test("whose replica is started again and again is stuck in a crash loop, with its last words", () => {
    const trouble = { reason: "CrashLoop" as const, message: "started 4 times; CUDA error" };
    const loop = { revision: revision(), wanted: 1, replicas: [replica("r0", "unready", { restarts: 3, trouble })] };
    expect(condition(look(workload({ replicas: 1 }), seen([loop])), "Stuck")).toMatchObject({
      status: "True",
      reason: "CrashLoop",
      message: "r0 on node-a: started 4 times; CUDA error",
    });
  });

  test("that is deleted creates nothing, and is gone when its last replica is", () => {
    const going = workload(
      {},
      { metadata: { ...workload().metadata, deletionTimestamp: new Date(NOW).toISOString() } },
    );
    const left = look(going, seen([track("old", ["stopping"])]));
    expect(left).toMatchObject({ gone: false, status: { state: "terminating" }, wanted: { plan: null } });
    expect(left.wanted?.targets.size).toBe(0);
    expect(look(going)).toMatchObject({ gone: true });
  });

  test("runs a model's own code only where that is asked for", () => {
    const flagsOf = (config: Record<string, unknown>) => {
      const planned = planOf(spec({ engine: { config } }), [], [node()], SETTINGS);
      return isPlan(planned) ? planned.flags.filter((flag) => flag.includes("remote-code")) : planned;
    };
    expect(flagsOf({})).toEqual([]);
    expect(flagsOf({ trust_remote_code: false })).toEqual([]);
    expect(flagsOf({ trust_remote_code: true })).toEqual(["--trust-remote-code"]);
  });

  test("of which a length is stated takes as many sequences as have room, and as many as its config says", () => {
    const flagsOf = (config: Record<string, unknown>, nodes = [node({ gpuMemoryMib: 23_034 })]) => {
      const planned = planOf(spec({ engine: { config } }), [], nodes, SETTINGS);
      return isPlan(planned) ? planned.flags.filter((flag) => flag.startsWith("--max-")) : planned;
    };
    // 0.5 MiB of cache a token (32 layers, 32 heads of 128, keys and values of 2 bytes), and 12.6 GiB of weights.
    const [length, sequences] = flagsOf({ max_model_len: 4_096 }) as string[];
    expect(length).toBe("--max-model-len=4096");
    const count = Number(/^--max-num-seqs=(\d+)$/.exec(sequences ?? "")?.[1]);
    expect(count * 2_048).toBeLessThanOrEqual(23_034 * 0.92 - 12_853);
    expect((count + 1) * 2_048).toBeGreaterThan(23_034 * 0.92 - 12_853 - 2_048);
    expect(flagsOf({ max_model_len: 4_096, max_num_seqs: 64 })).toEqual(["--max-model-len=4096", "--max-num-seqs=64"]);
    // As its clients write it: 4k is 4,000, and 4K 4,096.
    expect(flagsOf({ max_model_len: "4096" })).toEqual([length, sequences]);
    expect(flagsOf({ max_model_len: "4K" })).toEqual([length, sequences]);
    expect(flagsOf({ max_model_len: "4k" })).toContain("--max-model-len=4000");
    expect(flagsOf({ max_model_len: "auto" })).toEqual(["--max-model-len=auto"]);
    // So many have room that the engine's own number is better; or nobody knows what it has.
    expect(flagsOf({ max_model_len: 256 }, [node({ gpuMemoryMib: 143_771 })])).toEqual(["--max-model-len=256"]);
    expect(flagsOf({ max_model_len: 4_096 }, [node({ gpuMemoryMib: null })])).toEqual(["--max-model-len=4096"]);
    expect(flagsOf({})).toEqual([]);
  });

  test("that is paused is looked at and left alone", () => {
    const outcome = look(workload({ paused: true }));
    expect(outcome.wanted).toBeNull();
    expect(condition(outcome, "Progressing")).toMatchObject({ status: "False", reason: "Paused" });
  });

  test("seen twice the same has the same status: a look that changes nothing writes nothing", () => {
    const at = seen([track(revision(), ["ready"])]);
    const first = look(workload({ replicas: 1 }), at);
    const second = look(
      workload({ replicas: 1 }, { status: first.status }),
      { ...at, now: NOW + 60_000 },
      first.memory,
    );
    expect(second.status).toEqual(first.status);
  });

  test("has another revision after a restart or a new version, and the same after scaling", () => {
    expect(revision({ replicas: 3 })).toBe(revision());
    expect(revision({ modelVersion: "13b" })).not.toBe(revision());
    expect(revisionOf({ annotations: { "llm-orchestrator.io/restarted-at": "now" } }, spec())).not.toBe(revision());
  });
});

describe("the plan of a replica", () => {
  const plan = (change: Partial<WorkloadSpec>, nodes = [node()]) => planOf(spec(change), [], nodes, SETTINGS);

  test("takes as many GPUs as the model needs where none are stated", () => {
    const resources = { cpu: "2", memory: "8Gi" };
    expect(plan({ modelVersion: "70b", resources })).toMatchObject({ gpus: 2, model: "meta-llama/Llama-2-70b-hf" });
  });

  test("shortens the context to what fits beside the weights, and refuses what never fits", () => {
    const engine = { config: { max_model_len: 1_000_000 } };
    const small = [node({ gpuMemoryMib: 24_576 })];
    const planned = plan({ engine }, small);
    if (!isPlan(planned)) throw new Error(planned.message);
    const length = Number(planned.flags.find((flag) => flag.startsWith("--max-model-len="))?.split("=")[1]);
    expect(length).toBeGreaterThan(1_000);
    expect(length).toBeLessThan(1_000_000);
    expect(planned.memoryMib).toBeLessThanOrEqual(24_576 * 0.92);
    expect(plan({ engine, modelVersion: "70b" }, small)).toMatchObject({ reason: "NeverFits" });
  });

  test("is refused where no node has so many GPUs, and where nobody knows the model", () => {
    expect(plan({ resources: { cpu: "2", memory: "8Gi", gpu: "8" } }, [node({ gpus: 4 })])).toMatchObject({
      reason: "NeverFits",
    });
    expect(plan({ modelName: "nobody-knows", modelVersion: "1" })).toMatchObject({ reason: "ModelNotFound" });
    expect(plan({ modelName: "org/anything" })).toMatchObject({ model: "org/anything" });
  });
});
