/** `/gpu/reservations`, as its callers see it. */
import { expect, test } from "vitest";
import { apiKey, startDaemon } from "../daemon.ts";

const HOUR_MS = 3_600_000;
const AUTH = { settings: { auth: { enabled: true, headerName: "X-API-Key" } } } as const;
const KEYS = [
  apiKey("key-ann", "ann", "allocate"),
  apiKey("key-bob", "bob", "allocate"),
  apiKey("key-root", "root", "admin"),
];

async function daemonWithKeys() {
  const daemon = await startDaemon({ ...AUTH, keys: () => KEYS });
  const as = (key: string) => async (method: string, path: string, body?: object) =>
    daemon.call(method, path, { headers: { "X-API-Key": `key-${key}` }, ...(body === undefined ? {} : { body }) });
  return { daemon, ann: as("ann"), bob: as("bob"), root: as("root") };
}

const soon = (ms: number) => new Date(Date.now() + ms).toISOString();

test("a reservation is listed for all, with its principal for itself and admins, and keeps others waiting", async () => {
  const { ann, bob, root } = await daemonWithKeys();
  const made = await ann("POST", "/gpu/reservations", { gpus: 2, from: soon(HOUR_MS), duration: "2h" });
  expect(made.status).toBe(201);
  expect(made.json).toMatchObject({ gpus: 2, gpu_uuids: null, principal: "ann", open: false, service_name: null });
  expect(Date.parse(made.json.to) - Date.parse(made.json.from)).toBe(2 * HOUR_MS);
  const listed = async (of: typeof ann) => (await of("GET", "/gpu/reservations")).json.reservations;
  expect(await listed(root)).toEqual([made.json]);
  const [seen] = await listed(bob);
  expect(seen).toMatchObject({ id: made.json.id, gpus: 2 });
  expect(seen).not.toHaveProperty("principal");
  const waiting = await bob("POST", "/gpu/allocate", {
    service_name: "b",
    required_gpus: 2,
    webhook_url: "http://127.0.0.1/b",
  });
  expect([waiting.status, waiting.json.reason]).toEqual([202, expect.stringContaining(made.json.id)]);
});

test("the shortest is a minute, and is one by the listing too", async () => {
  const { ann } = await daemonWithKeys();
  const { status, json } = await ann("POST", "/gpu/reservations", { gpus: 1, duration: "1m" });
  expect([status, json.open, Date.parse(json.to) - Date.parse(json.from)]).toEqual([201, true, 60_000]);
  expect((await ann("POST", "/gpu/reservations", { gpus: 1, duration: "59s" })).json.detail).toContain("a minute");
  const backwards = { gpus: 1, from: soon(2 * HOUR_MS), to: soon(HOUR_MS) };
  expect((await ann("POST", "/gpu/reservations", backwards)).json.detail).toContain("ends before it begins");
});

test("it is given up by its principal or an admin, and by nobody else, once", async () => {
  const { ann, bob } = await daemonWithKeys();
  const { json } = await ann("POST", "/gpu/reservations", { gpus: [0], to: soon(HOUR_MS) });
  expect(json).toMatchObject({ gpus: null, gpu_uuids: [expect.any(String)], open: true });
  expect((await bob("DELETE", `/gpu/reservations/${json.id}`)).json).toMatchObject({ code: "not-owner" });
  expect((await ann("DELETE", `/gpu/reservations/${json.id}`)).json).toMatchObject({ id: json.id });
  expect((await ann("DELETE", `/gpu/reservations/${json.id}`)).json).toMatchObject({ code: "reservation-not-found" });
  expect((await ann("GET", "/gpu/reservations")).json.reservations).toEqual([]);
});

test("what cannot hold, is for somebody else or has no end is refused by a code, and changes nothing", async () => {
  const { daemon, ann, root } = await daemonWithKeys();
  const refused = async (body: object, of = ann) => (await of("POST", "/gpu/reservations", body)).json;
  expect(await refused({ gpus: 3, duration: "1h" })).toMatchObject({ code: "reservation-refused", status: 409 });
  expect((await refused({ gpus: 3, duration: "1h" })).detail).toContain("1 of 3 GPUs are too many then");
  expect(await refused({ gpus: 1, duration: "1h", principal: "bob" })).toMatchObject({ code: "not-owner" });
  expect(await refused({ gpus: ["9"], duration: "1h" })).toMatchObject({ code: "gpu-not-found" });
  expect(await refused({ gpus: 1 })).toMatchObject({ code: "validation-failed" });
  expect(await refused({ gpus: 1, duration: "1h", to: soon(HOUR_MS) })).toMatchObject({ code: "validation-failed" });
  expect(daemon.scheduler.state.bookings).toEqual([]);
  expect(await refused({ gpus: 1, duration: "1h", principal: "bob" }, root)).toMatchObject({ principal: "bob" });
});

test("without keys everybody is one principal: one is for a service, or refused", async () => {
  const daemon = await startDaemon();
  const reserve = async (body: object) => daemon.call("POST", "/gpu/reservations", { body });
  const { json } = await reserve({ gpus: 2, duration: "1h" });
  expect([json.code, json.detail]).toEqual(["reservation-refused", expect.stringContaining("name the service_name")]);
  expect((await reserve({ gpus: 2, duration: "1h", service_name: "demo" })).status).toBe(201);
  expect((await daemon.allocate({ service_name: "other", webhook_url: "http://127.0.0.1/b" })).status).toBe(202);
  expect((await daemon.allocate({ service_name: "demo" })).status).toBe(200);
});
