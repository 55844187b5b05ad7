/** The links of the API's document: what the page at /docs fills its forms by. */
import { expect, test } from "vitest";
import { openApiDocument } from "../../../src/http/service/openapi.ts";
import { TASK_WEBHOOK, WORK_LINKS, WORK_PATHS } from "../../../src/work-service/described.ts";

// biome-ignore lint/suspicious/noExplicitAny: the document is JSON.
type Json = any;

const DOCUMENT: Json = openApiDocument({
  version: "0",
  headerName: null,
  work: { paths: WORK_PATHS, taskWebhook: TASK_WEBHOOK, links: WORK_LINKS },
});
const OPERATIONS = Object.values<Json>(DOCUMENT.paths).flatMap((item) => Object.values<Json>(item));
/** Ids of what outlives its call, or is made by the host: their examples hold as they stand. */
const STANDING = new Set(["gpus"]);

function operation(id: string): Json {
  return OPERATIONS.find(({ operationId }) => operationId === id);
}

/** Every schema that may stand there. */
function alternatives(schema: Json): Json[] {
  if (schema.$ref !== undefined) {
    return alternatives(DOCUMENT.components.schemas[String(schema.$ref).replace("#/components/schemas/", "")]);
  }
  return (schema.anyOf ?? schema.oneOf ?? [schema]).flatMap((one: Json) =>
    one === schema ? [one] : alternatives(one),
  );
}

function at(schema: Json, steps: readonly string[]): Json[] {
  return steps.reduce<Json[]>(
    (schemas, step) =>
      schemas.flatMap(alternatives).flatMap((one) => {
        const next = step === "0" ? one.items : one.properties?.[step];
        return next === undefined ? [] : [next];
      }),
    [schema],
  );
}

const LINKS = OPERATIONS.flatMap(({ operationId, responses }) =>
  Object.entries<Json>(responses).flatMap(([status, { links = {}, content }]) =>
    Object.values<Json>(links).map((link) => ({ from: operationId, status, content, link })),
  ),
);

test("a link begins where the answer has an id, and leads to a call that takes one", () => {
  expect(LINKS.length).toBeGreaterThan(20);
  for (const { from, status, content, link } of LINKS) {
    const what = `${from} ${status} ${link.operationId}`;
    const target = operation(link.operationId);
    expect(target, what).toBeDefined();
    const fields = [
      ...Object.entries<string>(link.parameters ?? {}),
      ...Object.entries<string>(link.requestBody ?? {}),
    ];
    expect(fields, what).toHaveLength(1);
    for (const [name, expression] of fields) {
      const inPath = (target.parameters ?? []).some((one: Json) => one.in === "path" && one.name === name);
      const inBody = target.requestBody?.content["application/json"].schema.properties?.[name] !== undefined;
      expect(link.parameters === undefined ? inBody : inPath, what).toBe(true);
      const steps = expression.replace("$response.body#/", "").split("/");
      const found = at(content["application/json"].schema, steps).flatMap(alternatives);
      expect(
        found.map(({ type }) => type),
        what,
      ).toContain("string");
    }
  }
});

test("every call of something that is made by a call is led to", () => {
  const linked = new Set(LINKS.map(({ link }) => link.operationId));
  const missing = Object.entries<Json>(DOCUMENT.paths).flatMap(([path, item]) =>
    Object.values<Json>(item)
      .filter(({ parameters = [] }) => parameters.some((one: Json) => one.in === "path"))
      .filter(({ operationId }) => !linked.has(operationId) && !STANDING.has(path.split("/")[2] ?? ""))
      .map(({ operationId }) => operationId),
  );
  expect(missing).toEqual([]);
});
