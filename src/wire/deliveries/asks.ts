import { z } from "zod";
import { DELIVERY_STATES } from "../../ports/webhooks.ts";
import { allocationId, exactly, pageSize, webhookUrl } from "../asking.ts";

export const testSchema = exactly({
  url: webhookUrl.meta({ description: "Where it is sent, if webhooks.allowed_hosts allows it" }),
});

export const deliveriesQuerySchema = exactly({
  state: z.enum(DELIVERY_STATES, { error: `expected one of ${DELIVERY_STATES.join(", ")}` }).optional(),
  allocation_id: allocationId.meta({ description: "Only those about this allocation" }).optional(),
  before: allocationId.meta({ description: "The `next` of the page before" }).optional(),
  limit: pageSize,
});
