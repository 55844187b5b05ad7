import { z } from "zod";
import { PRINCIPAL_NAME } from "../../core/model/ids.ts";
import { ROLES } from "../../core/model/roles.ts";
import { exactly, instant } from "../asking.ts";

const principalError = { error: "expected a name of 1 to 128 characters" };

export const keySchema = exactly({
  principal: z
    .string(principalError)
    .regex(PRINCIPAL_NAME, principalError)
    .meta({ description: "Who will own what is asked for with it", example: "alice" }),
  role: z
    .enum(ROLES, { error: `expected one of ${ROLES.join(", ")}` })
    .meta({ description: "Default: allocate" })
    .nullish(),
  expires: instant("From then on it is nobody's. Default: never").nullable(),
});
