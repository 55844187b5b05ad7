import { expect, test } from "vitest";
import type { EndedLeasePage } from "../../../src/ports/store.ts";
import { MemoryStore } from "../../fixtures/memory-store.ts";
import { gpuReading } from "../../fixtures/readings.ts";
import { apiKey, startDaemon } from "../daemon.ts";

const AUTH = { auth: { enabled: true, headerName: "X-API-Key" } };
const at = (ms: number) => new Date(ms).toISOString();
const WORKER = {
  pid: 1,
  type: "C",
  name: "x",
  usedMemoryMib: 900,
  gpuInstanceId: null,
  computeInstanceId: null,
  origin: null,
};

/** Two services of two principals: one held two GPUs for 10 s and used one for 4 s, one holds one since 1 s. */
async function busyDaemon(store = new MemoryStore()) {
  const keys = [
    apiKey("k1", '=HYPERLINK("http://evil.example","x")'),
    apiKey("k2", "ops, inc"),
    apiKey("k3", "eye", "read"),
  ];
  const daemon = await startDaemon({ settings: AUTH, keys: () => keys, store });
  const start = daemon.clock.now();
  const { json: first } = await daemon.allocate({ service_name: "-train", required_gpus: 2 }, { "X-API-Key": "k1" });
  daemon.clock.advance(6_000);
  await daemon.see([gpuReading(0, { processes: [WORKER], memoryUsedMib: 1_000 }), gpuReading(1)]);
  daemon.clock.advance(4_000);
  await daemon.call("DELETE", `/gpu/allocations/${first.id}`, { headers: { "X-API-Key": "k1" } });
  await daemon.see([gpuReading(0), gpuReading(1)]);
  await daemon.allocate({ service_name: "ocr" }, { "X-API-Key": "k2" });
  daemon.clock.advance(1_000);
  const usage = (query = "", headers: Record<string, string> = {}) =>
    daemon.call("GET", `/gpu/usage${query}`, { headers: { "X-API-Key": "k3", ...headers } });
  return { ...daemon, start, usage };
}

const amount = (leases: number, reserved: number, used: number) => ({
  leases,
  reserved_gpu_seconds: reserved,
  used_gpu_seconds: used,
  reserved_gpu_hours: expect.closeTo(reserved / 3_600, 6),
  used_gpu_hours: expect.closeTo(used / 3_600, 6),
  wasted_gpu_hours: expect.any(Number),
});

test("a key that may only read sees what every service and principal reserved and used in the last 24 h", async () => {
  const { usage, clock } = await busyDaemon();
  const { status, json } = await usage();
  expect(status).toBe(200);
  expect(json).toEqual({
    from: at(clock.now() - 24 * 3_600_000),
    to: at(clock.now()),
    now: at(clock.now()),
    complete_from: null,
    total: amount(2, 21, 4),
    services: [
      { name: "-train", ...amount(1, 20, 4) },
      { name: "ocr", ...amount(1, 1, 0) },
    ],
    principals: [
      { name: '=HYPERLINK("http://evil.example","x")', ...amount(1, 20, 4) },
      { name: "ops, inc", ...amount(1, 1, 0) },
    ],
    gpus: [
      { uuid: gpuReading(0).uuid, ...amount(2, 11, 4) },
      { uuid: gpuReading(1).uuid, ...amount(1, 10, 0) },
    ],
  });
});

test("a period counts from its first instant up to its last, and either end may be left out", async () => {
  const { usage, start, clock } = await busyDaemon();
  const seconds = async (query: string) => (await usage(query)).json.total.reserved_gpu_seconds;
  expect(await seconds(`?from=${at(start + 9_000)}`)).toBe(3);
  expect(await seconds(`?from=${at(start)}&to=${at(start + 10_000)}`)).toBe(20);
  expect(await seconds(`?to=${at(start + 5_000)}`)).toBe(10);
  const { json } = await usage(`?from=${encodeURIComponent("2027-01-15T09:00:00.5+01:00")}&to=2027-01-15T08:00:02Z`);
  expect(json).toMatchObject({ from: "2027-01-15T08:00:00.500Z", to: "2027-01-15T08:00:02.000Z" });
  expect(at(start)).toBe("2027-01-15T08:00:00.000Z");
  expect(json.total.reserved_gpu_seconds).toBe(3);
  expect(json.now).toBe(at(clock.now()));
});

