/** What the stream tells of each type of event: as its schema says, and nothing private. */
import { expect, test } from "vitest";
import type { Event } from "../../../src/core/host/events.ts";
import { END_REASONS, type Lease, type Request } from "../../../src/core/model/allocation.ts";
import type { Booking } from "../../../src/core/model/booking.ts";
import { EVENT_BODIES } from "../../../src/wire/events/answers.ts";
import { publicEvent } from "../../../src/wire/events/bodies.ts";
import { lease, request, START } from "../../store/turns.ts";

const ID = "my-service.2-01m7z4nj4w33d8n3qtkh5pkyz7";
const SECRET: Request = request(ID, {
  serviceName: "my-service.2",
  principal: "SECRET-principal",
  workloadData: { model: "SECRET-model" },
  webhookUrl: "https://SECRET.example.com/hook",
  preferredGpus: ["SECRET-wish"],
});
const LEASE: Lease = { ...lease(["GPU-a", "GPU-b"], 42), expiresAt: START + 1_000 };
const at = START + 7;
const id = ID;
const ACT = { uuid: "GPU-a", at, by: "ops", reason: "a loose riser" } as const;

const BOOKING: Booking = {
  id: "reservation-01m7z4nj4w33d8n3qtkh5pkyz7",
  principal: "SECRET-principal",
  serviceName: "my-service.2",
  gpus: 2,
  from: at,
  to: at + 60_000,
  madeAt: at,
  madeBy: "SECRET-principal",
};

