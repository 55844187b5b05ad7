/** What is told of tasks, sent as the daemon's own webhooks are: the same addresses, signatures and retries. */
import type { Clock } from "../platform/clock.ts";
import type { DeliverySettlement, PendingDelivery } from "../ports/webhooks.ts";
import { type Deliverer, type DeliveryLog, type DeliverySettings, startDelivering } from "../webhooks/deliverer.ts";
import type { TaskDeliveries, WorkService } from "../work-service/service.ts";

type Row = ReturnType<TaskDeliveries["due"]>[number];
type Kind = Row["kind"];

interface Given {
  readonly clock: Clock;
  readonly settings: DeliverySettings;
  readonly log: DeliveryLog;
  readonly settled: (settlement: Pick<DeliverySettlement, "outcome">) => void;
}

/** @returns `null` when work is switched off. */
export function deliverTasks({ deliveries }: Pick<WorkService, "deliveries">, given: Given): Deliverer | null {
  if (deliveries === null) return null;
  const { settled, ...rest } = given;
  const deliverer = startDelivering<Kind>({
    ...rest,
    outbox: {
      due: (now, limit) => deliveries.due(now, limit).map(asPending),
      nextDueAt: () => deliveries.nextDueAt(),
    },
    bodyAsSent: (row) => deliveries.bodyOf((row as AsPending).row),
    settle: async ({ deliveryId: id, ...settlement }) => {
      deliveries.settle({ id, ...settlement });
      settled(settlement);
    },
  });
  deliveries.onMore(() => deliverer.wake());
  return deliverer;
}

interface AsPending extends PendingDelivery<Kind> {
  readonly row: Row;
}

function asPending(row: Row): AsPending {
  const { id: deliveryId, task: taskId, kind: status, headers, body, ...rest } = row;
  const named = Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]);
  return {
    ...rest,
    row,
    deliveryId,
    taskId,
    allocationId: null,
    status,
    headers: Object.fromEntries(named),
    body: body ?? "",
  };
}
