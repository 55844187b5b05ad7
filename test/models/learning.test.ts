import { describe, expect, test } from "vitest";
import type { JsonObject } from "../../src/core/base/json.ts";
import type { HostState } from "../../src/core/host/state.ts";
import type { Observation } from "../../src/core/model/reading.ts";
import { Learning } from "../../src/models/learning.ts";
import type { KnowledgeAsk } from "../../src/ports/knowledge.ts";
import type { Learned, LearnedStore } from "../../src/ports/learned.ts";
import type { Committed } from "../../src/ports/observer.ts";

const CARD_MIB = 80_000;
const READINGS = 12;
const ADMIN = { principal: "root", admin: true };

/** A store in memory. */
class Kept implements LearnedStore {
  readonly rows = new Map<string, Learned>();
  loadLearned = () => [...this.rows.values()];
  saveLearned = (learned: Learned) => {
    this.rows.set(learned.key, learned);
    return Promise.resolve();
  };
  forgetLearned = (key: string | null) => {
    if (key === null) this.rows.clear();
    else this.rows.delete(key);
    return Promise.resolve();
  };
}

interface Run {
  readonly data?: JsonObject;
  readonly service?: string;
  readonly usedMib?: readonly (number | null)[];
  readonly readings?: number;
  readonly process?: string;
  readonly sharing?: "exclusive" | "shared";
  /** Whether the probes bring a reading. */
  readonly ok?: boolean;
  /** By when the GPUs are read, or left out of the reading, from the grant on. */
  readonly readAt?: (reading: number) => number;
  /** When the first probe begins, from the grant on. */
  readonly firstProbeAt?: number;
}

const GRANTED_AT = 1_000;
const PROBE_EVERY_MS = 5_000;

/** A lease of GPUs that each use so much in every reading, from its grant to its end. */
function run(learning: Learning, given: Run = {}): void {
  const {
    data = {},
    service = "trainer",
    usedMib = [10_000],
    readings = READINGS,
    process,
    sharing = "exclusive",
    ok = true,
    firstProbeAt = 0,
  } = given;
  const probedAt = (reading: number) => GRANTED_AT + firstProbeAt + PROBE_EVERY_MS * reading;
  const { readAt = probedAt } = given;
  const processes = process === undefined ? [] : [{ name: process }];
  const gpusReadAt = (startedAt: number) =>
    new Map(
      usedMib.map((mib, index) => [
        `GPU-${index}`,
        { startedAt, reading: { memoryUsedMib: mib, memoryTotalMib: CARD_MIB, processes } },
      ]),
    );
  const request = { id: "trainer-1", serviceName: service, workloadType: "training", workloadData: data, sharing };
  const lease = { grantedAt: GRANTED_AT, gpus: usedMib.map((_, index) => ({ uuid: `GPU-${index}` })) };
  const allocations = new Map([["trainer-1", { status: "leased", request, lease }]]);
  const hold = sharing === "shared" ? { kind: "shared" } : { kind: "leased", allocationId: "trainer-1" };
  for (let reading = 0; reading < readings; reading++) {
    const sight = { gpus: gpusReadAt(readAt(reading)) };
    const state = { allocations, gpus: new Map([["GPU-0", { hold }]]), sight } as unknown as HostState;
    learning.observed({ ok, startedAt: probedAt(reading) } as Observation, state);
  }
  learning.committed({ at: 1_000, events: [{ type: "ended", id: "trainer-1" }] } as unknown as Committed);
}

function ask(workloadData: JsonObject = {}, serviceName: string | null = "trainer"): KnowledgeAsk {
  const stated = { requiredGpus: null, minMemoryMib: null, maxUtilizationPercent: null, priority: null };
  return { workloadType: "training", workloadData, serviceName, ...stated };
}

