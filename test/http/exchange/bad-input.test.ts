import { expect, test } from "vitest";
import fc from "../../fc.ts";
import { startDaemon } from "../daemon.ts";

const WRONG: readonly (readonly [string, unknown])[] = [
  ...["2", 1.9, -3, 0, 1e300, 1_025, true, [], {}].map((value) => ["required_gpus", value] as const),
  ...["4096", 0.5, -1, 1e300, 2 ** 31 + 1].map((value) => ["min_memory_mb", value] as const),
  ...["80", -0.1, 100.1, 1e300].map((value) => ["max_utilization", value] as const),
  ...["5", 0, 11, 5.5].map((value) => ["priority", value] as const),
  ...["GPU-1", [-1], [1.5], [null], [""], Array(1_025).fill(0)].map((value) => ["preferred_gpus", value] as const),
  ...["", 5, "x".repeat(129)].map((value) => ["gpu_model", value] as const),
  ...["1", "soon", 0, -5, 0.5, 1e300, "100000d", true].map((value) => ["ttl", value] as const),
  ...["0s", {}].map((value) => ["max_duration", value] as const),
  ...["never", false].map((value) => ["queue_timeout", value] as const),
  ...["Shared", "none", 1].map((value) => ["sharing", value] as const),
  ...["yes", 1].map((value) => ["preemptible", value] as const),
  ...["false", 0].map((value) => ["queue", value] as const),
];

test("a value of the wrong type or out of bounds is 422 with its path, at the top level and in workload_data", async () => {
  const daemon = await startDaemon();
  for (const [key, value] of WRONG) {
    for (const [path, body] of [
      [key, { [key]: value }],
      [`workload_data.${key}`, { workload_data: { [key]: value } }],
    ] as const) {
      const answers = [await daemon.allocate(body), await daemon.call("POST", "/gpu/workload", { body })];
      for (const { status, json } of answers) {
        expect([path, value, status]).toEqual([path, value, 422]);
        expect(json.errors).toHaveLength(1);
        expect(json.errors[0].path.startsWith(path)).toBe(true);
      }
    }
  }
  expect(daemon.scheduler.state.allocations.size).toBe(0);
});

test("the rest of the body is checked too, and every wrong field is named at once", async () => {
  const daemon = await startDaemon();
  const errorsOf = async (body: unknown) =>
    (await daemon.call("POST", "/gpu/allocate", { body })).json.errors.map(({ path }: { path: string }) => path);
  expect(await errorsOf({})).toEqual(["service_name"]);
  for (const name of [null, "", "a b", "ä", "x".repeat(129), 5]) {
    expect(await errorsOf({ service_name: name })).toEqual(["service_name"]);
  }
  expect(await errorsOf({ service_name: "a", workload_type: 1, workload_data: [], webhook_url: 5 })).toEqual([
    "workload_type",
    "workload_data",
    "webhook_url",
  ]);
  expect(await errorsOf({ service_name: "a", workload_data: { estimated_duration: 1e300 } })).toEqual([
    "workload_data.estimated_duration",
  ]);
  for (const body of ["[]", "null", "5", '"text"']) expect(await errorsOf(body)).toEqual([""]);
  expect((await daemon.allocate({ sharing: "partly" })).json.errors).toEqual([
    { path: "sharing", message: 'expected "exclusive" or "shared"' },
  ]);
});

test("keys that nobody knows are refused, and left alone inside workload_data, __proto__ and constructor among them", async () => {
  const daemon = await startDaemon();
  const data = `"workload_data":{"__proto__":{"required_gpus":9,"polluted":true},"constructor":1,"toString":null,"batch_size":1}`;
  const unknown = `{"service_name":"a","colour":"red","__proto__":{"required_gpus":9},"constructor":{"prototype":{"x":1}},${data}}`;
  const refused = await daemon.call("POST", "/gpu/allocate", { body: unknown });
  expect(refused.status).toBe(422);
  expect(refused.json.errors.map(({ path }: { path: string }) => path)).toEqual(
    expect.arrayContaining(["colour", "constructor"]),
  );
  const { status, json } = await daemon.call("POST", "/gpu/allocate", { body: `{"service_name":"a",${data}}` });
  expect([status, json.required_gpus]).toEqual([200, 1]);
  expect(({} as { polluted?: boolean }).polluted).toBeUndefined();
  const record = await daemon.call("GET", `/gpu/allocations/${json.id}`);
  expect(record.json.workload_data).toMatchObject({ batch_size: 1, constructor: 1 });
});

