/**
 * Hostile input to every call: paths, ids, cursors and queries, bodies, documents, header fields. Nothing fails, no GPU is
 * leased twice, and no answer is one that the API's document does not have. The settings' fuzzer is
 * test/config/fuzz.test.ts. `npm run test:fuzz` gives each a minute.
 */
import { readdirSync, readFileSync } from "node:fs";
import { expect, test } from "vitest";
import fc from "../../fc.ts";
import { FUZZ_TIMEOUT_MS, fuzzed } from "../../fuzz.ts";
import { apiKey, type Reply } from "../daemon.ts";
import type { DescribedCall } from "../described.ts";
import { answersIn, exchange } from "../peer.ts";
import { asField, bodyOf, encoded, parameterOf, text } from "./hostile.ts";
import { startTarget, type Target } from "./target.ts";

/** Answers that never end by themselves: they are asked for by HEAD, which goes the same way and does not go on. */
const STREAMS: ReadonlySet<string> = new Set(["/gpu/events", "/gpu/readings"]);

/** An id that there is, by its number, or one that somebody made up. */
const anyId = fc.oneof(fc.nat(), text);
type AnyId = number | string;

function pathOf(template: string, id: AnyId, target: Target): string {
  const ids = target.ids();
  const name = typeof id === "number" ? (ids[id % ids.length] as string) : id;
  return template.replace(/\{id\}|:id/, encoded(name) || "x").replace(/\{rest\}|\*rest/, encoded(name) || "x");
}

/** An id that is a dot, or two, makes another path of it, and so does one that is empty. */
function isElsewhere(path: string): boolean {
  return /%2F|\/\.{1,2}(?:[/?]|$)/i.test(path);
}

const methodOf = ({ method, template }: DescribedCall) => (STREAMS.has(template) ? "HEAD" : method);

function expectKnown(target: Target, { method, template }: DescribedCall, path: string, reply: Reply): void {
  if (isElsewhere(path)) expect(reply.status).toBeLessThan(500);
  else if (!STREAMS.has(template)) target.document.expect(method, template, reply);
  else expect(Object.keys(target.document.responses(method, template))).toContain(String(reply.status));
  target.expectSound();
}

test(
  "paths and methods that nobody thought of are answered",
  async () => {
    const target = await startTarget();
    const words = [...target.document.calls.map(({ template }) => template), ...target.work.map(({ path }) => path)]
      .flatMap((path) => path.split("/"))
      .filter((word) => word !== "events" && word !== "readings");
    const methods = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"];
    const segment = fc.oneof(fc.constantFrom(...words, "docs", "page", "."), text);
    const asked = fc.tuple(fc.constantFrom(...methods), fc.array(segment, { maxLength: 6 }), text, fc.boolean());
    await fc.assert(
      fc.asyncProperty(asked, async ([method, segments, query, isNamed]) => {
        const after = query === "" ? "" : `?${isNamed ? "limit=" : ""}${encoded(query)}`;
        const path = `/${segments.map(encoded).join("/")}${after}`;
        const { status } = await target.ask(method, path, method === "POST" ? { body: {} } : {});
        expect([501, 503].includes(status) || status < 500, `${method} ${path} ${status}`).toBe(true);
        target.expectSound();
      }),
      fuzzed(1_500),
    );
    target.expectBooksIntact();
  },
  FUZZ_TIMEOUT_MS,
);

test(
  "ids of every call, right ones in wrong places too, get no answer that the document does not have",
  async () => {
    const target = await startTarget();
    const calls = target.document.calls.filter(({ template }) => template.includes("{id}"));
    await target.daemon.allocate({ required_gpus: 2, ttl: "1h" });
    await target.daemon.allocate({ sharing: "shared" });
    await fc.assert(
      fc.asyncProperty(fc.constantFrom(...calls), anyId, async (call, id) => {
        const path = pathOf(call.template, id, target);
        const body = { reason: "because", service_name: "trainer" };
        const { method } = call;
        expectKnown(target, call, path, await target.ask(method, path, method === "POST" ? { body } : {}));
      }),
      fuzzed(1_500),
    );
    target.expectBooksIntact();
  },
  FUZZ_TIMEOUT_MS,
);

test(
  "cursors and other parameters get no answer that the document does not have",
  async () => {
    const target = await startTarget();
    const calls = target.document.calls.filter(({ method }) => method === "GET");
    const asked = fc.constantFrom(...calls).chain((call) => {
      const given = (call.operation.parameters ?? []).filter((one: { in: string }) => one.in === "query");
      const known: fc.Arbitrary<[string, string]>[] = given.map((one: { name: string; schema: object }) =>
        fc.tuple(fc.constant(one.name), parameterOf(one.schema)),
      );
      return fc.tuple(fc.constant(call), anyId, fc.array(fc.oneof(...known, fc.tuple(text, text)), { maxLength: 4 }));
    });
    await fc.assert(
      fc.asyncProperty(asked, async ([call, id, given]) => {
        const query = given.map(([name, value]) => `${encoded(name)}=${encoded(value)}`).join("&");
        const path = `${pathOf(call.template, id, target)}${query === "" ? "" : `?${query}`}`;
        expectKnown(target, call, path, await target.ask(methodOf(call), path));
      }),
      fuzzed(1_500),
    );
    target.expectBooksIntact();
  },
  FUZZ_TIMEOUT_MS,
);