describe("what is learned of a kind of workload", () => {
  test("is suggested from three leases on: the highest of their peaks, with head-room", () => {
    const learning = new Learning(new Kept());
    for (const mib of [10_000, 12_000]) run(learning, { usedMib: [mib, 1_000] });
    expect(learning.suggestionFor(ask())).toBeNull();
    run(learning, { usedMib: [11_000] });
    expect(learning.suggestionFor(ask())).toEqual({ memoryMib: Math.ceil(12_000 * 1.15), runs: 3 });
    expect(learning.list()).toMatchObject([
      { service: "trainer", peaksMib: [10_000, 12_000, 11_000], suggestedMib: 13_800 },
    ]);
  });

  test("is kept apart by service, type, model and settings, and the model by what it is, not how it is written", () => {
    const learning = new Learning(new Kept());
    const data = { model: "llama3.1:8b", context_length: 4_096, note: "mine" };
    for (let index = 0; index < 3; index++) run(learning, { data });
    expect(learning.suggestionFor(ask({ ...data, note: "yours" }))).not.toBeNull();
    expect(learning.suggestionFor(ask({ ...data, model: "meta-llama/Llama-3.1-8B-Instruct" }))).not.toBeNull();
    expect(learning.suggestionFor(ask({ ...data, context_length: 8_192 }))).toBeNull();
    expect(learning.suggestionFor(ask({ ...data, model: "llama3.1:8b-awq" }))).toBeNull();
    expect(learning.suggestionFor(ask(data, "other"))).toBeNull();
    expect(learning.suggestionFor(ask(data, null))).toBeNull();
  });

  test("outlives the process, and is forgotten by its key or all at once", async () => {
    const store = new Kept();
    const before = new Learning(store);
    for (let index = 0; index < 3; index++) {
      run(before);
      run(before, { service: "other" });
    }
    const after = new Learning(store);
    expect(after.suggestionFor(ask())).toEqual({ memoryMib: 11_500, runs: 3 });
    const [latest] = after.list();
    expect(await after.forget(latest?.key ?? "", ADMIN, 0)).toBe(1);
    expect(await after.forget("unknown", ADMIN, 0)).toBe(0);
    expect(after.list().map(({ service }) => service)).toEqual(["trainer"]);
    expect(await after.forget(null, ADMIN, 0)).toBe(1);
    expect(new Learning(store).list()).toEqual([]);
  });

  test("comes of the last fifty leases", () => {
    const learning = new Learning(new Kept());
    run(learning, { usedMib: [60_000] });
    for (let index = 0; index < 50; index++) run(learning);
    expect(learning.suggestionFor(ask())).toEqual({ memoryMib: 11_500, runs: 50 });
  });

  test("is of a thousand kinds at most, the latest, also while the disk takes no change", async () => {
    const store = new Kept();
    store.forgetLearned = () => Promise.reject(new Error("the disk is full"));
    const learning = new Learning(store);
    for (let index = 0; index < 1_002; index++) run(learning, { service: `s-${index}` });
    const latest = ["s-1001", "s-2"];
    const ends = (lessons: Learning) => [lessons.list().at(0)?.service, lessons.list().at(-1)?.service];
    expect(learning.list()).toHaveLength(1_000);
    expect(ends(learning)).toEqual(latest);
    expect(ends(new Learning(store))).toEqual(latest);
  });
});

describe("a lease teaches nothing", () => {
  test.each<[string, Run]>([
    ["with fewer than twelve readings", { readings: READINGS - 1 }],
    ["whose peak is 80 % of a card", { usedMib: [0.8 * CARD_MIB] }],
    ["of an engine that takes a share of the card", { process: "VLLM::EngineCore" }],
    ["that shares its GPU", { sharing: "shared" }],
    ["whose memory cannot be read", { usedMib: [null] }],
    ["while the probes fail", { ok: false }],
    ["of whose GPUs only one reading came, whatever was read of others since", { readAt: () => GRANTED_AT }],
    ["that was read twelve times, but once before it was granted", { firstProbeAt: -1 }],
  ])("%s", (_, given) => {
    const learning = new Learning(new Kept());
    for (let index = 0; index < 3; index++) run(learning, given);
    expect(learning.list()).toEqual([]);
  });
});
