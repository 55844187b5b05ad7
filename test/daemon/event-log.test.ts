import { Writable } from "node:stream";
import { pino } from "pino";
import { expect, test } from "vitest";
import type { Event } from "../../src/core/host/events.ts";
import { EventLog } from "../../src/daemon/event-log.ts";
import { lease, request } from "../store/turns.ts";

const AT = Date.UTC(2026, 10, 30, 8);

function logged(level: string, events: readonly Event[]): string {
  let text = "";
  const sink = new Writable({
    write(chunk, _encoding, done) {
      text += chunk;
      done();
    },
  });
  const log = pino({ level: "silent" }, sink);
  const eventLog = new EventLog(log);
  // As a reload of the settings does.
  log.level = level;
  eventLog.write(events, 7, AT);
  return text;
}

test("an operator is told of grants, ends, cordons, drains and quarantines, a line each with the API's names", () => {
  const by = { by: "ops", reason: "fan" };
  const events: Event[] = [
    { type: "submitted", request: request("a-1", {}) },
    { type: "granted", id: "a-1", lease: lease(["GPU-a"], 5), claimBy: null },
    { type: "ended", id: "a-1", outcome: { reason: "released", at: AT, detail: null }, verify: [] },
    { type: "gpu-cordoned", uuid: "GPU-a", at: AT, ...by, drainBy: AT + 60_000 },
    { type: "host-cordoned", at: AT, ...by },
    { type: "gpu-quarantined", uuid: "GPU-a", at: AT, reason: "not empty after its lease ended: 9000 MiB in use" },
  ];
  const lines = logged("info", events)
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line));
  const at = "2026-11-30T08:00:00.000Z";
  expect(lines).toMatchObject([
    { msg: "granted", seq: 8, at, id: "a-1", service_name: "a", status: "leased", gpu_uuids: ["GPU-a"] },
    { msg: "ended", seq: 9, at, id: "a-1", end_reason: "released", ended_at: at },
    { msg: "gpu-cordoned", seq: 10, at, gpu_uuid: "GPU-a", ...by, drain_by: "2026-11-30T08:01:00.000Z" },
    { msg: "host-cordoned", seq: 11, at, ...by },
    { msg: "gpu-quarantined", level: 40, seq: 12, gpu_uuid: "GPU-a", reason: expect.stringContaining("9000 MiB") },
  ]);
  // Nobody reads milliseconds since 1970 at three in the morning.
  expect(JSON.stringify(lines.map(({ time: _, ...line }) => line))).not.toMatch(/"[a-z_A-Z]+":1[0-9]{12}/);
});

test("at no level does the log of events tell what a workload is, where its webhooks go, or a fencing token", () => {
  const workloadData = { model: "CANARY-workload" };
  const submitted = request("a-1", { workloadData, webhookUrl: "https://hooks.example.org/CANARY-hook" });
  const events: Event[] = [
    { type: "submitted", request: submitted },
    { type: "granted", id: "a-1", lease: lease(["GPU-a"], 987_654_321), claimBy: null },
  ];
  const text = logged("trace", events);
  expect(text).toContain("a-1");
  expect(text).not.toMatch(/CANARY|987654321/);
});
