/** Who decides of several controllers of one host, when the database cannot be asked by all of them. */
import { describe, expect, test } from "vitest";
import { ApiProblem } from "../../../src/client/errors.ts";
import type { WorkClient, WorkloadRecord } from "../../../src/client/work.ts";
import { Fence, type LockState } from "../../../src/controller/host/fence.ts";

/** The workloads of one daemon, for two controllers. */
class Daemon {
  records: WorkloadRecord[] = [];
  refusal: ApiProblem | null = null;
  /** What is done, and nobody hears of it. */
  losesAnswers = false;
  calls = 0;
  nowMs = 0;
  readonly work = {
    createWorkload: async (document: string) => {
      this.calls++;
      if (this.refusal !== null) throw this.refusal;
      const { id, labels, replicas } = JSON.parse(document);
      if (this.records.some((one) => one.id === id)) throw new ApiProblem(409, "workload-exists", "it is there");
      this.records.push({ id, labels, status: { replicas, nodes: [] } } as unknown as WorkloadRecord);
    },
    label: async (id: string, labels: Record<string, string>) => {
      this.calls++;
      if (this.refusal !== null) throw this.refusal;
      this.records = this.records.map((one) => (one.id === id ? { ...one, labels } : one));
      if (this.losesAnswers) throw new Error("the connection was closed");
    },
  } as unknown as WorkClient;

  controller(self: string) {
    const controller = {
      lock: "none" as LockState,
      lost: 0,
      warnings: [] as string[],
      look: () => fence.look(this.records, this.nowMs),
      release: () => fence.release(),
      decides: () => fence.decides,
    };
    const fence = new Fence(this.work, {
      ...{ shared: "db/orchestration", self, executor: "vllm", lock: () => controller.lock },
      ...{ lost: () => controller.lost++, steadyMs: () => this.nowMs },
      log: { warn: (_facts, message) => controller.warnings.push(message) },
    });
    return controller;
  }
}

