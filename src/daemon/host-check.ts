/** What this host lacks for these settings: said by check-config too, before a start meets it. */
import type { Config } from "../config/config.ts";
import { whyNotRunnable } from "../monitor/nvidia-smi/program.ts";
import { IN_MEMORY } from "../store/open.ts";
import { whyUnusable } from "../store/usable.ts";

export function hostTroubles({ storage, monitoring }: Pick<Config, "storage" | "monitoring">): readonly string[] {
  const database = storage.path === IN_MEMORY ? null : whyUnusable(storage.path);
  const program = monitoring.source === "simulated" ? null : whyNotRunnable(monitoring.nvidiaSmiPath);
  return [
    ...(database === null ? [] : [`storage.path: ${database}`]),
    ...(program === null ? [] : [`monitoring.nvidia_smi_path: ${program}`]),
  ];
}
