/** Xid errors: which keep a GPU from leases, for how long, and what answers them. */
import { expect, test } from "vitest";
import { emptyHost } from "../../../../src/core/host/changes.ts";
import { blockOf, isolationOf } from "../../../../src/core/host/condition.ts";
import { evolve } from "../../../../src/core/host/evolve.ts";
import type { Gpu } from "../../../../src/core/model/gpu.ts";
import type { KernelReport, XidReport } from "../../../../src/core/readings/xid.ts";
import { effectOf } from "../../../../src/core/readings/xid.ts";
import { ADMIN, h100, SimulatedHost, seconds } from "../../../simulation/simulated-host.ts";

const ADDRESSES = { "GPU-a": "00000000:3B:00.0", "GPU-b": "00000000:86:00.0", "GPU-c": "00001580:00:00.0" };
const DEVICES = { "GPU-a": "0:3b:0", "GPU-b": "0:86:0", "GPU-c": "1580:0:0" };

function newHost(...names: (keyof typeof ADDRESSES)[]): SimulatedHost {
  return new SimulatedHost(names.map((name) => h100(name, { pciBusId: ADDRESSES[name] })));
}

/** Error `xid` of GPU-a, as record `sequence`. */
function xid(number: number, sequence: number, over: Partial<XidReport> = {}): XidReport {
  const device = DEVICES["GPU-a"];
  return { kind: "xid", xid: number, sequence, device, count: 1, at: 1_000, fatal: false, action: null, ...over };
}

function hear(host: SimulatedHost, ...reports: KernelReport[]) {
  return host.do({ type: "read-kernel-log", news: { reports, problem: null, missed: 0 } });
}

const gpuOf = (host: SimulatedHost, name = "GPU-a") => host.state.gpus.get(name) as Gpu;
const block = (host: SimulatedHost, name = "GPU-a") => blockOf(gpuOf(host, name), host.state, host.now);

test("errors after which NVIDIA wants a reset exclude; those of a program, and notes, do not", () => {
  const of = (effect: string) =>
    Array.from({ length: 200 }, (_, number) => number).filter(
      (number) => effectOf({ xid: number, fatal: false, action: null }) === effect,
    );
  expect(of("exclude")).toEqual([46, 48, 62, 64, 79, 95, 109, 110, 119, 120, 136, 140, 143, 151, 155, 156, 158, 159]);
  expect(of("isolate")).toEqual([74]);
  expect(of("answered")).toEqual([]);
  for (const number of [144, 145, 146, 147, 148, 149, 150]) {
    expect(effectOf({ xid: number, fatal: true, action: null })).toBe("exclude");
  }
  expect(effectOf({ xid: 13, fatal: true, action: 2 })).toBe("note");
});

test("error 154 says itself what must be done", () => {
  const effects = [null, 0, 1, 2, 3, 4, 5, 6, 7, 9].map((action) => effectOf({ xid: 154, fatal: false, action }));
  expect(effects).toEqual(["note", "answered", "exclude", "exclude", "isolate", ...Array(5).fill("exclude")]);
});

test.each([46, 48, 64, 79, 95, 119, 120])("error %i quarantines the GPU at its address, and no other", (number) => {
  const host = newHost("GPU-a", "GPU-b");
  const events = hear(host, xid(number, 10));
  expect(events).toMatchObject([
    { type: "gpu-faulted", uuid: "GPU-a", allocationId: null, scope: "all", sequence: 10 },
  ]);
  expect(block(host)).toMatchObject({ block: "quarantined", since: host.now });
  expect(block(host)?.detail).toMatch(new RegExp(`^Xid ${number}: `));
  expect(block(host, "GPU-b")).toBeNull();
  expect(host.whyQueued(host.submit({ requiredGpus: 2 }))).toMatchObject({ "GPU-a": "quarantined" });
});

test.each([13, 31, 43, 45, 63, 69, 92, 94, 999])("error %i is counted, and keeps nobody away", (number) => {
  const host = newHost("GPU-a");
  expect(hear(host, xid(number, 10, { count: 3 }))).toEqual([]);
  expect(hear(host, xid(number, 12, { at: 2_000 }))).toEqual([]);
  expect(block(host)).toBeNull();
  expect(host.state.sight.xids.get("GPU-a")?.get(number)).toEqual({ count: 4, lastAt: 2_000, sequence: 12 });
});

test("an NVLink error keeps a GPU from requests of several only, until something graver keeps it from all", () => {
  const host = newHost("GPU-a", "GPU-b");
  expect(hear(host, xid(74, 10))).toMatchObject([{ scope: "several" }]);
  expect(block(host)).toBeNull();
  expect(isolationOf(gpuOf(host), host.state)?.detail).toBe("Xid 74: NVLink error");
  expect(host.whyQueued(host.submit({ requiredGpus: 2 }))).toMatchObject({ "GPU-a": "isolated" });
  expect(hear(host, xid(74, 11), xid(48, 12))).toMatchObject([{ scope: "all", sequence: 12 }]);
  expect(block(host)?.block).toBe("quarantined");
  expect(hear(host, xid(74, 13))).toEqual([]);
  expect(block(host)?.block).toBe("quarantined");
});

