/** Sections whose names the user chooses, and what stands below each. */
import { z } from "zod";
import { type Read, Refusal, refuse, show } from "./settings.ts";

interface Names {
  /** As the settings show a line of it. */
  readonly lines: string;
  readonly most: number;
}

/** What stands below a name, by a schema of its own, so that everything that is wrong with it is told. */
export function sectionsByName<T extends z.ZodType>(name: Read<string>, below: T, { lines, most }: Names) {
  return z
    .unknown()
    .transform((value, context): Readonly<Record<string, z.output<T>>> => {
      const given = value ?? {};
      if (typeof given !== "object" || Array.isArray(given)) {
        // Text is not shown: it may be a secret that belongs one key up.
        const got = typeof given === "string" ? "text" : show(given);
        refuse(context, new Refusal(`expected a section of \`${lines}\` lines, got ${got}`));
        return z.NEVER;
      }
      const entries = Object.entries(given);
      if (entries.length > most) {
        refuse(context, new Refusal(`holds ${entries.length} lines, more than ${most}`));
        return z.NEVER;
      }
      const found: [string, z.output<T>][] = [];
      for (const [key, item] of entries) {
        const named = name(key);
        if (named instanceof Refusal) refuse(context, new Refusal(named.message, named.hint, [key]));
        const result = below.safeParse(item);
        for (const issue of result.error?.issues ?? []) context.addIssue({ ...issue, path: [key, ...issue.path] });
        if (result.success) found.push([key, result.data]);
      }
      return Object.fromEntries(found);
    })
    .prefault({});
}
