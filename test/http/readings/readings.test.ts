/** `GET /gpu/readings`, and readings between the events, over real sockets. */
import { expect, test } from "vitest";
import { readingSchema } from "../../../src/wire/readings/answers.ts";
import { failed, gpuReading } from "../../fixtures/readings.ts";
import { apiKey, startDaemon } from "../daemon.ts";
import { readEvents } from "../events/stream.ts";

const PATH = "/gpu/readings";

test("the latest reading comes at once, and each further one as it is read", async () => {
  const daemon = await startDaemon();
  const reader = await readEvents(daemon.port, { path: PATH });
  await reader.until(({ messages }) => messages.length === 1);
  await daemon.see([gpuReading(0, { utilizationPercent: 42 }), gpuReading(1, { utilizationPercent: null })]);
  await reader.until(({ messages }) => messages.length === 2);
  const readings = reader.messages.map(({ event, data }) => ({ event, ...readingSchema.parse(data) }));
  expect(readings.map(({ event }) => event)).toEqual(["reading", "reading"]);
  expect(readings[1]?.gpus.map(({ utilization, state }) => [utilization, state])).toEqual([
    [42, "free"],
    [null, "free"],
  ]);
  expect(reader.lastId).toBe("");
});

test("a state that changes without a reading is told too: a lease, and a reading that has grown stale", async () => {
  const daemon = await startDaemon();
  const reader = await readEvents(daemon.port, { path: PATH });
  const states = () => reader.messages.at(-1)?.data.gpus.map(({ state }: { state: string }) => state);
  await daemon.allocate({ required_gpus: 2 });
  await reader.until(() => states()?.join() === "leased,leased");
  await daemon.call("POST", "/gpu/release", { body: { service_name: "trainer" } });
  await reader.until(() => states()?.join() === "free,free");
  daemon.clock.advance(3_600_000);
  await reader.until(() => states()?.join() === "unknown,unknown");
});

test("what ails a GPU that is held is told, whose instances do what, and which processes are there", async () => {
  const daemon = await startDaemon();
  const reader = await readEvents(daemon.port, { path: PATH });
  await daemon.allocate();
  const health = { ...gpuReading(0).health, fabricStatus: "Insufficient resources" };
  const process = {
    ...{ pid: 4_242, type: "C", name: "python3", usedMemoryMib: 9_000 },
    ...{ gpuInstanceId: null, computeInstanceId: null, origin: null },
  };
  await daemon.see([gpuReading(0, { health, processes: [process] }), gpuReading(1)]);
  await reader.until(({ messages }) => messages.at(-1)?.data.gpus[0].ailment?.state === "isolated");
  const [held, free] = readingSchema.parse(reader.messages.at(-1)?.data).gpus;
  expect(held).toMatchObject({ state: "leased", pids: [4_242], mig_devices: [] });
  expect(free).toMatchObject({ ailment: null, pids: [] });
});

test("a held GPU keeps its state when its readings grow old: its ailment tells, where nothing else changes", async () => {
  const daemon = await startDaemon();
  // No GPU is free: one would become unknown in that moment, and be news by itself.
  await daemon.allocate({ required_gpus: 2 });
  const reader = await readEvents(daemon.port, { path: PATH });
  await reader.until(({ messages }) => messages.at(-1)?.data.gpus[0].state === "leased");
  daemon.clock.advance(3_600_000);
  await reader.until(({ messages }) => messages.at(-1)?.data.gpus[0].ailment?.state === "unknown");
  expect(readingSchema.parse(reader.messages.at(-1)?.data).gpus.map(({ state }) => state)).toEqual([
    "leased",
    "leased",
  ]);
});

test("a daemon that cannot read and one that cannot write say so", async () => {
  const daemon = await startDaemon();
  const reader = await readEvents(daemon.port, { path: PATH });
  await daemon.scheduler.observe(failed(daemon.clock.now(), { message: "no\u0007 driver" }));
  await reader.until(({ messages }) => messages.at(-1)?.data.monitor.healthy === false);
  expect(reader.messages.at(-1)?.data.monitor.failure.message).not.toContain("\u0007");
  daemon.store.failing = true;
  await daemon.call("POST", "/gpu/gpus/0/cordon", { body: { reason: "fan" } });
  await reader.until(({ messages }) => messages.at(-1)?.data.storage_healthy === false);
});

test("events come with readings between them where they are asked for, and are numbered as ever", async () => {
  const daemon = await startDaemon();
  const both = await readEvents(daemon.port, { path: "/gpu/events?readings=true", lastEventId: 0 });
  const alone = await readEvents(daemon.port, { lastEventId: 0 });
  await daemon.allocate();
  await daemon.see([gpuReading(0), gpuReading(1)]);
  const events = ({ messages }: typeof both) => messages.filter(({ event }) => event !== "reading");
  await both.until(
    (reader) => events(reader).length >= 4 && reader.types.filter((type) => type === "reading").length >= 2,
  );
  await alone.until(({ messages }) => messages.length >= events(both).length);
  expect(events(both)).toEqual(alone.messages.slice(0, events(both).length));
  expect(alone.types).not.toContain("reading");
});

test("readings need a key like all that is told of the host", async () => {
  const daemon = await startDaemon({
    settings: { auth: { enabled: true, headerName: "X-API-Key" } },
    keys: () => [apiKey("eye", "eye", "read")],
  });
  expect((await daemon.call("GET", PATH)).status).toBe(401);
  const reader = await readEvents(daemon.port, { path: PATH, headers: { "X-API-Key": "eye" } });
  expect(reader.status).toBe(200);
});
