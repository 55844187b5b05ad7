import { expect, test } from "vitest";
import { Allocations } from "../../../src/core/host/allocations.ts";
import type { LiveAllocation } from "../../../src/core/model/allocation.ts";
import fc from "../../fc.ts";
import { lease, leased, queued, request } from "../../store/turns.ts";

const IDS = ["a-1", "a-2", "b-1", "b-2", "c-1", "d-1"];

const change = fc.record({ id: fc.constantFrom(...IDS), to: fc.constantFrom("waits", "holds", "ends") });

function inOrder(model: ReadonlyMap<string, LiveAllocation>, from = ""): readonly LiveAllocation[] {
  return IDS.filter((id) => id >= from).flatMap((id) => model.get(id) ?? []);
}

test("whoever comes to wait, to hold or to end, it holds what a plain map holds, by id, and its old versions stay", () => {
  fc.assert(
    fc.property(fc.array(change, { maxLength: 30 }), fc.constantFrom(...IDS), (changes, probe) => {
      let allocations = Allocations.none;
      const model = new Map<string, LiveAllocation>();
      for (const { id, to } of changes) {
        const [old, oldOnes] = [allocations, inOrder(model)];
        const before = model.get(id);
        if (to === "ends") {
          if (before !== undefined) allocations = allocations.without(before);
          model.delete(id);
        } else {
          const next = to === "waits" ? queued(request(id)) : leased(request(id), lease(["GPU-a"]));
          allocations = allocations.with(before, next);
          model.set(id, next);
        }
        expect([...allocations.values()]).toEqual(inOrder(model));
        expect([...allocations.valuesFrom(probe)]).toEqual(inOrder(model, probe));
        expect(allocations.size).toBe(model.size);
        expect(allocations.get(probe)).toBe(model.get(probe));
        expect([...old.values()]).toEqual(oldOnes);
      }
    }),
    { numRuns: 300 },
  );
});
