import { z } from "zod";
import type { ZodOpenApiOperationObject } from "zod-openapi";
import { gpuRemovedSchema, gpuSchema, gpuWhySchema } from "../../wire/gpus/answers.ts";
import { drainSchema } from "../../wire/gpus/asks.ts";
import { answer, governing, problems, WITH_KEY } from "../describing.ts";

export const gpuPath = {
  path: z.object({ id: z.string().meta({ description: "A GPU's UUID, or its index", example: "0" }) }),
};
const ONE_GPU = { schema: gpuSchema, requestParams: gpuPath, codes: ["gpu-not-found"] } as const;

export const why: ZodOpenApiOperationObject = {
  operationId: "explainGpu",
  summary: "In words why this GPU is granted or is not",
  requestParams: gpuPath,
  responses: { "200": answer("Why", gpuWhySchema), ...problems(...WITH_KEY, "gpu-not-found") },
};

export const remove = governing("removeGpu", "Admin: strike off a GPU that is gone for good", {
  schema: gpuRemovedSchema,
  requestParams: gpuPath,
  codes: ["gpu-not-found", "gpu-in-use"],
  reasonOptional: true,
});

export const cordon = governing("cordonGpu", "Admin: no new leases on this GPU; what runs there runs on", ONE_GPU);

export const uncordon = governing("uncordonGpu", "Admin: new leases on this GPU again", {
  ...ONE_GPU,
  reasonOptional: true,
});

export const drain = governing("drainGpu", "Admin: no new leases on this GPU, and an end to those that are there", {
  ...ONE_GPU,
  body: drainSchema,
});

export const clearQuarantine = governing(
  "clearQuarantine",
  "Admin: what an ended lease left on this GPU no longer counts",
  ONE_GPU,
);
