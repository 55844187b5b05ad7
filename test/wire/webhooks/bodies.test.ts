/** The words in which an allocation is told, to callers and to webhooks. */
import { expect, test } from "vitest";
import type { Event } from "../../../src/core/host/events.ts";
import { endedRecord } from "../../../src/core/host/evolve.ts";
import { indexNow } from "../../../src/core/host/indices.ts";
import { END_REASONS, type EndReason } from "../../../src/core/model/allocation.ts";
import type { AllocationId } from "../../../src/core/model/ids.ts";
import { allocationBody, grantedBody } from "../../../src/wire/allocations/bodies.ts";
import { bodyAsSent, notificationOf } from "../../../src/wire/webhooks/bodies.ts";
import { h100, minutes, SimulatedHost, seconds } from "../../simulation/simulated-host.ts";

/** The second of two GPUs, granted from the queue after 90 s. */
function offered() {
  const host = new SimulatedHost([h100("GPU-a"), h100("GPU-b")]);
  host.submit({ preferredGpus: ["GPU-a"] });
  const holder = host.submit();
  const id = host.submit({ priority: 7, ttlMs: minutes(10), minMemoryMib: 20_000 });
  const submittedAt = host.now;
  host.advance(seconds(90));
  host.release(holder);
  const event = host.log.findLast((one) => one.type === "granted" && one.id === id) as Event;
  return { host, id, event, submittedAt };
}

const AT_GRANT = (uuid: string) => ["GPU-a", "GPU-b"].indexOf(uuid);

const told = (event: Event, allocation: Parameters<typeof notificationOf>[1]) =>
  notificationOf(event, allocation, AT_GRANT, () => "msg_1", 5);

test("a grant from the queue is told with the reference service's body", () => {
  const { host, id, event, submittedAt } = offered();
  const notification = told(event, host.allocation(id));
  expect(notification).toMatchObject({
    deliveryId: "msg_1",
    allocationId: id,
    status: "allocated",
    url: "http://127.0.0.1:9/hook",
    createdAt: 5,
  });
  expect(JSON.parse(notification?.body ?? "null")).toMatchObject({
    status: "allocated",
    request_id: id,
    allocation: {
      id,
      service_name: "svc",
      gpu_ids: [1],
      gpu_uuids: ["GPU-b"],
      allocated_at: new Date(host.now).toISOString(),
      expires_at: new Date(host.now + minutes(10)).toISOString(),
      fencing_token: host.lease(id)?.fencingToken,
      priority: 7,
    },
    submitted_at: new Date(submittedAt).toISOString(),
    allocated_at: new Date(host.now).toISOString(),
    wait_time_seconds: 90,
  });
});

test("a grant at once is told by its answer alone, and by a webhook too once its client has hung up", () => {
  const host = new SimulatedHost([h100("GPU-a")]);
  const id = host.submit();
  const granted = host.log.at(-1) as Event;
  expect(granted.type).toBe("granted");
  expect(told(granted, host.allocation(id))).toBeNull();
  host.hangUp(id);
  expect(told(host.log.at(-1) as Event, host.allocation(id))?.status).toBe("allocated");
});

test("a lease that goes idle is told so, with since when; that it is used again is not", () => {
  const host = new SimulatedHost([h100("GPU-a")], { idleAfterMs: minutes(1) });
  const id = host.submit();
  const since = new Date(host.now).toISOString();
  host.advance(minutes(1));
  const idle = told(host.log.at(-1) as Event, host.allocation(id));
  expect(idle?.status).toBe("idle");
  expect(JSON.parse(idle?.body ?? "null")).toMatchObject({
    status: "idle",
    request_id: id,
    allocation: { id, status: "leased", idle_since: since, gpu_uuids: ["GPU-a"] },
  });
  host.gpu("GPU-a", { memoryUsedMib: 9_000 });
  host.advance(seconds(5));
  expect(host.log.at(-1)?.type).toBe("went-busy");
  expect(told(host.log.at(-1) as Event, host.allocation(id))).toBeNull();
  expect(allocationBody(host.allocation(id), indexNow(host.state))).not.toHaveProperty("idle_since");
});