test(
  "bodies get no answer that the document does not have, and lease no GPU twice",
  async () => {
    const target = await startTarget();
    const calls = target.document.calls.filter(({ operation }) => operation.requestBody !== undefined);
    const asked = fc.constantFrom(...calls).chain((call) => {
      const { schema } = call.operation.requestBody.content["application/json"];
      const header = fc.record({ "idempotency-key": fc.constantFrom("a", "b"), prefer: text }, { requiredKeys: [] });
      return fc.tuple(fc.constant(call), anyId, bodyOf(schema), header, fc.nat(19));
    });
    await fc.assert(
      fc.asyncProperty(asked, async ([call, id, body, header, passing]) => {
        if (passing === 0) await target.pass(5_000);
        const path = pathOf(call.template, id, target);
        const headers = { ...header, ...(header.prefer === undefined ? {} : { prefer: asField(header.prefer) }) };
        expectKnown(target, call, path, await target.ask(call.method, path, { body, headers }));
      }),
      fuzzed(1_500),
    );
    target.expectBooksIntact();
  },
  FUZZ_TIMEOUT_MS,
);

test(
  "calls of running work refuse what is wrong, and fail at nothing",
  async () => {
    const target = await startTarget();
    const templates = new URL("../../../templates/", import.meta.url);
    const documents = readdirSync(templates).map((name) => readFileSync(new URL(name, templates), "utf8"));
    const calls = target.work.flatMap(({ path, methods }) =>
      Object.keys(methods).map((method) => [method, path] as const),
    );
    // A document that is right, with a piece cut out of it and another put in.
    const damaged = fc
      .tuple(fc.constantFrom(...documents), fc.nat(), fc.nat(60), text)
      .map(([whole, at, length, piece]) => {
        const from = at % whole.length;
        return whole.slice(0, from) + piece + whole.slice(from + length);
      });
    const body = fc.oneof(
      damaged,
      damaged.map((yaml) => JSON.stringify({ yaml })),
      fc
        .dictionary(fc.constantFrom("name", "replicas", "labels", "workloadId", "resources", "id"), fc.jsonValue())
        .map((one) => JSON.stringify(one)),
      text,
    );
    const query = fc.option(fc.tuple(fc.constantFrom("limit", "before", "status", "label", "wait", "tail", "x"), text));
    const type = fc.constantFrom("application/yaml", "application/json", "text/plain");
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(...calls),
        anyId,
        body,
        query,
        type,
        async ([method, template], id, sent, given, contentType) => {
          const after = given === null ? "" : `?${given[0]}=${encoded(given[1])}`;
          const path = `${pathOf(template, id, target)}${after}`;
          const takesBody = method === "POST" || method === "PATCH";
          const ask = takesBody ? { body: sent, headers: { "content-type": contentType } } : {};
          const { status, text: answer } = await target.ask(method, path, ask);
          expect([503].includes(status) || status < 500, `${method} ${path} ${answer}`).toBe(true);
          target.expectSound();
        },
      ),
      fuzzed(1_000),
    );
    target.expectBooksIntact();
  },
  FUZZ_TIMEOUT_MS,
);

const FIELDS =
  `Host|Authorization|X-API-Key|Origin|Content-Type|Content-Length|Transfer-Encoding|Accept|Accept-Encoding|Prefer
Idempotency-Key|Last-Event-ID|Expect|X-Forwarded-For|Connection|Upgrade|Range|If-None-Match|X-Tenant-ID|Cookie`.split(
    /[|\n]/,
  );

test(
  "header fields are answered as the document says, or the connection is closed",
  async () => {
    const key = apiKey("key-of-an-admin-0123456789", "root", "admin");
    const target = await startTarget({
      settings: { auth: { enabled: true, headerName: "X-API-Key" } },
      keys: () => [key],
    });
    const calls = target.document.calls.filter(({ template }) => !STREAMS.has(template));
    const name = fc.oneof(
      { weight: 6, arbitrary: fc.constantFrom(...FIELDS) },
      { weight: 1, arbitrary: fc.string({ maxLength: 20 }) },
    );
    const given = fc.array(fc.tuple(name, text), { maxLength: 6 });
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(...calls),
        given,
        fc.boolean(),
        fc.boolean(),
        async (call, fields, isWhole, hasKey) => {
          const { method, template } = call;
          const lines = fields.map(([field, value]) => `${field}: ${isWhole ? asField(value) : value}`);
          const own = hasKey ? ["X-API-Key: key-of-an-admin-0123456789"] : [];
          const head = [
            `${method} ${template.replace("{id}", "0").replace("{rest}", "x")} HTTP/1.1`,
            "Host: localhost",
            ...own,
            ...lines,
            "Content-Length: 2",
            "Connection: close",
          ];
          const received = exchange(target.daemon.port, `${head.join("\r\n")}\r\n\r\n{}`);
          const soon = await Promise.race([received, new Promise<string>((resolve) => setTimeout(resolve, 2_000, ""))]);
          for (const [status] of answersIn(soon)) {
            const known = [
              ...Object.keys(target.document.responses(method, template)),
              "400",
              "404",
              "405",
              "413",
              "417",
            ];
            expect(known, `${soon}\n${head.join("\n")}`).toContain(String(status));
          }
          target.expectSound();
        },
      ),
      fuzzed(1_000),
    );
    expect((await target.ask("GET", "/livez")).status).toBe(200);
    target.expectBooksIntact();
  },
  FUZZ_TIMEOUT_MS,
);
