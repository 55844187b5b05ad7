import { describe, expect, test } from "vitest";
import type { Workload } from "../../src/controller/objects/workload.ts";
import { Order } from "../../src/controller/reconcile/order.ts";
import { workload } from "./objects.ts";

function named(
  name: string,
  { generation = 1, observed = generation }: { generation?: number; observed?: number } = {},
) {
  const one = workload({}, { status: { observedGeneration: observed } });
  return { ...one, metadata: { ...one.metadata, name, generation } };
}

const names = (workloads: readonly Workload[]) => workloads.map(({ metadata }) => metadata.name);
const always = () => true;

describe("the order of a pass", () => {
  test("has unanswered wishes first, and then who has waited longest", () => {
    const order = new Order();
    const [a, b, c] = [named("a"), named("b"), named("c")];
    expect(names(order.of([a, b, c]))).toEqual(["a", "b", "c"]);
    order.decided(a);
    order.putOff([b, c]);
    expect(names(order.of([a, b, c]))).toEqual(["b", "c", "a"]);
    order.decided(b);
    const asked = named("new", { observed: 0 });
    expect(names(order.of([a, b, c, asked]))).toEqual(["new", "c", "a", "b"]);
  });
});

describe("news", () => {
  test("is a wish that the pass did not have before it", () => {
    const order = new Order();
    const [settled, asked] = [named("settled"), named("asked", { observed: 0 })];
    order.of([settled, asked]);
    expect(order.hasNews([settled, asked], always)).toBe(false);
    expect(order.hasNews([settled, asked, named("late", { observed: 0 })], always)).toBe(true);
    expect(order.hasNews([settled, named("asked", { generation: 2, observed: 0 })], always)).toBe(true);
  });

  test("is what a pass that was cut did not come to, and nothing that rests", () => {
    const order = new Order();
    const asked = named("asked", { observed: 0 });
    order.of([asked]);
    order.putOff([asked]);
    expect(order.hasNews([asked], always)).toBe(true);
    expect(order.hasNews([asked], () => false)).toBe(false);
  });
});