test("a webhook has the indices of when it is sent, and of an ended lease those of its grant", () => {
  const { host, id, event } = offered();
  const stored = told(event, host.allocation(id))?.body ?? "";
  const sent = (indexOf: (uuid: string) => number | null) => JSON.parse(bodyAsSent(stored, indexOf));
  expect(sent(AT_GRANT)).toEqual(JSON.parse(stored));
  expect(sent(() => 7).allocation).toMatchObject({
    gpu_ids: [7],
    devices: [{ index: 7, uuid: "GPU-b" }],
    env: { CUDA_VISIBLE_DEVICES: "GPU-b", GPU_ORCHESTRATOR_GPU_INDICES: "7" },
  });
  const lost = sent(() => null);
  expect(lost.allocation).toMatchObject({ gpu_ids: [], lost_gpus: ["GPU-b"], gpu_uuids: ["GPU-b"] });
  expect(JSON.parse(bodyAsSent(JSON.stringify(lost), AT_GRANT))).toEqual(JSON.parse(stored));
  const outcome = { reason: "expired", at: host.now, detail: null } as const;
  const end = { type: "ended", id, outcome, verify: [] } as const;
  const over = told(end, endedRecord(host.state, end))?.body ?? "";
  expect(bodyAsSent(over, () => 7)).toBe(over);
  const foreign = JSON.stringify({ status: "foreign_use", gpu: { id: 0, uuid: "GPU-b", name: "x" } });
  expect(JSON.parse(bodyAsSent(foreign, () => 7)).gpu).toEqual({ id: 7, uuid: "GPU-b", name: "x" });
});

test("without a webhook nothing is told", () => {
  const host = new SimulatedHost([h100("GPU-a")]);
  const holder = host.submit();
  const id = host.submit({ webhookUrl: null });
  host.release(holder);
  expect(host.allocation(id).status).toBe("offered");
  expect(told(host.log.at(-1) as Event, host.allocation(id))).toBeNull();
});

/** Contract, section 4, "Webhooks"; a release is its client's own doing. */
const TOLD_AS: Record<EndReason, string | undefined> = {
  released: undefined,
  cancelled: "cancelled",
  expired: "expired",
  max_duration: "expired",
  timed_out: "expired",
  abandoned: "abandoned",
  unclaimed: "unclaimed",
  revoked: "revoked",
  preempted: "revoked",
  rebooted: "revoked",
  idle: "revoked",
  "process-gone": "expired",
};

test.each(END_REASONS)("an end as %s is told by the right status, with its reason", (reason) => {
  const { host, id } = offered();
  const outcome = { reason, at: host.now, detail: null };
  const event = { type: "ended", id, outcome, verify: [] } as const;
  const notification = told(event, endedRecord(host.state, event));
  expect(notification?.status).toBe(TOLD_AS[reason]);
  if (notification !== null) {
    expect(JSON.parse(notification.body)).toMatchObject({ request_id: id, reason, allocation: { end_reason: reason } });
  }
});

const held = (host: SimulatedHost, id: AllocationId) => {
  const allocation = host.allocation(id);
  if (allocation.status !== "offered" && allocation.status !== "leased") throw new Error(`${id} holds nothing`);
  return allocation;
};

test("a grant names its GPUs by index and UUID, and carries the token that it is held under", () => {
  const { host, id } = offered();
  const body = grantedBody(held(host, id), indexNow(host.state));
  expect(body).toMatchObject({
    status: "allocated",
    id,
    allocation_id: id,
    request_id: id,
    gpu_ids: [1],
    gpu_uuids: ["GPU-b"],
    devices: [{ index: 1, uuid: "GPU-b" }],
    env: { CUDA_VISIBLE_DEVICES: "GPU-b", CUDA_DEVICE_ORDER: "PCI_BUS_ID", GPU_ORCHESTRATOR_GPU_INDICES: "1" },
    fencing_token: host.lease(id)?.fencingToken,
    ttl_seconds: 600,
    max_duration_seconds: null,
    memory_mb: 20_000,
  });
});

