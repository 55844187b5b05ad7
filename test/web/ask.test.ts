import { expect, test } from "vitest";
import { bodyOf, EMPTY_ASK, exportsOf } from "../../src/web/model/ask.ts";
import { pathOf, SERIES_LENGTH } from "../../src/web/model/series.ts";
import { allocateSchema } from "../../src/wire/allocations/asks.ts";

test("what is left empty is not sent, and what is typed is sent as the API takes it", () => {
  expect(bodyOf({ ...EMPTY_ASK, service: " ocr ", maxDuration: "" })).toEqual({
    service_name: "ocr",
    required_gpus: 1,
  });
  const whole = bodyOf({
    service: "ocr",
    gpus: "2",
    memoryGib: "20.5",
    model: "H100",
    priority: "7",
    maxDuration: "2h",
    ttl: "90s",
    isShared: true,
    isPreemptible: true,
  });
  expect(whole).toEqual({
    service_name: "ocr",
    required_gpus: 2,
    min_memory_mb: 20_992,
    gpu_model: "H100",
    priority: 7,
    max_duration: "2h",
    ttl: "90s",
    sharing: "shared",
    preemptible: true,
  });
  expect(allocateSchema.safeParse(whole).error).toBeUndefined();
});

test("nonsense is left to the daemon to refuse, in its words", () => {
  const body = bodyOf({ ...EMPTY_ASK, service: "ocr", gpus: "1.5", maxDuration: "soon" });
  const paths = allocateSchema.safeParse(body).error?.issues.map(({ path }) => path[0]);
  expect(paths).toEqual(["required_gpus", "max_duration"]);
});

test("an environment is quoted for a shell, whatever is in it", () => {
  expect(exportsOf({ A: "GPU-1,GPU-2", B: "it's" })).toBe("export A='GPU-1,GPU-2'\nexport B='it'\\''s'");
});

test("a line of readings ends at the right, is within its box, and has gaps where there was no reading", () => {
  expect(pathOf([], 89, 10)).toBe("");
  expect(pathOf([0, 50, 200], 89, 10)).toBe("M87.0 10.0L88.0 5.0L89.0 0.0");
  expect(pathOf([10, null, 10], SERIES_LENGTH - 1, 10).match(/M/g)).toHaveLength(2);
});
