/** The verb that is the daemon. */
import type { Command } from "commander";
import { hostVerb } from "./program.ts";
import type { ServeOptions } from "./settings.ts";

/** @param serve loads the daemon, or has it. */
export function serveVerb(program: Command, serve: (options: ServeOptions) => Promise<void>): void {
  hostVerb(program, "serve", "serve the GPUs of this host", "gpuo serve --simulate h100x8")
    .option("--config <file>", "settings in YAML (default: $CONFIG_PATH, else ./config.yaml if it exists)")
    .option("--host <address>", "address to listen on, over the settings'")
    .option("--port <number>", "port to listen on, over the settings'")
    .option("--simulate <host>", "serve simulated GPUs, such as h100x8, instead of this host's")
    .option("--mloc", "as MLOC's orchestrator: port 8000, ./results, and its workers if $REDIS_URL is set")
    .action(serve);
}
