/**
 * `Idempotency-Key`: a request that is sent again is not asked again (IETF draft-ietf-httpapi-idempotency-key-header).
 *
 *  1. A key belongs to its principal, and stands for one request for as long as its room keeps it: the same operation, path and
 *     body. With another one it is refused.
 *  2. Only a request that changed something is remembered, in the transaction of its change: what was refused may be
 *     tried again under its key, and what was answered is known over a restart.
 *  3. While the first is under way, its waiting for GPUs included, the others are refused. A client that gave up the
 *     first closed its connection, and that ended it.
 */
import { createHash } from "node:crypto";
import type { AllocationId } from "../../core/model/ids.ts";
import type { Answer } from "./answers.ts";
import type { Call } from "./endpoint.ts";
import { HttpError } from "./problems.ts";

const MAX_KEY_LENGTH = 255;
/** Marks an answer to a request that had been made before. */
const REPLAYED: readonly string[] = ["Idempotency-Replayed", "true"];

/** What a caller names a request by. */
interface RequestKey {
  readonly principal: string;
  readonly key: string;
  /** A digest of the request: the same key with another one is a mistake. */
  readonly fingerprint: string;
}

/** Where the keys of changes that were made are kept, each with its change. */
interface KeyRecords {
  /** `undefined`: nothing that changed something was asked under this key, or it is long ago. */
  recall(principal: string, key: string): { readonly fingerprint: string; readonly ids: readonly string[] } | undefined;
}

/** What a request does when it is made first, and when it is made again. */
export interface Repeatable {
  /** @param key to be kept with what it changes. */
  readonly first: (key: RequestKey | null) => Answer | Promise<Answer>;
  /** @param ids the allocations that the first changed; at least one. */
  readonly again: (ids: readonly AllocationId[]) => Answer | Promise<Answer>;
}

export class Idempotency {
  readonly #records: KeyRecords;
  /** Never more than there are connections. */
  readonly #underWay = new Set<string>();

  constructor(records: KeyRecords) {
    this.#records = records;
  }

  /**
   * @param operation tells the calls apart that take a key.
   * @throws HttpError 400 when the key is malformed, 409 while the first is under way, 422 when it was another request.
   */
  answer(operation: string, call: Call, repeatable: Repeatable): Answer | Promise<Answer> {
    const { idempotencyKey: key } = call;
    return key === undefined ? repeatable.first(null) : this.#once(operation, call, wellFormed(key), repeatable);
  }

  async #once(operation: string, call: Call, key: string, { first, again }: Repeatable): Promise<Answer> {
    const { principal } = call.actor;
    const name = JSON.stringify([principal, key]);
    if (this.#underWay.has(name)) {
      throw new HttpError("idempotency-key-in-use", "the first request with this Idempotency-Key is still under way");
    }
    this.#underWay.add(name);
    try {
      const fingerprint = fingerprintOf(operation, call);
      const kept = this.#records.recall(principal, key);
      if (kept === undefined) return await first({ principal, key, fingerprint });
      if (kept.fingerprint !== fingerprint) {
        throw new HttpError("idempotency-key-reused", "this Idempotency-Key was used for another request");
      }
      const answer = await again(kept.ids);
      return { ...answer, headers: [...answer.headers, ...REPLAYED] };
    } finally {
      this.#underWay.delete(name);
    }
  }
}

/** Quotes, which the draft wants and most clients leave out, are part of the key. */
function wellFormed(key: string): string {
  if (key.length > MAX_KEY_LENGTH || !/^[\x21-\x7e]+$/.test(key)) {
    throw new HttpError(
      "malformed-request",
      `an Idempotency-Key has 1 to ${MAX_KEY_LENGTH} printable ASCII characters and no spaces`,
    );
  }
  return key;
}

/** SHA-256 over the request, whatever the order of its members. */
function fingerprintOf(operation: string, { id, body }: Call): string {
  const text = JSON.stringify([operation, id, body ?? null], (_name, value: unknown) =>
    typeof value === "object" && value !== null && !Array.isArray(value)
      ? Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)))
      : value,
  );
  return createHash("sha256").update(text).digest("base64url");
}
