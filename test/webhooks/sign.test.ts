import { Webhook } from "standardwebhooks";
import { expect, test } from "vitest";
import { signingKey, webhookHeaders } from "../../src/webhooks/sign.ts";

const BODY = '{"status":"allocated","name":"größe 🚀"}';
const WHSEC = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

test.each([
  ["whsec_ and base64", WHSEC, new Webhook(WHSEC)],
  ["whsec_ and base64 without its padding", "whsec_c2VjcmV0IQ", new Webhook("whsec_c2VjcmV0IQ==")],
  ["raw text", "correct horse battery staple", new Webhook("correct horse battery staple", { format: "raw" })],
])("the standardwebhooks package verifies a signature by a secret of %s", (_form, secret, oracle) => {
  const now = Date.now();

  const headers = webhookHeaders("01k0delivery", now, Buffer.from(BODY), [signingKey(secret)]);

  expect(oracle.verify(BODY, headers)).toEqual(JSON.parse(BODY));
  expect(headers["webhook-signature"]).toBe(oracle.sign("01k0delivery", new Date(now), BODY));
  expect(() => oracle.verify(`${BODY} `, headers)).toThrow();
  expect(() => oracle.verify(BODY, { ...headers, "webhook-id": "another" })).toThrow();
});

test("while a secret is replaced both sign, and a receiver that knows either verifies", () => {
  const keys = [WHSEC, "the old secret of this service"].map(signingKey);
  const headers = webhookHeaders("01k0delivery", Date.now(), Buffer.from(BODY), keys);
  expect(String(headers["webhook-signature"]).split(" ")).toHaveLength(2);
  for (const oracle of [new Webhook(WHSEC), new Webhook("the old secret of this service", { format: "raw" })]) {
    expect(oracle.verify(BODY, headers)).toEqual(JSON.parse(BODY));
  }
});

test("the timestamp is in whole seconds", () => {
  const headers = webhookHeaders("id", 1_800_000_000_999, Buffer.from("{}"), [signingKey("secret")]);
  expect(headers["webhook-timestamp"]).toBe("1800000000");
});

test("without a secret the id and the time are sent, and no signature", () => {
  expect(webhookHeaders("id", 1_800_000_000_000, Buffer.from("{}"), [])).toEqual({
    "webhook-id": "id",
    "webhook-timestamp": "1800000000",
  });
});

test.each(["", "whsec_", "whsec_not base64!", "whsec_a", "whsec_====", "whsec_YWJj YWJj", "whsec_YWJj-_"])(
  "the secret %j is refused and not quoted",
  (secret) => {
    expect(() => [signingKey(secret)]).toThrow(RangeError);
    expect(() => [signingKey(secret)]).not.toThrow(/YWJj|not base64!/);
  },
);

test("an id with a full stop is refused, for it could pass for a timestamp", () => {
  expect(() => webhookHeaders("svc.1800000000", 0, Buffer.from("{}"), [signingKey("secret")])).toThrow(RangeError);
});
