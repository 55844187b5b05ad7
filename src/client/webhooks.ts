/** Webhooks, verified as Standard Webhooks 1.0.0 has it. By WebCrypto, so that it works wherever `fetch` does. */

const TOLERANCE_MS = 300_000;
const PREFIX = "whsec_";

/** It is not from the daemon, too old, or was changed on the way. */
export class WebhookError extends Error {
  override readonly name = "WebhookError";
}

export interface Verifying {
  readonly toleranceMs?: number;
  readonly now?: number;
}

/**
 * The webhook's content, when it is the daemon's.
 *
 * @param body what arrived, to the byte: not parsed and written anew.
 * @throws {WebhookError}
 */
export async function verifyWebhook(
  body: string,
  headers: Readonly<Record<string, string | undefined>>,
  secret: string,
  { toleranceMs = TOLERANCE_MS, now = Date.now() }: Verifying = {},
): Promise<unknown> {
  const fields = new Map(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]));
  const [id, stamp, signatures] = ["id", "timestamp", "signature"].map((name) => {
    const value = fields.get(`webhook-${name}`);
    if (value === undefined) throw new WebhookError(`the header webhook-${name} is missing`);
    return value;
  }) as [string, string, string];
  if (!/^\d+$/.test(stamp) || Math.abs(now - Number(stamp) * 1_000) > toleranceMs) {
    throw new WebhookError("its time is too far from ours");
  }
  const key = await crypto.subtle.importKey("raw", keyOf(secret), { name: "HMAC", hash: "SHA-256" }, false, ["verify"]);
  const content = new TextEncoder().encode(`${id}.${stamp}.${body}`);
  for (const one of signatures.split(" ")) {
    const signature = one.startsWith("v1,") ? bytesOf(one.slice(3)) : null;
    if (signature !== null && (await crypto.subtle.verify("HMAC", key, signature, content))) return JSON.parse(body);
  }
  throw new WebhookError("no signature fits");
}

/** What follows `whsec_` is base64; any other text is the key itself. */
function keyOf(secret: string): Uint8Array<ArrayBuffer> {
  if (!secret.startsWith(PREFIX)) return new TextEncoder().encode(secret);
  const key = bytesOf(secret.slice(PREFIX.length));
  if (key === null) throw new WebhookError(`the secret begins with ${PREFIX}, but what follows is not base64`);
  return key;
}

function bytesOf(base64: string): Uint8Array<ArrayBuffer> | null {
  try {
    return Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  } catch {
    return null;
  }
}
