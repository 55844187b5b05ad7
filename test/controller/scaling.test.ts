import { describe, expect, test } from "vitest";
import type { WorkloadSpec } from "../../src/controller/objects/workload.ts";
import { NO_MEMORY, type ScalingAsk, scale } from "../../src/controller/reconcile/scaling.ts";
import { NOW, spec } from "./objects.ts";

const scaling = (more: Partial<WorkloadSpec["scaling"]> = {}): WorkloadSpec["scaling"] => ({
  minReplicas: 1,
  maxReplicas: 10,
  strategy: "horizontal",
  targetMetrics: [{ type: "queue_length", target: 10 }],
  ...more,
});

function ask(queues: readonly (number | null)[], change: Partial<ScalingAsk> = {}): ScalingAsk {
  const ready = queues.map((_, index) => `r${index}`);
  return {
    spec: spec({ scaling: scaling() }),
    before: queues.length,
    ready,
    unready: 0,
    load: queues.flatMap((value, index) =>
      value === null ? [] : [{ replica: `r${index}`, metrics: { queue_length: value } }],
    ),
    room: 100,
    lastScaledAt: null,
    upCooldownMs: 0,
    downCooldownMs: 0,
    cpuBand: { above: 80, below: 30 },
    now: NOW,
    ...change,
  };
}

const desired = (of: ScalingAsk) => scale(of, NO_MEMORY).desired;
const atOnce = { scaleDown: { stabilizationWindowSeconds: 0 } };

describe("scaling by what is measured", () => {
  test("asks for replicas by the ratio to the target, and for none within a tenth of it", () => {
    expect(desired(ask([20, 20]))).toBe(4);
    expect(desired(ask([10.9, 10.9]))).toBe(2);
    const down = ask([1, 1, 1, 1], { spec: spec({ scaling: scaling({ scalingBehavior: atOnce }) }) });
    expect(desired(down)).toBe(1);
  });

  test("is told by the metric that asks for most", () => {
    const two = scaling({
      targetMetrics: [
        { type: "queue_length", target: 10 },
        { type: "gpu_utilization", target: 50 },
      ],
    });
    const load = [{ replica: "r0", metrics: { queue_length: 10, gpu_utilization: 100 } }];
    expect(desired(ask([10], { spec: spec({ scaling: two }), load }))).toBe(2);
  });

  test("waits for the cool-down of the last change, but not of one that is yet to come: a clock was set back", () => {
    const cooling = (ago: number) => desired(ask([20, 20], { lastScaledAt: NOW - ago, upCooldownMs: 60_000 }));
    expect([59_000, 60_000, -3_600_000].map(cooling)).toEqual([2, 4, 4]);
  });

  test("counts a silent replica as idle for up and as at its target for down, and stands still when all are silent", () => {
    expect(desired(ask([40, null]))).toBe(4);
    expect(desired(ask([12, null]))).toBe(2);
    const down = ask([0, null], { spec: spec({ scaling: scaling({ scalingBehavior: atOnce }) }) });
    expect(desired(down)).toBe(1);
    const silent = scale(ask([null, null]), NO_MEMORY);
    expect(silent).toMatchObject({ desired: 2, active: { holds: false, reason: "NoMetrics" } });
  });

  test("rests where a hand has set the replicas", () => {
    const byHand = scale(ask([90], { spec: spec({ replicas: 0, scaling: scaling() }) }), NO_MEMORY);
    expect(byHand).toMatchObject({ desired: 0, active: { holds: false, reason: "ScaledByHand" } });
  });

  test("asks for no more than could get their GPUs", () => {
    expect(desired(ask([100], { room: 2 }))).toBe(3);
    expect(desired(ask([100], { room: 0 }))).toBe(1);
  });

  test("waits for its cool-down, and takes steps no larger than its pace", () => {
    const cooling = { lastScaledAt: NOW - 60_000, upCooldownMs: 180_000 };
    expect(desired(ask([90], cooling))).toBe(1);
    expect(desired(ask([90], { ...cooling, now: NOW + 120_000 }))).toBe(9);
    const slow = scaling({ scalingBehavior: { scaleUp: { maxChangePods: 2 } } });
    expect(desired(ask([90], { spec: spec({ scaling: slow }) }))).toBe(3);
  });

  test("goes down only by what was asked for during the whole window", () => {
    const first = scale(ask([10, 10, 10, 10]), NO_MEMORY);
    const dip = scale(ask([1, 1, 1, 1], { now: NOW + 15_000 }), first.memory);
    expect(dip.desired).toBe(4);
    const later = scale(ask([1, 1, 1, 1], { now: NOW + 310_000 }), dip.memory);
    expect(later.desired).toBe(1);
  });
});

describe("a workload that names no metric", () => {
  const bare = { minReplicas: 1, maxReplicas: 10, strategy: "horizontal", scalingBehavior: atOnce } as const;
  const by = (cpu: number, replicas = 4) => {
    const of = ask(Array(replicas).fill(null), { spec: spec({ scaling: bare }) });
    return { ...of, load: of.ready.map((replica) => ({ replica, metrics: { cpu } })) };
  };

  test("is scaled by CPU: up above one threshold, down below the other, and between them not at all", () => {
    expect(desired(by(120))).toBe(6);
    expect(desired(by(90))).toBe(5);
    for (const between of [79, 50, 31]) expect(desired(by(between))).toBe(4);
    expect(desired(by(20))).toBe(1);
  });

  test("keeps its replicas where nobody measures CPU, and says so", () => {
    const silent = scale({ ...by(120), load: [] }, NO_MEMORY);
    expect(silent).toMatchObject({ desired: 4, active: { holds: false, reason: "NoMetrics" } });
  });
});