test("a body that is not JSON is 415, one that is malformed 400, one too large 413, one too deep 422", async () => {
  const daemon = await startDaemon();
  const post = (body: string, headers: Record<string, string> = {}) =>
    daemon.call("POST", "/gpu/allocate", { body, headers });
  const good = '{"service_name":"a"}';
  for (const type of [
    "text/plain",
    "application/x-www-form-urlencoded",
    "",
    "application/json; charset=utf-16",
    "json",
  ]) {
    expect([type, (await post(good, { "content-type": type })).status]).toEqual([type, 415]);
  }
  expect((await post(good, { "content-encoding": "gzip" })).status).toBe(415);
  for (const type of ["application/json; charset=utf-8", "Application/JSON", 'application/json;charset="UTF-8"']) {
    expect([type, (await post(good, { "content-type": type })).status]).toEqual([type, expect.toBeOneOf([200, 202])]);
  }
  for (const body of ["{", "", "{'a':1}", "nonsense", `${good} x`, "\ufeff{}"]) {
    expect([body, (await post(body)).json.code]).toEqual([body, "malformed-json"]);
  }
  expect((await daemon.call("POST", "/gpu/allocate")).json.code).toBe("malformed-json");

  const padded = (size: number) => good.replace("}", `,"x":"${"y".repeat(size - good.length - 7)}"}`);
  expect(padded(65_536)).toHaveLength(65_536);
  expect((await post(padded(65_536))).status).not.toBe(413);
  expect((await post(padded(65_537))).status).toBe(413);
  expect((await post(padded(1_000_000))).status).toBe(413);

  const nested = (depth: number) =>
    `{"service_name":"a","workload_data":{"x":${"[".repeat(depth - 2)}${"]".repeat(depth - 2)}}}`;
  expect((await post(nested(32))).status).not.toBe(422);
  expect((await post(nested(33))).json.errors).toEqual([{ path: "", message: "nested deeper than 32 levels" }]);
  expect((await post(nested(30_000))).status).toBe(422);
});

const KEYS = [
  "service_name",
  "workload_type",
  "workload_data",
  "webhook_url",
  "required_gpus",
  "min_memory_mb",
  "max_utilization",
  "priority",
  "preferred_gpus",
  "gpu_model",
  "ttl",
  "max_duration",
  "sharing",
  "queue",
  "queue_timeout",
  "allocation_id",
  "fencing_token",
  "batch_size",
  "model_size",
  "model",
  "estimated_duration",
  "concurrent_requests",
  "__proto__",
];
const anyValue = fc.oneof(
  fc.jsonValue(),
  fc.constantFrom(0, 1, 2, 1e308, -1e308, 5e-324, 2 ** 53, "1h", "trainer", "training", "qwen-72b", "xlarge", true),
);
const anyFields = fc.dictionary(fc.constantFrom(...KEYS), anyValue, { maxKeys: 6 });
const anyBody = fc.oneof(
  fc.json(),
  fc.string({ unit: "binary", maxLength: 50 }),
  fc.tuple(anyFields, fc.option(anyFields), fc.boolean()).map(([fields, data, named]) =>
    JSON.stringify({
      ...fields,
      ...(data === null ? {} : { workload_data: data }),
      ...(named ? { service_name: "fuzz" } : {}),
    }),
  ),
);
const anyTarget = fc.constantFrom(
  "/gpu/allocate",
  "/gpu/allocate",
  "/gpu/workload",
  "/gpu/release",
  "/gpu/allocations/fuzz-0/renew",
);

test("no body makes the daemon fail: never a 500, and every refusal is a problem document", async () => {
  const daemon = await startDaemon();
  const statuses = new Map<number, number>();
  await fc.assert(
    fc.asyncProperty(anyTarget, anyBody, async (path, body) => {
      // Whoever is refused is answered with a problem document: `call` checks that.
      const { status } = await daemon.call("POST", path, { body });
      statuses.set(status, (statuses.get(status) ?? 0) + 1);
      expect(status).toBeLessThan(status === 503 ? 504 : 500);
    }),
    { numRuns: 2_000 },
  );
  expect(daemon.logged).toEqual([]);
  // The bodies reach both sides of the check, and the core behind it.
  for (const status of [200, 400, 422]) expect(statuses.get(status) ?? 0).toBeGreaterThan(10);
});