test.each([
  ["?from=yesterday", "from"],
  ["?from=2027-01-15", "from"],
  ["?from=2027-01-15T08:00:00", "from"],
  ["?from=2027-01-15T08:00:00+01:00", "from"],
  ["?to=2027-02-30T00:00:00Z", "to"],
  ["?from=2027-01-15T08:00:00Z&to=2027-01-15T08:00:00Z", "from"],
  ["?from=2099-01-01T00:00:00Z", "from"],
  ["?format=xml", "format"],
  ["?service_name=a", "service_name"],
])("%s is refused, with the parameter named", async (query, path) => {
  const { usage } = await busyDaemon();
  const { status, json } = await usage(query);
  expect([status, json.errors[0].path]).toEqual([422, path]);
});

test("as CSV it is one row per kind and name, in RFC 4180, with nothing that a spreadsheet would run", async () => {
  const { usage, start, clock } = await busyDaemon();
  const to = at(clock.now());
  const { status, headers, text } = await usage(`?format=csv&from=${at(start)}&to=${to}`);
  expect(status).toBe(200);
  expect(headers["content-type"]).toBe("text/csv; charset=utf-8; header=present");
  const span = `${at(start)},${to},${to},`;
  expect(text.split("\r\n")).toEqual([
    "kind,name,leases,reserved_gpu_seconds,used_gpu_seconds,reserved_gpu_hours,used_gpu_hours,wasted_gpu_hours,from,to,now,complete_from",
    `total,,2,21,4,0.005833,0.001111,0,${span}`,
    `service,'-train,1,20,4,0.005556,0.001111,0,${span}`,
    `service,ocr,1,1,0,0.000278,0,0,${span}`,
    `principal,"'=HYPERLINK(""http://evil.example"",""x"")",1,20,4,0.005556,0.001111,0,${span}`,
    `principal,"ops, inc",1,1,0,0.000278,0,0,${span}`,
    `gpu,${gpuReading(0).uuid},2,11,4,0.003056,0.001111,0,${span}`,
    `gpu,${gpuReading(1).uuid},1,10,0,0.002778,0,0,${span}`,
    "",
  ]);
});

test.each([
  ["text/csv", "csv"],
  ["text/csv, */*;q=0.1", "csv"],
  ["text/csv, */*", "csv"],
  ["application/json;q=0.5, text/csv;q=0.9", "csv"],
  ["application/json, text/csv;q=0.9", "json"],
  ["application/json, text/csv", "json"],
  ["text/csv;q=0, */*", "json"],
  ["*/*", "json"],
  ["text/html", "json"],
])("Accept: %s gets %s, unless format says otherwise", async (accept, format) => {
  const { usage } = await busyDaemon();
  const type = async (query: string) => String((await usage(query, { accept })).headers["content-type"]).split(";")[0];
  expect(await type("")).toBe(format === "csv" ? "text/csv" : "application/json");
  expect(await type("?format=json")).toBe("application/json");
  expect(await type("?format=csv")).toBe("text/csv");
});

test("it says from when on records are there", async () => {
  const store = Object.assign(new MemoryStore(), { completeFrom: () => Date.UTC(2027, 0, 1) }) as MemoryStore;
  const { usage } = await busyDaemon(store);
  expect((await usage()).json.complete_from).toBe("2027-01-01T00:00:00.000Z");
  expect((await usage("?format=csv")).text).toContain(",2027-01-01T00:00:00.000Z\r\n");
});

test("two reports are made at once, and a third is told to come again", async () => {
  const endless: EndedLeasePage = { leases: [], next: { endedAt: 0, row: 0 } };
  let rest = 0;
  const store = Object.assign(new MemoryStore(), {
    endedLeases: () => (rest-- > 0 ? endless : { ...endless, next: null }),
  });
  const { connect, usage } = await busyDaemon(store);
  rest = 2_000;
  const headers = { "X-API-Key": "k2" };
  const replies = await Promise.all([1, 2, 3].map(() => connect()("GET", "/gpu/usage", { headers })));
  expect(replies.map(({ status }) => status).sort()).toEqual([200, 200, 503]);
  const refused = replies.find(({ status }) => status === 503);
  expect(refused?.json.code).toBe("usage-busy");
  expect(refused?.headers["retry-after"]).toBe("2");
  expect((await usage()).status).toBe(200);
  rest = Number.POSITIVE_INFINITY;
  expect((await usage()).json).toMatchObject({ status: 422, code: "period-too-large" });
});

test("without a key it is refused", async () => {
  const { call } = await busyDaemon();
  expect((await call("GET", "/gpu/usage")).status).toBe(401);
});