/** Each type in every shape that makes a difference to what is told. */
const EXAMPLES: { readonly [type in Event["type"]]: readonly (Event & { readonly type: type })[] } = {
  submitted: [
    { type: "submitted", request: SECRET },
    { type: "submitted", request: { ...SECRET, ttlMs: 1_500, maxDurationMs: 9_000 } },
  ],
  granted: [
    { type: "granted", id, lease: LEASE, claimBy: null },
    { type: "granted", id, lease: { ...LEASE, expiresAt: null }, claimBy: START + 5 },
  ],
  reoffered: [{ type: "reoffered", id, at, claimBy: START + 5 }],
  claimed: [{ type: "claimed", id, at }],
  renewed: [
    { type: "renewed", id, at, expiresAt: START + 5 },
    { type: "renewed", id, at, expiresAt: null },
  ],
  "end-moved": [
    { type: "end-moved", id, at, ttlMs: 5_000, maxDurationMs: null, expiresAt: START + 5_000 },
    { type: "end-moved", id, at, ttlMs: null, maxDurationMs: 60_000, expiresAt: START + 60_000 },
  ],
  extended: [
    { type: "extended", id, at, expiresAt: START + 5, claimBy: null },
    { type: "extended", id, at, expiresAt: null, claimBy: START + 5 },
  ],
  ended: END_REASONS.map((reason) => ({
    type: "ended",
    id,
    outcome: { reason, at, detail: reason === "revoked" ? "line one\r\nline two" : null },
    verify: reason === "released" ? ["GPU-a"] : [],
  })),
  preempting: [{ type: "preempting", id, at, until: START + 30_007, for: "other-01JZZZZZZZZZZZZZZZZZZZZZZZ" }],
  draining: [{ type: "draining", id, at, until: START + 60_007, reason: "a new driver (ops)" }],
  "notice-withdrawn": [{ type: "notice-withdrawn", id, at, reason: "its GPUs are not drained any more" }],
  "became-head": [{ type: "became-head", id, at }],
  "preemption-begun": [{ type: "preemption-begun", id, at }],
  "preemption-called-off": [{ type: "preemption-called-off", id, at, reason: "the settings have changed" }],
  "gpu-seen": [
    {
      type: "gpu-seen",
      gpu: { uuid: "GPU-a", index: 3, name: "Tesla T4", pciBusId: "0000:01:00.0", memoryTotalMib: 15_360, mig: null },
    },
    { type: "gpu-seen", gpu: { uuid: "GPU-b", index: 4, name: "?", pciBusId: null, memoryTotalMib: null, mig: null } },
    {
      type: "gpu-seen",
      gpu: {
        uuid: "MIG-a",
        index: 3,
        name: "NVIDIA H100 80GB HBM3 MIG 1g.10gb",
        pciBusId: null,
        memoryTotalMib: 9_984,
        mig: { parentUuid: "GPU-a", profile: "1g.10gb", gpuInstanceId: 9, computeInstanceId: 0 },
      },
    },
  ],
  "use-seen": [{ type: "use-seen", uuid: "GPU-a", allocationId: id, at }],
  "use-gone": [{ type: "use-gone", uuid: "GPU-a", allocationId: id, at }],
  nudged: [{ type: "nudged", id, at, by: "bob", message: "done by six?\u202e" }],
  "went-idle": [{ type: "went-idle", id, at, since: START }],
  "went-busy": [{ type: "went-busy", id, at }],
  "memory-settled": [{ type: "memory-settled", uuid: "GPU-a", allocationId: id, at, seen: true }],
  "memory-returned": [{ type: "memory-returned", uuid: "GPU-a", allocationId: id, at }],
  "went-over-memory": [{ type: "went-over-memory", id, uuid: "GPU-a", at, usedMib: 9_000, reservedMib: 8_192 }],
  "went-within-memory": [{ type: "went-within-memory", id, uuid: "GPU-a", at }],
  "gpu-quarantined": [{ type: "gpu-quarantined", uuid: "GPU-a", at, reason: "its memory did not go" }],
  "gpu-lost": [
    { type: "gpu-lost", uuid: "GPU-a", at, allocationId: id, reason: "missing from the last 3 readings" },
    { type: "gpu-lost", uuid: "GPU-a", at, allocationId: id, sharedWith: [`${id}2`], reason: "gone" },
    { type: "gpu-lost", uuid: "GPU-a", at, allocationId: null, reason: "missing from the last 3 readings" },
  ],
  "gpu-back": [{ type: "gpu-back", uuid: "GPU-a", at, allocationId: null, reason: "3 good readings in a row" }],
  "gpu-faulted": (["all", "several"] as const).map((scope) => ({
    type: "gpu-faulted",
    uuid: "GPU-a",
    at,
    allocationId: scope === "all" ? id : null,
    reason: "Xid 79: the GPU has fallen off the bus",
    scope,
    sequence: 4_711,
  })),
  "gpu-fault-answered": [
    { type: "gpu-fault-answered", uuid: "GPU-a", at, reason: "the driver was loaded anew", answeredUpTo: 4_711 },
  ],
  "gpu-foreign-use": [
    {
      type: "gpu-foreign-use",
      uuid: "GPU-a",
      at,
      since: START,
      reason: "process 7 (x\u202e\n) of no lease",
      pids: [7],
    },
  ],
  "gpu-foreign-use-over": [
    { type: "gpu-foreign-use-over", uuid: "GPU-a", at, reason: "a reading shows no use without a lease" },
  ],
  "gpu-freed": [{ type: "gpu-freed", uuid: "GPU-a", at }],
  "gpu-gone": [
    { type: "gpu-gone", uuid: "MIG-a", at, reason: "the instance is gone, and its GPU reads well without it" },
  ],
  "gpu-cordoned": [
    { type: "gpu-cordoned", ...ACT },
    { type: "gpu-cordoned", ...ACT, drainBy: START + 60_007 },
  ],
  "gpu-uncordoned": [{ type: "gpu-uncordoned", ...ACT }],
  "quarantine-cleared": [{ type: "quarantine-cleared", ...ACT }],
  "gpu-removed": [{ type: "gpu-removed", ...ACT }],
  "host-cordoned": [
    { type: "host-cordoned", at, by: "ops", reason: "a new driver" },
    { type: "host-cordoned", at, by: "ops", reason: "a new driver", drainBy: START + 60_007 },
  ],
  "host-uncordoned": [{ type: "host-uncordoned", at, by: "ops", reason: "it is in" }],
  reserved: [
    { type: "reserved", at, booking: BOOKING },
    { type: "reserved", at, booking: { ...BOOKING, serviceName: null, gpus: ["GPU-a"] } },
  ],
  "reservation-cancelled": [
    { type: "reservation-cancelled", at, bookingId: BOOKING.id, principal: "SECRET-principal", by: "SECRET-principal" },
  ],
  resumed: [{ type: "resumed", at, bootId: "SECRET-boot", fencingFloor: START }],
};