test("however often it comes, an error is one event", () => {
  const host = newHost("GPU-a");
  expect(hear(host, xid(48, 10, { count: 5_000 }))).toHaveLength(1);
  for (let sequence = 11; sequence < 100; sequence++) expect(hear(host, xid(48, sequence))).toEqual([]);
});

test("a lease on the GPU goes on, the event names it, and the GPU is not granted after it", () => {
  const host = newHost("GPU-a");
  const id = host.submit();
  expect(hear(host, xid(79, 10))).toMatchObject([{ allocationId: id }]);
  expect(host.allocation(id).status).toBe("leased");
  host.release(id);
  expect(host.whyQueued(host.submit())).toEqual({ "GPU-a": "quarantined" });
});

test("good readings do not answer an error", () => {
  const host = newHost("GPU-a");
  hear(host, xid(48, 10));
  host.advance(seconds(600));
  expect(block(host)?.block).toBe("quarantined");
});

test("an admin answers what has come so far; the same error once more counts anew", () => {
  const host = newHost("GPU-a");
  const waiting = host.submit({ requiredGpus: 1 });
  host.release(waiting);
  hear(host, xid(48, 10), xid(13, 15));
  host.do({ type: "clear-quarantine", gpu: "GPU-a", reason: "reset by hand", actor: ADMIN });
  expect(gpuOf(host)).toMatchObject({ fault: null, answeredUpTo: 15 });
  expect(host.gpusOf(host.submit())).toEqual(["GPU-a"]);
  expect(hear(host, xid(48, 10), xid(48, 15))).toEqual([]);
  expect(hear(host, xid(48, 16))).toHaveLength(1);
});

test.each([
  { kind: "init-failed", device: DEVICES["GPU-a"], at: 1_000 },
  { kind: "switch-fault", device: "0:c0:0", sxid: 11_012 },
] as const)("what an admin has answered does not come back with the next reading of the log: $kind", (report) => {
  const host = newHost("GPU-a");
  expect(hear(host, { ...report, sequence: 10 })).toHaveLength(1);
  host.do({ type: "clear-quarantine", gpu: "GPU-a", reason: "reset by hand", actor: ADMIN });
  expect(hear(host, { ...report, sequence: 10 })).toEqual([]);
  expect(hear(host, { ...report, sequence: 11 })).toHaveLength(1);
});

test("clearing an error does not clear what an ended lease has left, unless that was quarantined, too", () => {
  const host = newHost("GPU-a");
  const id = host.submit();
  hear(host, xid(48, 10));
  host.do({ type: "clear-quarantine", gpu: "GPU-a", reason: "known", actor: ADMIN });
  expect(gpuOf(host)).toMatchObject({ fault: null, hold: { kind: "leased", allocationId: id } });
});

test("a driver that was loaded anew answers what came before it, on all GPUs, and nothing after it", () => {
  const host = newHost("GPU-a", "GPU-b");
  const b = { device: DEVICES["GPU-b"] };
  expect(hear(host, xid(48, 10), xid(95, 30, b), { kind: "driver-loaded", sequence: 20 })).toMatchObject([
    { type: "gpu-faulted", uuid: "GPU-a" },
    { type: "gpu-fault-answered", uuid: "GPU-a", answeredUpTo: 20 },
    { type: "gpu-faulted", uuid: "GPU-b" },
  ]);
  expect(block(host)).toBeNull();
  expect(block(host, "GPU-b")?.block).toBe("quarantined");
});

test("the driver's word that nothing is wanted any more answers, as after a reset", () => {
  const host = newHost("GPU-a");
  hear(host, xid(119, 10), xid(154, 11, { action: 1 }));
  expect(block(host)?.block).toBe("quarantined");
  expect(hear(host, xid(154, 20, { action: 0 }))).toMatchObject([{ type: "gpu-fault-answered", answeredUpTo: 20 }]);
  expect(block(host)).toBeNull();
});

test("a restart in the same boot keeps the error, and what is read again is not taken for new", () => {
  const host = newHost("GPU-a", "GPU-b");
  hear(host, xid(48, 10), xid(48, 12, { device: DEVICES["GPU-b"] }));
  host.do({ type: "clear-quarantine", gpu: "GPU-b", reason: "reset", actor: ADMIN });
  host.state = host.log.reduce(evolve, emptyHost(host.state.policy));
  host.do({ type: "resume", bootId: "boot-1", fencingFloor: host.now });
  host.observe();
  expect(block(host)?.block).toBe("quarantined");
  expect(block(host, "GPU-b")).toBeNull();
  const boot: KernelReport = { kind: "driver-loaded", sequence: 3 };
  expect(hear(host, boot, xid(48, 10), xid(48, 12, { device: DEVICES["GPU-b"] }))).toEqual([]);
});

