import { expect, test } from "vitest";
import type { Learned } from "../../src/ports/learned.ts";
import { databasePath, open } from "./files.ts";

const learned = (key: string, lastAt: number): Learned => ({
  ...{ key, service: "trainer", workloadType: "training", model: null, settings: { batch_size: 8 } },
  ...{ peaksMib: [10_000], readings: 12, lastAt },
});

test("what was learned is kept, replaced and forgotten, over a restart too", async () => {
  const path = databasePath();
  const before = open(path);
  await before.saveLearned(learned("b", 1));
  await before.saveLearned(learned("a", 2));
  await before.saveLearned({ ...learned("b", 3), peaksMib: [1, 2] });
  await before.close();
  const after = open(path);
  expect(after.loadLearned()).toEqual([learned("a", 2), { ...learned("b", 3), peaksMib: [1, 2] }]);
  await after.forgetLearned("b");
  expect(after.loadLearned()).toEqual([learned("a", 2)]);
  await after.forgetLearned(null);
  expect(after.loadLearned()).toEqual([]);
  await after.close();
});