describe("of two controllers of one host", () => {
  test("the one that was alone and is cut off goes on, and rests when it finds that another has taken over", async () => {
    const daemon = new Daemon();
    const [first, second] = [daemon.controller("first"), daemon.controller("second")];
    expect(first.decides()).toBe(false);
    first.lock = "held";
    await first.look();
    expect(first.decides()).toBe(true);

    first.lock = "alone";
    await first.look();
    expect(first.decides()).toBe(true);

    second.lock = "held";
    await second.look();
    await first.look();
    expect([first.decides(), first.lost]).toEqual([false, 1]);
    expect(first.warnings).toEqual([expect.stringContaining("another controller of this host has taken over")]);
    await first.look();
    expect([first.decides(), first.lost]).toEqual([false, 1]);
  });

  test("the one that takes over decides nothing until the other must have looked", async () => {
    const daemon = new Daemon();
    const [first, second] = [daemon.controller("first"), daemon.controller("second")];
    first.lock = "held";
    await first.look();
    [first.lock, second.lock] = ["alone", "held"];
    await second.look();
    expect(second.decides()).toBe(false);
    daemon.nowMs += 4_999;
    await second.look();
    expect(second.decides()).toBe(false);
    daemon.nowMs += 1;
    await second.look();
    expect(second.decides()).toBe(true);
  });

  test("it waits as long when the answer to its mark was lost", async () => {
    const daemon = new Daemon();
    const [first, second] = [daemon.controller("first"), daemon.controller("second")];
    first.lock = "held";
    await first.look();
    [first.lock, second.lock] = ["alone", "held"];
    daemon.losesAnswers = true;
    await expect(second.look()).rejects.toThrow("closed");
    expect(Object.values(daemon.records[0]?.labels ?? {})).toEqual(["second"]);
    daemon.losesAnswers = false;
    daemon.nowMs += 1_000;
    await second.look();
    expect([first.decides(), second.decides()]).toEqual([true, false]);
    daemon.nowMs += 5_000;
    expect([first.decides(), second.decides()]).toEqual([false, true]);
  });

  test("one that is cut off decides only shortly after a look: a pass that takes long decides nothing at its end", async () => {
    const daemon = new Daemon();
    const first = daemon.controller("first");
    first.lock = "held";
    await first.look();
    daemon.nowMs += 60_000;
    expect(first.decides()).toBe(true);
    first.lock = "alone";
    await first.look();
    daemon.nowMs += 3_000;
    expect(first.decides()).toBe(true);
    daemon.nowMs += 1;
    expect(first.decides()).toBe(false);
    await first.look();
    expect(first.decides()).toBe(true);
  });

  test("one that is cut off rests also when the other one has been there and gone", async () => {
    const daemon = new Daemon();
    const [first, second] = [daemon.controller("first"), daemon.controller("second")];
    first.lock = "held";
    await first.look();
    [first.lock, second.lock] = ["alone", "held"];
    await second.look();
    await second.release();
    second.lock = "none";
    await first.look();
    expect([first.decides(), first.lost]).toEqual([false, 1]);
  });

  test("the first decides again when the database says so, and takes its time, too", async () => {
    const daemon = new Daemon();
    const [first, second] = [daemon.controller("first"), daemon.controller("second")];
    first.lock = "held";
    await first.look();
    [first.lock, second.lock] = ["alone", "held"];
    await second.look();
    await first.look();
    [first.lock, second.lock] = ["held", "none"];
    await first.look();
    expect([first.decides(), second.decides()]).toEqual([false, false]);
    daemon.nowMs += 5_000;
    await first.look();
    await second.look();
    expect([first.decides(), second.decides()]).toEqual([true, false]);
  });

  test("one that ends in order leaves its place without a wait", async () => {
    const daemon = new Daemon();
    const [first, second] = [daemon.controller("first"), daemon.controller("second")];
    first.lock = "held";
    await first.look();
    await first.release();
    expect(first.decides()).toBe(false);
    [first.lock, second.lock] = ["none", "held"];
    await second.look();
    expect(second.decides()).toBe(true);
    // Whoever is not the one that decides takes nobody's name away.
    await first.release();
    expect(daemon.records).toHaveLength(1);
    expect(Object.values(daemon.records[0]?.labels ?? {})).toEqual(["second"]);
  });

  test("a name that somebody has removed or overwritten is put there again by the one with the lock", async () => {
    const daemon = new Daemon();
    const first = daemon.controller("first");
    first.lock = "held";
    await first.look();
    daemon.records = [];
    first.lock = "alone";
    await first.look();
    expect(first.decides()).toBe(true);
    first.lock = "held";
    await first.look();
    expect(Object.values(daemon.records[0]?.labels ?? {})).toEqual(["first"]);
    await daemon.work.label(daemon.records[0]?.id ?? "", { "llm-orchestrator.io/decides": "late" });
    await first.look();
    expect(Object.values(daemon.records[0]?.labels ?? {})).toEqual(["first"]);
  });

  test("a daemon that refuses the mark keeps nobody from deciding, and it is told once", async () => {
    const daemon = new Daemon();
    const first = daemon.controller("first");
    const second = daemon.controller("second");
    second.lock = "held";
    await second.look();
    daemon.refusal = new ApiProblem(403, "not-allowed", "no such executor");
    [first.lock, second.lock] = ["held", "none"];
    for (let look = 0; look < 3; look++) {
      await first.look();
      daemon.nowMs += 2_500;
    }
    expect(first.decides()).toBe(true);
    expect(first.warnings).toEqual(["the daemon does not keep which controller decides"]);
    // A refusal is written into the audit: it is not asked for with each look.
    expect(daemon.calls).toBe(2);
    daemon.nowMs += 5 * 60_000;
    await first.look();
    expect([daemon.calls, first.decides(), first.warnings.length]).toEqual([3, true, 1]);
  });

  test("nor does one that has no room for it; while one cannot write, nobody begins to decide", async () => {
    const daemon = new Daemon();
    const first = daemon.controller("first");
    first.lock = "held";
    daemon.refusal = new ApiProblem(503, "work-storage-unavailable", "the disk is full");
    await first.look();
    expect(first.decides()).toBe(false);
    daemon.refusal = new ApiProblem(503, "work-full", "there are 1000 workloads");
    await first.look();
    expect(first.decides()).toBe(true);
  });

  test("one that has no lock at all never decides", async () => {
    const daemon = new Daemon();
    const first = daemon.controller("first");
    await first.look();
    first.lock = "alone";
    await first.look();
    expect(first.decides()).toBe(false);
    expect(daemon.records).toEqual([]);
  });
});