/** A host where GPU-a and GPU-b are beside different sockets. */
function twoSockets() {
  const host = new SimulatedHost([h100("GPU-a"), h100("GPU-b"), h100("GPU-c")]);
  host.topology = {
    gpus: [
      { uuid: "GPU-a", numaNodes: [1], cpuAffinity: "32-63,96-127" },
      { uuid: "GPU-b", numaNodes: [0], cpuAffinity: "0-31,64-95" },
      { uuid: "GPU-c", numaNodes: [0], cpuAffinity: null },
    ],
    links: [
      [null, "SYS", "SYS"],
      ["SYS", null, "NODE"],
      ["SYS", "NODE", null],
    ],
  };
  host.observe();
  return host;
}

test("a grant names the NUMA nodes and the CPUs that its GPUs are beside, of each and of all together", () => {
  const host = twoSockets();
  const id = host.submit({ requiredGpus: 2, preferredGpus: ["GPU-a", "GPU-b"] });
  const expected = {
    numa_nodes: [0, 1],
    cpu_affinity: "0-127",
    devices: [
      { uuid: "GPU-a", numa_nodes: [1], cpu_affinity: "32-63,96-127" },
      { uuid: "GPU-b", numa_nodes: [0], cpu_affinity: "0-31,64-95" },
    ],
  };
  expect(grantedBody(held(host, id), indexNow(host.state))).toMatchObject(expected);
  expect(allocationBody(host.allocation(id), indexNow(host.state))).toMatchObject(expected);
});

test("what is not known of one GPU is not said of its lease, and without a topology nothing is", () => {
  const host = twoSockets();
  const id = host.submit({ requiredGpus: 2, preferredGpus: ["GPU-b", "GPU-c"] });
  expect(grantedBody(held(host, id), indexNow(host.state))).toMatchObject({ numa_nodes: [0], cpu_affinity: null });
  const blind = new SimulatedHost([h100("GPU-a")]);
  expect(grantedBody(held(blind, blind.submit()), indexNow(blind.state))).toMatchObject({
    numa_nodes: null,
    cpu_affinity: null,
    devices: [{ numa_nodes: null, cpu_affinity: null }],
  });
});

test("what a client was told of its GPUs' place stays, whatever is learned later", () => {
  const host = twoSockets();
  const id = host.submit({ preferredGpus: ["GPU-b"] });
  host.topology = null;
  host.observe();
  expect(allocationBody(host.allocation(id), indexNow(host.state))).toMatchObject({
    numa_nodes: [0],
    cpu_affinity: "0-31,64-95",
  });
  const other = host.submit({ preferredGpus: ["GPU-a"] });
  host.topology = twoSockets().topology;
  host.observe();
  expect(allocationBody(host.allocation(other), indexNow(host.state))).toMatchObject({
    numa_nodes: null,
    cpu_affinity: null,
  });
  host.release(id);
  expect(allocationBody(host.allocation(id), indexNow(host.state))).toMatchObject({
    status: "ended",
    cpu_affinity: "0-31,64-95",
  });
});

test("an offered record says until when it can be claimed, an ended one what it held and why it ended", () => {
  const { host, id } = offered();
  const claimBy = new Date(host.now + seconds(60)).toISOString();
  expect(allocationBody(host.allocation(id), indexNow(host.state))).toMatchObject({
    status: "offered",
    gpu_ids: [1],
    claim_by: claimBy,
  });
  host.advance(seconds(60));
  const ended = allocationBody(host.allocation(id), indexNow(host.state));
  expect(ended).toMatchObject({ status: "ended", gpu_ids: [1], ended_at: claimBy, end_reason: "unclaimed" });
  expect(ended).not.toHaveProperty("claim_by");
});
