/** A service that asks for GPUs for others, with a key that says that it may. */
import { expect, test } from "vitest";
import { NO_QUOTA, NO_QUOTAS } from "../../simulation/simulated-host.ts";
import { apiKey, startDaemon } from "../daemon.ts";

const as = (key: string) => ({ "x-api-key": key });

async function start(policy = {}) {
  const keys = [
    { ...apiKey("key-of-broker", "broker"), delegate: true },
    apiKey("key-of-ann", "ann"),
    apiKey("key-of-bob", "bob"),
    apiKey("key-of-root", "root", "admin"),
  ];
  const settings = { auth: { enabled: true, headerName: "X-API-Key" } };
  return startDaemon({ settings, keys: () => keys, policy });
}

test("what a delegate asks for on somebody's behalf is that principal's, who alone sees into it and gives it back", async () => {
  const daemon = await start();
  const body = { on_behalf_of: "ann", workload_data: { note: "private" }, ttl: "1h" };
  const { status, json: lease } = await daemon.allocate(body, as("key-of-broker"));
  expect(status).toBe(200);
  const path = `/gpu/allocations/${lease.id}`;
  const seen = async (key: string) => (await daemon.call("GET", path, { headers: as(key) })).json;
  expect(await seen("key-of-ann")).toMatchObject({ principal: "ann", workload_data: { note: "private" } });
  expect(await seen("key-of-bob")).not.toHaveProperty("workload_data");
  expect((await daemon.call("DELETE", path, { headers: as("key-of-bob") })).status).toBe(403);
  expect((await daemon.call("DELETE", path, { headers: as("key-of-ann") })).status).toBe(200);
});

test("only a key that says so may, an admin's does not", async () => {
  const daemon = await start();
  for (const key of ["key-of-bob", "key-of-root"]) {
    for (const path of ["/gpu/allocate", "/gpu/plan"]) {
      const body = { service_name: "svc", on_behalf_of: "ann" };
      const { status, json } = await daemon.call("POST", path, { body, headers: as(key) });
      expect([status, json.code, json.detail]).toEqual([
        403,
        "role-too-low",
        "on_behalf_of needs a key with delegate: true",
      ]);
    }
  }
  expect((await daemon.allocate({ on_behalf_of: "bob" }, as("key-of-bob"))).status).toBe(200);
  expect((await daemon.allocate({ on_behalf_of: " " }, as("key-of-broker"))).status).toBe(422);
});

test("a delegate's reads claim what was offered, and its renewals keep a lease alive, as the owner's do", async () => {
  const daemon = await start();
  const held = await daemon.allocate({ required_gpus: 2 }, as("key-of-bob"));
  const waiting = await daemon.allocate({ on_behalf_of: "ann", ttl: "10s" }, as("key-of-broker"));
  expect([held.status, waiting.status]).toEqual([200, 202]);
  await daemon.call("DELETE", `/gpu/allocations/${held.json.id}`, { headers: as("key-of-bob") });
  const path = `/gpu/allocations/${waiting.json.id}`;
  const { json: claimed } = await daemon.call("GET", path, { headers: as("key-of-broker") });
  expect(claimed).toMatchObject({ status: "leased", principal: "ann" });
  await daemon.clock.advance(8_000);
  const renewed = await daemon.call("POST", `${path}/renew`, { headers: as("key-of-broker") });
  expect(renewed.status).toBe(200);
  expect(renewed.json.expires_at > claimed.expires_at).toBe(true);
  const body = { allocation_id: waiting.json.id };
  const released = await daemon.call("POST", "/gpu/release", { body, headers: as("key-of-broker") });
  expect(released.json.released).toEqual([waiting.json.id]);
});

test("of a lease that has ended a delegate hears what its owner would", async () => {
  const daemon = await start();
  const broker = as("key-of-broker");
  const leased = async () => {
    const body = { on_behalf_of: "ann", workload_data: { note: "private" } };
    return (await daemon.allocate(body, broker)).json.id as string;
  };
  for (const key of [undefined, "release-1"]) {
    const id = await leased();
    const headers = key === undefined ? broker : { ...broker, "idempotency-key": key };
    const release = () => daemon.call("POST", "/gpu/release", { body: { allocation_id: id }, headers });
    for (const time of ["first", "second"]) {
      const { status, json } = await release();
      expect([status, json.released], time).toEqual([200, [id]]);
    }
  }
  const path = `/gpu/allocations/${await leased()}`;
  for (const time of ["first", "second"]) {
    expect((await daemon.call("DELETE", path, { headers: broker })).status, time).toBe(200);
  }
  const renewed = await daemon.call("POST", `${path}/renew`, { headers: broker });
  expect([renewed.status, renewed.json.code]).toEqual([409, "allocation-ended"]);
  const { json } = await daemon.call("GET", path, { headers: broker });
  expect(json).toMatchObject({ status: "ended", workload_data: { note: "private" } });
  expect((await daemon.call("DELETE", path, { headers: as("key-of-bob") })).status).toBe(403);
});

test("the owner's quota counts, not the delegate's", async () => {
  const ann = { ...NO_QUOTA, maxGpus: 1 };
  const daemon = await start({ quotas: { ...NO_QUOTAS, principals: { ann } } });
  const first = await daemon.allocate({ on_behalf_of: "ann" }, as("key-of-broker"));
  const second = await daemon.allocate({ on_behalf_of: "ann" }, as("key-of-broker"));
  const others = await daemon.allocate({ on_behalf_of: "bob" }, as("key-of-broker"));
  expect([first.status, second.status, others.status]).toEqual([200, 202, 200]);
});
