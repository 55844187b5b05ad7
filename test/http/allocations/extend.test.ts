/** `POST .../extend`, as its callers see it. */
import { expect, test } from "vitest";
import { startDaemon } from "../daemon.ts";

test("the record has the new end, and a repeat under one key moves nothing", async () => {
  const daemon = await startDaemon();
  const { json: held } = await daemon.allocate({ max_duration: "10m", ttl: "5m" });
  const extend = (body: object, headers = {}) =>
    daemon.call("POST", `/gpu/allocations/${held.id}/extend`, { body, headers });
  const { status, json } = await extend({ max_duration: "1h", ttl: 600 }, { "Idempotency-Key": "k" });
  expect(status).toBe(200);
  expect(json).toMatchObject({ status: "leased", ttl_seconds: 600, max_duration_seconds: 3_600 });
  expect(Date.parse(json.expires_at)).toBe(Date.parse(held.allocated_at) + 600_000);
  await daemon.clock.advance(60_000);
  const again = await extend({ max_duration: "1h", ttl: 600 }, { "Idempotency-Key": "k" });
  expect(again.json.expires_at).toBe(json.expires_at);
});

test("what cannot be is refused by a code, and says why", async () => {
  const daemon = await startDaemon();
  const { json: held } = await daemon.allocate({ required_gpus: 2, max_duration: "10m" });
  const { json: waiting } = await daemon.allocate({ webhook_url: "http://127.0.0.1/a" });
  const extend = async (id: string, body: object) =>
    (await daemon.call("POST", `/gpu/allocations/${id}/extend`, { body })).json;
  expect((await extend(held.id, {})).errors).toEqual([
    { path: "max_duration", message: "give ttl, max_duration or both" },
  ]);
  expect((await extend(held.id, { max_duraton: "1h" })).errors[0].message).toContain("did you mean max_duration?");
  expect(await extend(waiting.id, { ttl: "1h" })).toMatchObject({ code: "extension-refused", status: 409 });
  await daemon.call("DELETE", `/gpu/allocations/${held.id}`);
  expect(await extend(held.id, { ttl: "1h" })).toMatchObject({ code: "allocation-ended" });
  expect(await extend("none-1", { ttl: "1h" })).toMatchObject({ code: "allocation-not-found" });
});
