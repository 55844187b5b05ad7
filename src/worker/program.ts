/** The worker as the command line starts it: from the same settings as the daemon's. */
import { existsSync } from "node:fs";
import { hostname } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import type { Config } from "../config/config.ts";
import { beside } from "../platform/executable.ts";
import { createLogger, logFileOf, reopenLog } from "../platform/logger.ts";
import type { WorkerSettings } from "./settings.ts";
import { startWorker } from "./worker.ts";

export { WORKER_RULES } from "./setting-rules.ts";

/**
 * Serves until it is told to stop, or a newer worker has come. Runs go on either way.
 *
 * @param env as MLOC has it: `WORKER_ID`, `WORKER_TAGS`, `TASK_TOPICS`, `RESULTS_DIR`, over the settings.
 */
export async function runWorker(config: Config, env: Readonly<Record<string, string | undefined>>): Promise<void> {
  const { work, logging } = config;
  const list = (text: string | undefined) =>
    (text ?? "")
      .split(",")
      .map((part) => part.trim())
      .filter(Boolean);
  const settings: WorkerSettings = {
    work,
    dir: resolve(work.dir),
    resultsDir: resolve(env.RESULTS_DIR || work.resultsDir),
    node: env.WORKER_ID || work.node || hostname(),
    tags: env.WORKER_TAGS === undefined ? work.tags : list(env.WORKER_TAGS),
    topics: list(env.TASK_TOPICS),
    programs: programs(),
  };
  const log = createLogger(logging.level, logging.file === null ? null : logFileOf("worker", logging.file));
  process.on("SIGHUP", () => reopenLog(log));
  const worker = startWorker(settings, log);
  for (const signal of ["SIGTERM", "SIGINT"] as const) process.once(signal, () => worker.stop());
  // So that what keeps it running starts another, in the folder that is there then.
  if ((await worker.done) === "homeless") process.exitCode = 1;
}

/** Beside the built program, or as sources; the executable carries all but the Python, which is beside it. */
function programs(): WorkerSettings["programs"] {
  const python = beside("executors/python");
  if (python !== null) {
    return { holder: "work:holder", standIn: "work:stand-in", vllmTask: "work:vllm-task", python };
  }
  const here = dirname(fileURLToPath(import.meta.url));
  const built = join(here, "work");
  if (existsSync(join(built, "holder.js"))) {
    return {
      holder: join(built, "holder.js"),
      standIn: join(built, "stand-in.js"),
      vllmTask: join(built, "vllm-task.js"),
      python: join(here, "executors/python"),
    };
  }
  return {
    holder: join(here, "holder.ts"),
    standIn: join(here, "executors/stand-in.ts"),
    vllmTask: join(here, "executors/vllm-task.ts"),
    python: join(here, "../../executors/python"),
  };
}
