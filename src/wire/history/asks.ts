import { z } from "zod";
import { instant } from "../asking.ts";

export const historyQuerySchema = z.strictObject({
  from: instant("Where it begins. Default: 24 h before `to`"),
  to: instant("Where it ends. Default: now"),
});
