/** The verbs that look at the host. */
import type { Command } from "commander";
import { verb } from "./program.ts";

export function lookingVerbs(program: Command): void {
  const look = () => import("./verbs/look.ts");
  verb(program, "status", "who has which GPU, and why others are not free", "gpuo status")
    .option("--watch", "again every 2 s")
    .action(async (options) => (await look()).status(options));
  verb(program, "queue", "who waits, for what and for how long", "gpuo queue")
    .option("--watch", "again every 2 s")
    .action(async (options) => (await look()).queue(options));
  verb(program, "leases", "who holds what, and until when", "gpuo leases")
    .option("--watch", "again every 2 s")
    .action(async (options) => (await look()).leases(options));
  verb(program, "top", "GPUs, leases and queue in one screen, live", "gpuo top").action(async (options) =>
    (await import("./top/top.ts")).top(options),
  );
  verb(program, "history", "what has ended, and why", "gpuo history --limit 20")
    .option("--limit <n>", "how many, newest first", "50")
    .option("--mine", "only your own")
    .action(async (options) => (await look()).history(options));
  verb(program, "why", "in words why something waits, was granted, or is not", "gpuo why 3")
    .argument("<id|gpu>", "an id or the beginning of one; a GPU's index or UUID")
    .action(async (name, options) => (await import("./verbs/why.ts")).why(name, options));
  verb(program, "show", "everything about one allocation or GPU", "gpuo show 3")
    .argument("<id|gpu>", "an id or the beginning of one; a GPU's index or UUID")
    .action(async (name, options) => (await look()).show(name, options));
}
