/** The document of the controller's API, and its page: everything that is served stands there, and works as its forms begin. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { apiEndpoints } from "../../src/controller/api/server.ts";
import { revisionOf, revisionParts } from "../../src/controller/objects/revision.ts";
import { type Document, fillings, lists } from "../../src/web/docs/links.ts";
import { Described } from "../http/described.ts";
import { lookOf, node } from "./objects.ts";
import { type ServedApi, serveApi } from "./served-api.ts";
import type { SqliteObjects } from "./sqlite-objects.ts";

// biome-ignore lint/suspicious/noExplicitAny: the document is JSON.
type Json = any;

let api: ServedApi;
let store: SqliteObjects;
let url = "";

beforeAll(async () => {
  api = await serveApi({}, lookOf({ nodes: [node({ name: "local" })] }));
  ({ store, url } = api);
});
afterAll(() => api.close());

async function call(method: string, path: string, body?: string) {
  const headers: Record<string, string> = body === undefined ? {} : { "content-type": "application/json" };
  const answer = await fetch(url + path, { method: method.toUpperCase(), headers, body: body ?? null });
  const text = await answer.text();
  const type = answer.headers.get("content-type") ?? "";
  const json = /json/.test(type) ? JSON.parse(text) : undefined;
  return { status: answer.status, headers: Object.fromEntries(answer.headers), text, json };
}

test("the document describes every route and method, and nothing else", async () => {
  const { json: document } = await call("get", "/openapi.json");
  expect(document).toMatchObject({ openapi: "3.1.0" });
  const served = apiEndpoints(api.parts, () => false)
    // What is not built, and what the page at /docs is made of.
    .filter(
      ({ path }) => !/^\/(registry|docs\/)|\/:id\/rollout\/(promote|abort)$/.test(path) && !path.endsWith("/*rest"),
    )
    .flatMap(({ path, methods }) => Object.keys(methods).map((method) => `${method} ${path.replace(":id", "{id}")}`));
  const described = Object.entries<Json>(document.paths).flatMap(([path, methods]) =>
    Object.keys(methods).map((method) => `${method.toUpperCase()} ${path}`),
  );
  expect(described.filter((one) => !one.includes(" /apis/")).sort()).toEqual(served.sort());
  const headings = document.tags.map(({ name }: { name: string }) => name);
  const operations = Object.values<Json>(document.paths).flatMap((item) => Object.values<Json>(item));
  expect(new Set(operations.flatMap(({ tags }) => tags))).toEqual(new Set(headings));
  expect(new Set(operations.map(({ operationId }) => operationId)).size).toBe(operations.length);
});

/** Those that stop what others need come last, and those that ask for what was made follow what makes it. */
const LATE = ["undoRollout", "restart", "delete"];
const rankOf = ({ method, operation }: Json) => {
  const { operationId } = operation;
  const late = LATE.findIndex((word) => operationId.startsWith(word));
  return late >= 0 ? 10 + late : /^(create|putW|putM)/.test(operationId) ? 0 : method === "get" ? 2 : 1;
};

test("every call is answered as its form at /docs begins, by what the document has", async () => {
  const { json } = await call("get", "/openapi.json");
  const document = json as Document;
  const described = new Described(json);
  const forms = new Map<string, string>();
  const keyOf = (path: string, method: string, name: string) => `${method} ${path} ${name}`;
  const learn = (path: string, method: string, status: number, body: unknown) => {
    for (const one of fillings(document, path, method, status, body)) {
      forms.set(keyOf(one.path, one.method, one.parameter?.name ?? "body"), one.value);
    }
  };
  const send = async (path: string, method: string, operation: Json) => {
    const value = ({ name, schema }: Json) => forms.get(keyOf(path, method, name)) ?? schema.example;
    const given = (place: string) =>
      (operation.parameters ?? []).filter((one: Json) => one.in === place && value(one) !== undefined);
    const filled = given("path").reduce(
      (at: string, one: Json) => at.replace(`{${one.name}}`, encodeURIComponent(value(one))),
      path,
    );
    const query = new URLSearchParams(given("query").map((one: Json) => [one.name, value(one)])).toString();
    const example = operation.requestBody?.content["application/json"].example;
    const body =
      example === undefined ? undefined : (forms.get(keyOf(path, method, "body")) ?? JSON.stringify(example));
    const reply = await call(method, query === "" ? filled : `${filled}?${query}`, body);
    learn(path, method, reply.status, reply.json);
    return reply;
  };
  const calls = Object.entries<Json>(json.paths)
    .flatMap(([path, item]) => Object.entries<Json>(item).map(([method, operation]) => ({ path, method, operation })))
    .sort((a, b) => rankOf(a) - rankOf(b));
  expect(lists(document, { role: "admin", work: false }).length).toBeGreaterThan(3);
  const refused: string[] = [];
  for (const { path, method, operation } of calls) {
    if (operation.operationId === "undoRollout") await keepTwo();
    if (operation.operationId === "readModelEndpoint") await serve();
    const reply = await send(path, method, operation);
    if (reply.status >= 300) refused.push(`${operation.operationId}: ${reply.status} ${reply.text}`);
    else described.expect(method, path, reply as never);
  }
  expect(refused).toEqual([]);
});

/** As if the deployments had had another revision before this one. */
async function keepTwo(): Promise<void> {
  for (const one of store.workloads()) {
    const known = revisionParts(one.metadata, one.spec);
    const keep = (number: number, change: object, name: string) =>
      store.keepRevision(one, {
        ...{ name, number, parts: { ...known, ...change }, template: null },
        madeAt: "2026-01-01T00:00:00.000Z",
      });
    await keep(1, { modelVersion: "before" }, "before");
    await keep(2, {}, revisionOf(one.metadata, one.spec));
  }
}

/** As if replicas served. */
async function serve(): Promise<void> {
  for (const one of store.workloads()) {
    await store.putStatus(one, { ...one.status, endpoints: ["http://127.0.0.1:1"], readyReplicas: 1 });
  }
}

test("the page at /docs is served, and says what each refusal means", async () => {
  const page = await call("get", "/docs");
  expect(page).toMatchObject({ status: 200, headers: { "content-type": expect.stringContaining("text/html") } });
  const refused = await call("get", "/internal/deployments/nope");
  const [path, code] = refused.json.type.split("#");
  expect((await call("get", path)).text).toContain(`id="${code}"`);
});
