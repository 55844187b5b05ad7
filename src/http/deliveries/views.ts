import { printable } from "../../platform/printable.ts";
import type { DeliveryRecord } from "../../ports/webhooks.ts";
import type { DeliveryAnswer } from "../../wire/deliveries/answers.ts";
import { instant, text, timestamp } from "../../wire/values.ts";

/** What became of one webhook so far. */
export function deliveryView(record: DeliveryRecord): DeliveryAnswer {
  return {
    id: record.deliveryId,
    allocation_id: record.allocationId,
    status: record.status,
    url: printable(record.url),
    state: record.state,
    attempts: record.attempts,
    created_at: timestamp(record.createdAt),
    last_attempt_at: instant(record.lastAttemptAt),
    next_attempt_at: instant(record.nextAttemptAt),
    settled_at: instant(record.settledAt),
    http_status: record.httpStatus,
    error: text(record.error),
  };
}
