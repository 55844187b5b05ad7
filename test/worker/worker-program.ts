/** A worker as a process of its own, from source: its settings come as JSON in a file. */
import { readFileSync } from "node:fs";
import { createLogger } from "../../src/platform/logger.ts";
import { startWorker } from "../../src/worker/worker.ts";

const { settings, logLevel } = JSON.parse(readFileSync(process.argv[2] as string, "utf8"));
const worker = startWorker(settings, createLogger(logLevel));
process.once("SIGTERM", () => worker.stop());
await worker.done;
