/** MiB by GPU, as `GPU: MIB` lines. */
import { z } from "zod";
import type { MemoryByGpu } from "../core/model/policy.ts";
import { integer, Refusal, refuse, show, text } from "./settings.ts";

const MAX_LINES = 1_024;
const gpuName = text("a UUID, or a part of a model's name", /^[^\p{Cc}]{1,128}$/u);
const mib = integer(0, 100_000_000);

export function memoryByGpu() {
  return z
    .unknown()
    .transform((value, context): MemoryByGpu => {
      const given = value ?? {};
      if (typeof given !== "object" || Array.isArray(given)) {
        refuse(context, new Refusal(`expected a section of \`GPU: MIB\` lines, got ${show(given)}`));
        return z.NEVER;
      }
      const entries = Object.entries(given);
      if (entries.length > MAX_LINES) {
        refuse(context, new Refusal(`holds ${entries.length} lines, more than ${MAX_LINES}`));
        return z.NEVER;
      }
      const found: [string, number][] = [];
      for (const [key, below] of entries) {
        const [name, size] = [gpuName(key), mib(below)];
        for (const part of [name, size]) {
          if (part instanceof Refusal) refuse(context, new Refusal(part.message, part.hint, [key]));
        }
        if (typeof size === "number") found.push([key, size]);
      }
      return Object.fromEntries(found);
    })
    .prefault({});
}
