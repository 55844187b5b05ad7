/** How the forms at /docs are filled by what calls answer. */
import { expect, test } from "vitest";
import { type Document, fillings, lists } from "../../../src/web/docs/links.ts";

const ID = { name: "id", in: "path", required: true, schema: { example: "an-example" } };
const read = { operationId: "read", parameters: [ID], responses: {} };
const place = {
  operationId: "place",
  responses: {},
  requestBody: { content: { "application/json": { example: { thing: "an-example", size: 2 } } } },
};
const toRead = (at: string) => ({ read: { operationId: "read", parameters: { id: `$response.body#${at}` } } });
const DOCUMENT: Document = {
  paths: {
    "/things": {
      get: { operationId: "list", responses: { "200": { links: toRead("/things/0/id") } } },
      post: {
        operationId: "make",
        responses: {
          "201": {
            links: { ...toRead("/id"), place: { operationId: "place", requestBody: { thing: "$response.body#/id" } } },
          },
          "409": {},
        },
      },
    },
    "/things/{id}": { get: read },
    "/tasks": { get: { operationId: "tasks", tags: ["Work"], responses: { "200": { links: toRead("/0/id") } } } },
    "/told": {
      get: { operationId: "told", tags: ["Administration"], responses: { "200": { links: toRead("/0/id") } } },
    },
    "/place": { post: place },
    "/others/{id}": {
      get: { operationId: "others", parameters: [ID], responses: { "200": { links: toRead("/id") } } },
    },
  },
};

test("what a call made is filled in where it is taken, as a parameter or in a body", () => {
  expect(fillings(DOCUMENT, "/things", "post", 201, { id: "thing-1" })).toEqual([
    { path: "/things/{id}", method: "get", parameter: ID, value: "thing-1", example: "an-example" },
    {
      path: "/place",
      method: "post",
      parameter: null,
      value: JSON.stringify({ thing: "thing-1", size: 2 }, null, 2),
      example: JSON.stringify({ thing: "an-example", size: 2 }, null, 2),
    },
  ]);
});

test("the first of a list is taken, and of an empty one none", () => {
  const values = (things: object[]) => fillings(DOCUMENT, "/things", "get", 200, { things }).map(({ value }) => value);
  expect(values([{ id: "a" }, { id: "b" }])).toEqual(["a"]);
  expect(values([])).toEqual([]);
  expect(values([{ id: null }])).toEqual([]);
});

test("a refusal, or an answer that the document does not have, fills nothing", () => {
  for (const [status, body] of [
    [409, { id: "x" }],
    [500, { id: "x" }],
    [201, null],
    [201, "text"],
  ] as const) {
    expect(fillings(DOCUMENT, "/things", "post", status, body)).toEqual([]);
  }
  expect(fillings(DOCUMENT, "/nowhere", "get", 200, { id: "x" })).toEqual([]);
});

test("at the start those are asked that only look and need nothing", () => {
  expect(lists(DOCUMENT, { role: "admin", work: true })).toEqual(["/things", "/tasks", "/told"]);
});

test("a daemon that runs no work is not asked for any", () => {
  expect(lists(DOCUMENT, { role: "admin", work: false })).toEqual(["/things", "/told"]);
});

test("what is for admins is asked for by nobody else", () => {
  expect(lists(DOCUMENT, { role: "read", work: true })).toEqual(["/things", "/tasks"]);
  expect(lists(DOCUMENT, { role: "run", work: true })).toEqual(["/things", "/tasks"]);
});
