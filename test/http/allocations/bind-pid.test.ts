/** `bind_pid`, as callers see it. */
import { expect, test } from "vitest";
import type { Processes } from "../../../src/ports/processes.ts";
import { startDaemon } from "../daemon.ts";

const processes: Processes = { find: (pid) => (pid === 50 ? { pid, startTicks: 1 } : null) };

test("a lease is bound to the process that workload_data names, and its record says so", async () => {
  const daemon = await startDaemon({ processes });
  const { json } = await daemon.allocate({ bind_pid: true, workload_data: { pid: 50 } });
  expect(json).toMatchObject({ status: "allocated", bind_pid: true });
  await daemon.scheduler.processGone(json.id);
  const { json: ended } = await daemon.call("GET", `/gpu/allocations/${json.id}`);
  expect(ended).toMatchObject({ status: "ended", end_reason: "process-gone", end_detail: "process 50 has ended" });
  const { json: other } = await daemon.allocate({ workload_data: { pid: 50 } });
  expect(other).not.toHaveProperty("bind_pid");
});

test("a process that is not seen is refused, and so is a request that names none", async () => {
  const daemon = await startDaemon({ processes });
  const unseen = await daemon.allocate({ bind_pid: true, workload_data: { pid: 51 } });
  expect([unseen.status, unseen.json.code]).toEqual([422, "pid-not-visible"]);
  const none = await daemon.allocate({ bind_pid: true });
  expect(none.json.errors).toEqual([{ path: "workload_data.pid", message: expect.stringContaining("bind_pid needs") }]);
});

test("a process of this host is not bound to from elsewhere, where its number is another's", async () => {
  const daemon = await startDaemon({ processes, settings: { trustedProxies: ["127.0.0.1"] } });
  const from = (address: string) =>
    daemon.allocate({ bind_pid: true, workload_data: { pid: 50 } }, { "X-Forwarded-For": address });
  for (const address of ["10.0.0.7", "2001:db8::1"]) {
    const { status, json } = await from(address);
    expect([status, json.code]).toEqual([422, "pid-not-visible"]);
  }
  expect((await from("::1")).json).toMatchObject({ status: "allocated", bind_pid: true });
  expect((await from("127.8.0.1")).json).toMatchObject({ status: "allocated", bind_pid: true });
});

test("a process that began at another time than the caller says is another: the caller is in a container", async () => {
  const daemon = await startDaemon({ processes });
  const bound = (ticks: unknown) =>
    daemon.allocate({ bind_pid: true, workload_data: { pid: 50, pid_start_ticks: ticks } });
  for (const ticks of [2, "1"]) {
    const { status, json } = await bound(ticks);
    expect([status, json.code]).toEqual([422, "pid-not-visible"]);
  }
  for (const ticks of [1, null])
    expect((await bound(ticks)).json).toMatchObject({ status: "allocated", bind_pid: true });
});

test("a repeat under one key is answered, whatever has become of the process", async () => {
  let isThere = true;
  const daemon = await startDaemon({ processes: { find: (pid) => (isThere ? processes.find(pid, null) : null) } });
  const body = { bind_pid: true, workload_data: { pid: 50 } };
  const { json } = await daemon.allocate(body, { "Idempotency-Key": "k" });
  isThere = false;
  expect((await daemon.allocate(body, { "Idempotency-Key": "k" })).json.id).toBe(json.id);
});
