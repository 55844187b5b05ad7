/** Runs of lost books: which can be adopted, and what their worker is to do with those that have no place in ours. */
import { expect, test } from "vitest";
import type { Assignment, RunSeen } from "../../src/work/model.ts";
import { Strangers } from "../../src/work-service/strangers.ts";

function seen(run: string, more: Partial<RunSeen> = {}): RunSeen {
  const facts = { startedAt: 1, port: null, ended: null, published: false, books: "lost" };
  return { run, phase: "running", ...facts, ofJob: "job", ...more };
}

test("what is about to end is not adopted, neither by itself nor with the rest of its job", () => {
  const strangers = new Strangers();
  const going = seen("going", { phase: "stopping" });
  strangers.take([going], "ours", () => false);
  expect([strangers.adopt("going"), strangers.wanted.adopt]).toEqual([false, []]);
  strangers.take([going, seen("stays")], "ours", () => false);
  expect(strangers.adopt("stays")).toBe(true);
  expect(strangers.wanted.adopt).toEqual(["stays"]);
});

test("one that our books have no place for is a stranger again, until an admin asks once more", () => {
  const strangers = new Strangers();
  strangers.take([seen("first"), seen("second")], "ours", () => false);
  strangers.adopt("first");
  expect(strangers.wanted.adopt).toEqual(["first", "second"]);
  const both = ["first", "second"].map((run) => {
    const { ofJob: _, ...rest } = seen(run, { books: "ours", adopted: {} as Assignment });
    return rest;
  });
  expect(strangers.take(both, "ours", (run) => run === "first").map(({ run }) => run)).toEqual(["first"]);
  strangers.hasAdopted("job");
  expect(strangers.wanted).toEqual({ stop: [], settle: [], adopt: [], disown: ["second"] });
  strangers.take([both[0] as RunSeen, seen("second")], "ours", (run) => run === "first");
  expect(strangers.wanted).toEqual({ stop: [], settle: [], adopt: [], disown: [] });
  strangers.stop("second");
  expect(strangers.wanted.stop).toEqual(["second"]);
});

test("one that other books have adopted is not of these, though its worker has not heard yet that those are lost too", () => {
  const strangers = new Strangers();
  const { ofJob: _, ...rest } = seen("run", { books: "adopters", adopted: { job: "job" } as Assignment });
  expect(strangers.take([rest], "ours", () => false)).toEqual([]);
  expect([strangers.adopted, strangers.wanted.disown]).toEqual([[], []]);
  // An admin may take it into these, too.
  expect(strangers.adopt("run")).toBe(true);
  expect(strangers.wanted.adopt).toEqual(["run"]);
});

test("what a worker says that has not looked since it was obeyed is not all that lives", () => {
  const strangers = new Strangers();
  strangers.take([seen("first")], "ours", () => false, false);
  expect([strangers.all.length, strangers.living]).toEqual([1, null]);
  strangers.take([seen("first"), seen("second")], "ours", () => false);
  expect(strangers.living?.runs).toEqual(new Set(["first", "second"]));
});
