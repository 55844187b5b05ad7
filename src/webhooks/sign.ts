import { createHmac } from "node:crypto";

const SECRET_PREFIX = "whsec_";
const BASE64 = /^[A-Za-z0-9+/]+={0,2}$/;

/**
 * The HMAC key of a configured secret: the decoded part after `whsec_`, or the UTF-8 bytes of any other text.
 *
 * @throws {RangeError} when the secret is empty, or what follows `whsec_` is not base64. The secret is not quoted.
 */
export function signingKey(secret: string): Buffer {
  if (secret === "") throw new RangeError("the webhook secret is empty");
  if (!secret.startsWith(SECRET_PREFIX)) return Buffer.from(secret, "utf8");
  const encoded = secret.slice(SECRET_PREFIX.length);
  const key = Buffer.from(encoded, "base64");
  // Buffer.from skips what is not base64: a typing error would become a wrong key without a word.
  if (!BASE64.test(encoded) || key.length === 0 || withoutPadding(key.toString("base64")) !== withoutPadding(encoded)) {
    throw new RangeError(`the webhook secret begins with ${SECRET_PREFIX}, but what follows is not base64`);
  }
  return key;
}

/**
 * The headers of one attempt after Standard Webhooks 1.0.0 (github.com/standard-webhooks/standard-webhooks,
 * spec/standard-webhooks.md): HMAC-SHA256 over `id.timestamp.body`, in base64 behind `v1,`.
 *
 * @param id the same at every attempt.
 * @param wallMs when the attempt is made, by the wall clock: receivers compare it with theirs and refuse what is
 *   more than some minutes off.
 * @param keys each of them signs, as its receivers change from one to the next; none: nothing is signed.
 * @throws {RangeError} when the id has a full stop: it could shift the borders between id, timestamp and body.
 */
export function webhookHeaders(
  id: string,
  wallMs: number,
  body: Buffer,
  keys: readonly Buffer[],
): Record<string, string> {
  if (id.includes(".")) throw new RangeError(`the webhook id ${JSON.stringify(id)} has a full stop`);
  const timestamp = String(Math.floor(wallMs / 1000));
  const headers = { "webhook-id": id, "webhook-timestamp": timestamp };
  if (keys.length === 0) return headers;
  const signatures = keys.map((key) => {
    const signature = createHmac("sha256", key).update(`${id}.${timestamp}.`).update(body).digest("base64");
    return `v1,${signature}`;
  });
  return { ...headers, "webhook-signature": signatures.join(" ") };
}

function withoutPadding(base64: string): string {
  return base64.replace(/=+$/, "");
}
