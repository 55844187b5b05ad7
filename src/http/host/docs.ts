import { drainSchema } from "../../wire/gpus/asks.ts";
import { hostDrainSchema, listSchema, statusSchema } from "../../wire/host/answers.ts";
import { governing, reading } from "../describing.ts";

const HOST_DRAIN = { schema: hostDrainSchema, requestParams: {}, codes: [] } as const;

export const status = reading("status", "The GPUs", statusSchema);

export const list = reading("list", "The GPUs, what holds them, and the queue", listSchema);

export const drain = governing("drainHost", "Admin: no new leases on any GPU, and an end to those that are there", {
  ...HOST_DRAIN,
  body: drainSchema,
});

export const undrain = governing(
  "undrainHost",
  "Admin: new leases again, but on GPUs that are cordoned by themselves",
  { ...HOST_DRAIN, reasonOptional: true },
);
