import { Writable } from "node:stream";
import { pino } from "pino";
import { expect, test } from "vitest";
import type { Event } from "../../src/core/host/events.ts";
import { logEvents } from "../../src/daemon/event-log.ts";
import { lease, request } from "../store/turns.ts";

test("at no level does the log of events tell what a workload is, where its webhooks go, or a fencing token", () => {
  let text = "";
  const sink = new Writable({
    write(chunk, _encoding, done) {
      text += chunk;
      done();
    },
  });
  const workloadData = { model: "CANARY-workload" };
  const submitted = request("a-1", { workloadData, webhookUrl: "https://hooks.example.org/CANARY-hook" });
  const events: Event[] = [
    { type: "submitted", request: submitted },
    { type: "granted", id: "a-1", lease: lease(["GPU-a"], 987_654_321), claimBy: null },
  ];
  logEvents(pino({ level: "trace" }, sink), events, 1);
  expect(text).toContain("a-1");
  expect(text).not.toMatch(/CANARY|987654321/);
});
