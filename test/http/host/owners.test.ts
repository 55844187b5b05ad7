/** Whose things are: told to admins and to those whose they are. */
import { expect, test } from "vitest";
import { apiKey, startDaemon } from "../daemon.ts";
import { readEvents } from "../events/stream.ts";

const KEYS = [
  apiKey("ann", "ann"),
  apiKey("bob", "bob"),
  apiKey("eye", "eye", "read"),
  apiKey("root", "root", "admin"),
];
const as = (key: string) => ({ headers: { "X-API-Key": key } });

async function hostOfAnn() {
  const settings = { auth: { enabled: true, headerName: "X-API-Key" } };
  const daemon = await startDaemon({ settings, keys: () => KEYS });
  const held = (await daemon.allocate({ required_gpus: 2, max_duration: "1h" }, as("ann").headers)).json;
  const ask = { required_gpus: 2, queue_timeout: "30m", webhook_url: "http://127.0.0.1/a" };
  const waiting = (await daemon.allocate(ask, as("ann").headers)).json;
  const get = async (path: string, key: string) => (await daemon.call("GET", path, as(key))).json;
  return { daemon, held, waiting, get };
}

test.each([
  ["ann", "ann"],
  ["root", "ann"],
  ["bob", undefined],
  ["eye", undefined],
])("%s is told that it is %s's, in status, list and records", async (key, principal) => {
  const { held, waiting, get } = await hostOfAnn();
  const { gpus } = await get("/gpu/status", key);
  expect(gpus[0].holders[0].principal).toBe(principal);
  const list = await get("/gpu/list", key);
  expect(list.allocations[0].principal).toBe(principal);
  expect(list.queue[0].principal).toBe(principal);
  expect(list.gpus[1].holders[0].principal).toBe(principal);
  for (const { id } of [held, waiting]) expect((await get(`/gpu/allocations/${id}`, key)).principal).toBe(principal);
});

test("holders have their end, and who waits has the end of its waiting", async () => {
  const { held, waiting, get } = await hostOfAnn();
  const list = await get("/gpu/list", "bob");
  expect(list.gpus[0].holders[0].expires_at).toBe(held.expires_at);
  const deadline = new Date(Date.parse(waiting.submitted_at) + 1_800_000).toISOString();
  expect(list.queue[0].deadline).toBe(deadline);
  expect((await get(`/gpu/allocations/${waiting.id}`, "bob")).deadline).toBe(deadline);
  expect(await get(`/gpu/allocations/${held.id}`, "bob")).not.toHaveProperty("deadline");
});

test.each([
  ["ann", ["ann", "ann"]],
  ["root", ["ann", "ann"]],
  ["bob", [undefined, undefined]],
])("events tell %s whose requests were submitted", async (key, principals) => {
  const { daemon } = await hostOfAnn();
  const reader = await readEvents(daemon.port, { lastEventId: "0", headers: as(key).headers });
  const submitted = () => reader.messages.filter(({ event }) => event === "submitted");
  await reader.until(() => submitted().length === 2);
  expect(submitted().map(({ data }) => data.principal)).toEqual(principals);
});