const tell = (event: Event) => publicEvent({ seq: 7, at, event }, () => "SECRET-principal");
const examples: readonly Event[] = Object.values(EXAMPLES).flat();

test("each is told by its own name, with all that its schema has, and nothing beside it", () => {
  for (const event of examples) {
    const { seq, type, body } = tell(event);
    expect([seq, type]).toEqual([7, event.type]);
    const told = JSON.parse(body);
    const result = EVENT_BODIES[event.type].strict().safeParse(told);
    expect(result.error?.issues ?? [], `${type} ${body}`).toEqual([]);
    expect(told.at).toBe("2027-01-15T08:00:00.007Z");
    if ("id" in told) expect([told.id, told.service_name]).toEqual([ID, "my-service.2"]);
  }
});

test("what it says is what happened", () => {
  const told = (event: Event) => JSON.parse(tell(event).body);
  expect(told(EXAMPLES.granted[0] as Event)).toMatchObject({
    status: "leased",
    gpu_ids: [0, 1],
    gpu_uuids: ["GPU-a", "GPU-b"],
    allocated_at: "2027-01-15T08:00:00.000Z",
    expires_at: "2027-01-15T08:00:01.000Z",
    claim_by: null,
  });
  expect(told(EXAMPLES.granted[1] as Event)).toMatchObject({
    status: "offered",
    expires_at: null,
    claim_by: "2027-01-15T08:00:00.005Z",
  });
  expect(told(EXAMPLES.submitted[1] as Event)).toMatchObject({ ttl_seconds: 1.5, max_duration_seconds: 9 });
  expect(told(EXAMPLES.ended[0] as Event)).toMatchObject({
    end_reason: "released",
    ended_at: "2027-01-15T08:00:00.007Z",
    reclaiming_gpu_uuids: ["GPU-a"],
  });
  expect(told(EXAMPLES["gpu-cordoned"][0] as Event)).toMatchObject({
    gpu_uuid: "GPU-a",
    by: "ops",
    reason: ACT.reason,
  });
  expect(told(EXAMPLES["gpu-seen"][0] as Event)).toMatchObject({ gpu_uuid: "GPU-a", gpu_id: 3, memory_total: 15_360 });
});

test("nobody's workload, webhook, wishes or principal are told, and a body is one line", () => {
  for (const event of examples) {
    const { body } = tell(event);
    expect(body).not.toContain("SECRET");
    expect(body).not.toMatch(/[\r\n]/);
  }
});

test("an event that a newer version has written is told without what is in it", () => {
  const unknown = { type: "foretold", secret: "SECRET" } as unknown as Event;
  const body = '{"at":"2027-01-15T08:00:00.007Z"}';
  expect(tell(unknown)).toEqual({ seq: 7, type: "foretold", body, owner: null });
});

test("no event has a name that an EventSource or the stream has a meaning of its own for", () => {
  for (const reserved of ["open", "error", "message", "reset"]) expect(EVENT_BODIES).not.toHaveProperty(reserved);
});

test("what others chose, a process's name or an admin's reason, is shown harmlessly", () => {
  const hostile = "a\u001b[2J\nb\u202e";
  const shown = "a\\u{1b}[2J\\u{a}b\\u{202e}";
  const told = (event: Event) => JSON.parse(tell(event).body);
  for (const event of examples) {
    const { body } = tell({ ...event, ...("reason" in event ? { reason: hostile } : {}) } as Event);
    expect(body, event.type).not.toMatch(/\\u001b|\\n|\u202e|\\u202e/);
    if ("reason" in event && "reason" in JSON.parse(body)) expect(JSON.parse(body).reason, event.type).toBe(shown);
  }
  const [seen] = EXAMPLES["gpu-seen"];
  expect(told({ ...seen, gpu: { ...(seen as never as { gpu: object }).gpu, name: hostile } } as Event).name).toBe(
    shown,
  );
  const [ended] = EXAMPLES.ended as unknown as [Extract<Event, { type: "ended" }>];
  expect(told({ ...ended, outcome: { ...ended.outcome, detail: hostile } }).end_detail).toBe(shown);
});
