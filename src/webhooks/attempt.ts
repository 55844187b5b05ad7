import type { EpochMs } from "../core/base/time.ts";
import type { DeliverySettlement, PendingDelivery } from "../ports/webhooks.ts";
import { nextAttemptAt, parseRetryAfter } from "./backoff.ts";
import { type Answer, type PostingContext, post } from "./post.ts";
import { webhookHeaders } from "./sign.ts";

const USER_AGENT = "gpu-orchestrator";
/** The receiver wants no more of this (Standard Webhooks 1.0.0, "Delivery success and failure"). */
const GONE = 410;
/** Statuses with which `Retry-After` is heeded. */
const THROTTLING: ReadonlySet<number> = new Set([429, 503]);

/** Why an attempt was aborted when not by its deadline. */
export const STOPPED = new Error("the daemon stops");

interface AttemptContext extends PostingContext {
  /** Each of them signs. */
  readonly keys: readonly Buffer[];
  /** For the whole exchange, from resolving the name to the end of the answer. */
  readonly timeoutMs: number;
  readonly giveUpAfterMs: number;
  /** The wall clock, for what receivers compare with their own; `clock` does not follow it. */
  readonly wallNow: () => EpochMs;
  readonly random: () => number;
}

/** A row that is due, with what is sent of it now. */
type Due = Omit<PendingDelivery<string>, "body"> & { readonly body: string | Promise<Buffer | string> };

/**
 * Makes one attempt to deliver and says what came of it. 2xx is delivered, 410 ends the delivery, and everything
 * else, redirects included, is tried again until its time is over.
 *
 * @param ending ends the attempt: by its deadline here, or with {@link STOPPED} from outside.
 * @returns `null` when it was stopped before the receiver answered: nothing is known then, and nothing to settle.
 */
export async function attempt(
  delivery: Due,
  context: AttemptContext,
  ending: AbortController,
): Promise<DeliverySettlement<string> | null> {
  let body: Buffer;
  try {
    body = Buffer.from(await delivery.body);
  } catch (error) {
    const { message, isFinal } = error as Error & { readonly isFinal?: boolean };
    return settlementOf(delivery, { httpStatus: null, error: message }, context, isFinal === true);
  }
  const headers = {
    ...delivery.headers,
    "content-type": "application/json",
    "user-agent": USER_AGENT,
    ...webhookHeaders(delivery.deliveryId, context.wallNow(), body, context.keys),
  };
  const cancel = context.clock.after(context.timeoutMs, () => {
    ending.abort(new Error(`no answer within ${context.timeoutMs} ms`));
  });
  const answer = await post({ url: delivery.url, headers, body }, context, ending.signal);
  cancel();
  if (answer.httpStatus === null && ending.signal.reason === STOPPED) return null;
  return settlementOf(delivery, answer, context);
}

function settlementOf(
  delivery: Due,
  answer: Answer,
  context: AttemptContext,
  isLast = answer.httpStatus === GONE,
): DeliverySettlement<string> {
  const { deliveryId, allocationId, status } = delivery;
  const { httpStatus } = answer;
  const at = context.clock.now();
  const facts = { deliveryId, allocationId, status, at, httpStatus };
  if (httpStatus !== null && httpStatus >= 200 && httpStatus <= 299) {
    return { ...facts, outcome: "delivered", nextAttemptAt: null, error: null };
  }
  const error = httpStatus === null ? answer.error : `the receiver answered ${httpStatus}`;
  if (isLast) return { ...facts, outcome: "gave-up", nextAttemptAt: null, error };
  const retryAt = nextAttemptAt(
    {
      attempts: delivery.attempts + 1,
      now: at,
      createdAt: delivery.createdAt,
      giveUpAfterMs: context.giveUpAfterMs,
      retryAfterMs: retryAfterMs(answer, context.wallNow()),
    },
    context.random,
  );
  return { ...facts, outcome: retryAt === null ? "gave-up" : "retry", nextAttemptAt: retryAt, error };
}

function retryAfterMs(answer: Answer, wallMs: EpochMs): number | null {
  if (answer.httpStatus === null || answer.retryAfter === null || !THROTTLING.has(answer.httpStatus)) return null;
  return parseRetryAfter(answer.retryAfter, wallMs);
}
