import { expect, test } from "vitest";
import { lookOf } from "../../src/web/model/states.ts";
import { gpuState } from "../../src/wire/gpus/answers.ts";

test("no two states of the API look alike without colour, and each has a word of its own", () => {
  const looks = gpuState.options.map(lookOf);
  expect(new Set(looks.map(({ shape }) => shape)).size).toBe(looks.length);
  expect(new Set(looks.map(({ word }) => word)).size).toBe(looks.length);
});

test("a state that only a newer daemon has is shown by its name", () => {
  expect(lookOf("enchanted")).toMatchObject({ word: "enchanted", shape: "question" });
  expect(lookOf("toString").word).toBe("toString");
});
