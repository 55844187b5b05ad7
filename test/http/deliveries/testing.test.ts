/** `POST /gpu/webhooks/test`: who may, where to, and what is told of it. */
import { expect, test } from "vitest";
import type { TestOutcome } from "../../../src/ports/webhooks.ts";
import { apiKey, startDaemon } from "../daemon.ts";
import { Described } from "../described.ts";

const HOOK = "http://hooks.example.org/gpu";
const TAKEN: TestOutcome = { deliveryId: "msg_test-1", httpStatus: 204, error: null, isSigned: true, tookMs: 3.4 };

/** A daemon whose tests come to `came`; `sent` is what was to be sent. */
async function startTesting(came: TestOutcome | null) {
  const sent: { url: string; principal: string; body: string }[] = [];
  const daemon = await startDaemon({
    settings: { auth: { enabled: true, headerName: "X-API-Key" } },
    keys: () => [apiKey("bob", "bob"), apiKey("eye", "eye", "read"), apiKey("ada", "ada", "admin")],
    checkWebhookUrl: (url) => (url.includes("10.") ? "a private address" : null),
    webhookTester: () => ({
      test: async (url, principal, body) => {
        sent.push({ url, principal, body });
        return came;
      },
    }),
  });
  const document = new Described((await daemon.call("GET", "/openapi.json")).json);
  const ask = async (key: string, body: object) => {
    const reply = await daemon.call("POST", "/gpu/webhooks/test", { body, headers: { "X-API-Key": key } });
    document.expect("POST", "/gpu/webhooks/test", reply);
    return reply;
  };
  return { ask, sent };
}

test("whoever may lease sends one in its own name, and is told what came of it", async () => {
  const { ask, sent } = await startTesting(TAKEN);
  const { status, json } = await ask("bob", { url: HOOK });
  expect([status, json]).toEqual([
    200,
    { id: "msg_test-1", delivered: true, http_status: 204, error: null, signed: true, took_ms: 3 },
  ]);
  expect(sent.map(({ url, principal }) => [url, principal])).toEqual([[HOOK, "bob"]]);
  expect(JSON.parse(sent[0]?.body ?? "")).toMatchObject({ status: "test", by: "bob" });
});

test("it goes nowhere that webhooks may not go, and nobody who only reads sends one", async () => {
  const { ask, sent } = await startTesting(TAKEN);
  const { json } = await ask("bob", { url: "http://10.0.0.1/" });
  expect(json.errors).toEqual([{ path: "url", message: "a private address" }]);
  expect((await ask("eye", { url: HOOK })).json.code).toBe("role-too-low");
  expect((await ask("bob", {})).json.code).toBe("validation-failed");
  expect(sent).toEqual([]);
});

test("why there was no answer would tell of other hosts, and is for admins", async () => {
  const { ask } = await startTesting({ ...TAKEN, httpStatus: null, error: "the connection was refused" });
  const told = { delivered: false, http_status: null };
  expect((await ask("ada", { url: HOOK })).json).toMatchObject({ ...told, error: "the connection was refused" });
  expect((await ask("bob", { url: HOOK })).json).toMatchObject({ ...told, error: "no answer; an admin is told why" });
});

test("what the receiver answered is told to all", async () => {
  const { ask } = await startTesting({ ...TAKEN, httpStatus: 500, error: "the receiver answered 500" });
  expect((await ask("bob", { url: HOOK })).json).toMatchObject({
    delivered: false,
    error: "the receiver answered 500",
  });
});

test("while too many are under way the caller is asked to come again", async () => {
  const { ask } = await startTesting(null);
  const { status, json, headers } = await ask("bob", { url: HOOK });
  expect([status, json.code, headers["retry-after"]]).toEqual([429, "limit-reached", "5"]);
});
