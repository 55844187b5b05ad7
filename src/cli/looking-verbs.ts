/** The verbs that look at the host. */
import type { Command } from "commander";
import { verb } from "./program.ts";

const look = () => import("./verbs/look.ts");

const VERBS: Readonly<Record<string, (program: Command) => unknown>> = {
  status: (program) =>
    verb(program, "status", "who has which GPU, and why others are not free", "gpuo status")
      .option("--watch", "again every 2 s")
      .action(async (options) => (await look()).status(options)),
  queue: (program) =>
    verb(program, "queue", "who waits, for what and for how long", "gpuo queue")
      .option("--watch", "again every 2 s")
      .action(async (options) => (await look()).queue(options)),
  leases: (program) =>
    verb(program, "leases", "who holds what, and until when", "gpuo leases")
      .option("--watch", "again every 2 s")
      .action(async (options) => (await look()).leases(options)),
  top: (program) =>
    verb(program, "top", "GPUs, leases and queue in one screen, live", "gpuo top").action(async (options) =>
      (await import("./top/top.ts")).top(options),
    ),
  history: (program) =>
    verb(program, "history", "what has ended, and why", "gpuo history --limit 20")
      .option("--limit <n>", "how many, newest first, up to 1000", "50")
      .option("--mine", "only your own")
      .action(async (options) => (await look()).history(options)),
  why: (program) =>
    verb(program, "why", "in words why something waits, was granted, or is not", "gpuo why 3")
      .argument("<id|gpu>", "an id or the beginning of one; a GPU's index or UUID")
      .action(async (name, options) => (await import("./verbs/why.ts")).why(name, options)),
  show: (program) =>
    verb(program, "show", "everything about one allocation or GPU", "gpuo show 3")
      .argument("<id|gpu>", "an id or the beginning of one; a GPU's index or UUID")
      .action(async (name, options) => (await look()).show(name, options)),
};

/** @param only the one that is called, where that is known: what is not asked for need not be made. */
export function lookingVerbs(program: Command, only?: string): void {
  for (const [name, add] of Object.entries(VERBS)) if (only === undefined || name === only) add(program);
}
