/** The daemon as a process. */
import { flushCompileCache } from "node:module";
import { startDaemon } from "../daemon/daemon.ts";
import { SETTING_RULES } from "../daemon/setting-rules.ts";
import { boundHeap } from "../platform/heap.ts";
import { load, type ServeOptions } from "./settings.ts";
import { VERSION } from "./version.ts";

/** After SIGTERM the process is gone within this, in ms, whatever still hangs. */
const STOP_DEADLINE_MS = 9_500;

export async function serve(options: ServeOptions): Promise<void> {
  // As ps, top and pgrep name it; by itself it would be one `node` among many.
  process.title = "gpu-orchestrator";
  const loadAgain = () => load(options, SETTING_RULES);
  const daemon = await startDaemon(loadAgain(), loadAgain, VERSION);
  // Before a flag is changed: code that was compiled with others is not taken at the next start.
  flushCompileCache();
  boundHeap();
  process.on("SIGHUP", () => void daemon.reload());
  const stop = () => {
    setTimeout(() => process.exit(0), STOP_DEADLINE_MS).unref();
    void daemon.stop().then(() => process.exit(0));
  };
  process.once("SIGTERM", stop);
  process.once("SIGINT", stop);
}
