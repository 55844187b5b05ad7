import { expect, test } from "vitest";
import { eventLine, wanted } from "../../src/web/model/events.ts";
import { EVENT_BODIES } from "../../src/wire/events/answers.ts";

const AT = "2026-11-30T10:00:00.000Z";
const told = (type: string, body: object = {}) => eventLine(7, type, JSON.stringify({ at: AT, ...body }));

test("every type of event that the API tells of has words of its own", () => {
  for (const type of Object.keys(EVENT_BODIES)) expect(told(type)?.text).not.toMatch(new RegExp(`^${type}\\b`));
});

test("a line says what it is about, and what this one has beyond its kind", () => {
  const granted = told("granted", { service_name: "ocr", gpu_ids: [1, 3], status: "leased" });
  expect(granted).toMatchObject({
    id: 7,
    at: Date.parse(AT),
    kind: "request",
    about: "ocr",
    text: "is granted GPU 1, 3",
    on: null,
  });
  expect(told("use-seen", { service_name: "ocr", gpu_uuid: "GPU-1" })).toMatchObject({ about: "ocr", on: "GPU-1" });
  const asked = told("submitted", { service_name: "ocr", required_gpus: 2, min_memory_mb: 24_576 });
  expect(asked?.text).toBe("asks for GPUs: 2 × 24 GiB");
  const ended = told("ended", { service_name: "ocr", end_reason: "max_duration", end_detail: null });
  expect(ended).toMatchObject({ text: "ends: max duration", tone: "wait" });
  expect(told("ended", { service_name: "ocr", end_reason: "released" })?.tone).toBe("plain");
  const cordoned = told("gpu-cordoned", { gpu_uuid: "GPU-1", by: "ann", reason: "fan" });
  expect(cordoned).toMatchObject({ kind: "gpu", about: "GPU-1", text: "is cordoned by ann: fan" });
  const nudged = { service_name: "ocr", by: "ann", message: "done by six?" };
  expect(told("nudged", nudged)?.text).toBe("is sent a message by ann: done by six?");
  expect(told("nudged", { service_name: "ocr" })?.text).toBe("is sent a message");
  expect(told("resumed")?.kind).toBe("host");
});

test("what only a newer daemon tells is shown by its name, and what is no JSON not at all", () => {
  expect(told("gpu-blessed", { gpu_uuid: "GPU-1" })?.text).toBe("gpu-blessed");
  expect([eventLine(1, "granted", "{"), eventLine(1, "granted", "null")]).toEqual([null, null]);
});

test("heartbeats are told only when they are searched for", () => {
  const lines = ["renewed", "granted"].flatMap((type) => told(type, { service_name: "ocr", gpu_ids: [0] }) ?? []);
  expect(wanted(lines, "all", "").map(({ type }) => type)).toEqual(["granted"]);
  expect(wanted(lines, "all", "renew").map(({ type }) => type)).toEqual(["renewed"]);
  expect(wanted(lines, "gpu", "")).toEqual([]);
});
