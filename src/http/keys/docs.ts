import { z } from "zod";
import type { ZodOpenApiOperationObject } from "zod-openapi";
import { keysSchema, listedKeySchema, newKeySchema } from "../../wire/keys/answers.ts";
import { keySchema } from "../../wire/keys/asks.ts";
import { answer, bodyOf, CHANGING, problems, reading, WITH_BODY, WITH_KEY } from "../describing.ts";

export const list = reading("listKeys", "Admin: who has keys, and when they were last used", keysSchema);

export const create: ZodOpenApiOperationObject = {
  operationId: "createKey",
  summary: "Admin: a new key, with auth.store: database; two at most a principal",
  requestBody: bodyOf(keySchema, { principal: "alice", role: "allocate" }),
  responses: {
    "201": answer("The key, shown this once", newKeySchema),
    ...problems(...WITH_KEY, ...WITH_BODY, ...CHANGING, "keys-in-file", "too-many-keys"),
  },
};

export const revoke: ZodOpenApiOperationObject = {
  operationId: "revokeKey",
  summary: "Admin: a key of the database is out of force at once, and what it has open ends",
  requestParams: { path: z.object({ id: z.string().meta({ description: "A key's id" }) }) },
  responses: {
    "200": answer("The key that was", listedKeySchema),
    ...problems(...WITH_KEY, ...CHANGING, "key-not-found", "keys-in-file", "revocation-not-durable"),
  },
};