test("a new boot answers everything, and its records are numbered anew", () => {
  const host = newHost("GPU-a", "GPU-b");
  hear(host, xid(48, 1_000));
  host.do({ type: "clear-quarantine", gpu: "GPU-a", reason: "reset", actor: ADMIN });
  hear(host, xid(79, 2_000, { device: DEVICES["GPU-b"] }));
  const events = host.do({ type: "resume", bootId: "boot-2", fencingFloor: host.now });
  expect(events.filter(({ type }) => type === "gpu-fault-answered")).toHaveLength(2);
  host.observe();
  expect(block(host, "GPU-b")).toBeNull();
  expect(hear(host, xid(48, 7))).toHaveLength(1);
});

test("errors of a device that is no GPU of the inventory, or of two that were there in turn, are nobody's", () => {
  const host = newHost("GPU-a");
  expect(hear(host, xid(79, 10, { device: "0:1:0" }))).toEqual([]);
  expect(host.state.sight.xids.size).toBe(0);
  (host.devices[0] as { present: boolean }).present = false;
  host.devices.push({ reading: h100("GPU-new", { pciBusId: ADDRESSES["GPU-a"], index: 0 }), present: true });
  host.observe();
  host.advance(1);
  expect(hear(host, xid(79, 11, { at: host.now }))).toMatchObject([{ uuid: "GPU-new" }]);
  (host.devices[1] as { present: boolean }).present = false;
  host.observe();
  expect(hear(host, xid(79, 12))).toEqual([]);
});

test("PCI domains of eight digits are told apart", () => {
  const host = newHost("GPU-a", "GPU-c");
  expect(hear(host, xid(79, 10, { device: DEVICES["GPU-c"] }))).toMatchObject([{ uuid: "GPU-c" }]);
});

test("that the log cannot be read is known, and readings do not make it forgotten", () => {
  const host = newHost("GPU-a");
  host.do({ type: "read-kernel-log", news: { reports: [], problem: "EPERM", missed: 2 } });
  host.observe();
  expect(host.state.sight.kernelLog).toEqual({ problem: "EPERM", missed: 2, sequence: 0 });
  hear(host, xid(31, 5));
  host.observe();
  expect(host.state.sight.kernelLog).toEqual({ problem: null, missed: 0, sequence: 5 });
  expect(host.state.sight.xids.get("GPU-a")?.get(31)?.count).toBe(1);
});

test("a GPU that was replaced keeps its errors: the one in its slot is free, also after a restart of the daemon", () => {
  const host = newHost("GPU-a", "GPU-b");
  hear(host, xid(79, 10, { at: host.now }));
  host.devices.shift();
  host.advance(1_000);
  host.devices.push({ reading: h100("GPU-new", { pciBusId: ADDRESSES["GPU-a"], index: 0 }), present: true });
  host.observe();
  expect(block(host, "GPU-new")).toBeNull();
  // The log that is read once more from its beginning says nothing against it.
  expect(hear(host, xid(79, 10, { at: host.now - 1_000 }), xid(154, 12, { at: host.now - 900, action: 2 }))).toEqual([
    expect.objectContaining({ type: "gpu-fault-answered", uuid: "GPU-new", answeredUpTo: 12 }),
  ]);
  expect(block(host, "GPU-new")).toBeNull();
  expect(host.state.sight.xids.get("GPU-new")).toBeUndefined();
  host.advance(1_000);
  expect(hear(host, xid(48, 13, { at: host.now }))).toMatchObject([{ uuid: "GPU-new" }]);
});

test("a GPU that was replaced is counted until a boot, or an admin, says that it does not come back", () => {
  const host = newHost("GPU-a", "GPU-b");
  hear(host, xid(79, 10));
  host.devices.shift();
  host.devices.push({ reading: h100("GPU-new", { pciBusId: ADDRESSES["GPU-a"], index: 0 }), present: true });
  for (let reading = 0; reading < 10; reading++) host.observe();
  expect(gpuOf(host)).toMatchObject({ uuid: "GPU-a" });
  host.do({ type: "resume", bootId: "boot-1", fencingFloor: host.now });
  host.do({ type: "resume", bootId: "boot-2", fencingFloor: host.now });
  host.observe();
  host.observe();
  expect(host.state.gpus.has("GPU-a")).toBe(true);
  host.observe();
  expect(host.state.gpus.values().map(({ uuid }) => uuid)).toEqual(["GPU-b", "GPU-new"]);
  expect(block(host, "GPU-new")).toBeNull();
  expect(host.state.sight.unseenSinceBoot).toEqual(new Set());
  expect([...host.state.sight.newcomers.keys()]).toEqual(["GPU-new"]);
  // And so it is with the one that came in its place.
  host.devices.pop();
  host.devices.push({ reading: h100("GPU-third", { pciBusId: ADDRESSES["GPU-a"], index: 0 }), present: true });
  host.do({ type: "resume", bootId: "boot-3", fencingFloor: host.now });
  for (let reading = 0; reading < 3; reading++) host.observe();
  expect(host.state.gpus.values().map(({ uuid }) => uuid)).toEqual(["GPU-b", "GPU-third"]);
  expect([...host.state.sight.newcomers.keys()]).toEqual(["GPU-third"]);
});
