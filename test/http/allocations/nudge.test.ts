/** `POST .../nudge`, as its callers and the holder see it. */
import { expect, test } from "vitest";
import { apiKey, startDaemon } from "../daemon.ts";
import { Described } from "../described.ts";

const KEYS = [apiKey("ann", "ann"), apiKey("bob", "bob"), apiKey("eye", "eye", "read"), apiKey("ada", "ada", "admin")];

async function startKeyed() {
  const daemon = await startDaemon({
    settings: { auth: { enabled: true, headerName: "X-API-Key" } },
    keys: () => KEYS,
  });
  const as = (key: string) => ({ "X-API-Key": key });
  const { json: held } = await daemon.allocate({ webhook_url: "http://127.0.0.1:9/hook" }, as("ann"));
  const nudge = (key: string, body: object, id: string = held.id) =>
    daemon.call("POST", `/gpu/allocations/${id}/nudge`, { body, headers: as(key) });
  const read = async (key: string) =>
    (await daemon.call("GET", `/gpu/allocations/${held.id}`, { headers: as(key) })).json;
  return { ...daemon, as, held, nudge, read };
}

test("anybody who may lease writes to a holder; what is said is for the holder and admins", async () => {
  const daemon = await startKeyed();
  const document = new Described((await daemon.call("GET", "/openapi.json")).json);
  const reply = await daemon.nudge("bob", { message: "  done by\u202e six?  " });
  document.expect("POST", "/gpu/allocations/{id}/nudge", reply);
  expect(reply.status).toBe(200);
  expect(reply.json).not.toHaveProperty("nudge");
  const told = { by: "bob", message: expect.stringMatching(/^done by.* six\?$/), at: expect.any(String) };
  expect((await daemon.read("ann")).nudge).toEqual(told);
  expect((await daemon.read("ann")).nudge.message).not.toContain("\u202e");
  expect((await daemon.read("ada")).nudge).toEqual(told);
  expect(await daemon.read("bob")).not.toHaveProperty("nudge");
  const list = await daemon.call("GET", "/gpu/list", { headers: daemon.as("bob") });
  expect(list.text).not.toContain("done by");
});

test("the holder's webhook is told, once for each message", async () => {
  const daemon = await startKeyed();
  await daemon.nudge("bob", { message: "done by six?" });
  const sent = daemon.store.turns.flatMap(({ notifications }) => notifications);
  expect(sent.map(({ status, url }) => [status, url])).toEqual([["nudged", "http://127.0.0.1:9/hook"]]);
  expect(JSON.parse(sent[0]?.body ?? "")).toMatchObject({
    status: "nudged",
    request_id: daemon.held.id,
    by: "bob",
    message: "done by six?",
    allocation: { id: daemon.held.id, status: "leased" },
  });
});

test("what cannot be is refused by a code, and changes nothing", async () => {
  const daemon = await startKeyed();
  expect((await daemon.nudge("eye", { message: "x" })).json.code).toBe("role-too-low");
  expect((await daemon.nudge("bob", {})).json.code).toBe("validation-failed");
  expect((await daemon.nudge("bob", { message: " " })).json.code).toBe("validation-failed");
  expect((await daemon.nudge("bob", { message: "x".repeat(501) })).json.code).toBe("validation-failed");
  expect((await daemon.nudge("bob", { message: "x" }, "none-1")).json.code).toBe("allocation-not-found");
  expect(await daemon.read("ann")).not.toHaveProperty("nudge");
  expect((await daemon.nudge("bob", { message: "x".repeat(500) })).status).toBe(200);
  const again = await daemon.nudge("ada", { message: "and I" });
  expect([again.status, again.json.code, again.headers["retry-after"]]).toEqual([429, "nudged-lately", "60"]);
  await daemon.call("DELETE", `/gpu/allocations/${daemon.held.id}`, { headers: daemon.as("ann") });
  expect((await daemon.nudge("bob", { message: "x" })).json.code).toBe("allocation-ended");
});
