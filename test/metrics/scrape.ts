import { spawnSync } from "node:child_process";
import { createMetrics, type Metrics, type SourceFigures } from "../../src/metrics/metrics.ts";
import { SimulatedDaemon } from "../monitor/simulated/simulated-daemon.ts";

export interface Watched {
  readonly daemon: SimulatedDaemon;
  readonly metrics: Metrics;
  /** The page as a map from a series, as printed, to its value. */
  scrape(accept?: string): Promise<ReadonlyMap<string, number>>;
}

/** A simulated daemon with metrics that have seen it start. */
export async function watched(
  shape: string,
  policy: Parameters<typeof SimulatedDaemon.start>[1] = {},
  source: SourceFigures = { abandonedTotal: 0, stuck: false },
): Promise<Watched> {
  const daemon = await SimulatedDaemon.start(shape, policy);
  const metrics = createMetrics({ version: "1.2.3", clock: daemon.clock, scheduler: daemon.scheduler, source });
  daemon.scheduler.observeWith(metrics);
  return { daemon, metrics, scrape: async (accept) => seriesOf((await metrics.render(accept)).body) };
}

function seriesOf(page: string): ReadonlyMap<string, number> {
  const lines = page.split("\n").filter((line) => line !== "" && !line.startsWith("#"));
  return new Map(
    lines.map((line) => {
      const blank = line.lastIndexOf(" ");
      return [line.slice(0, blank), Number(line.slice(blank + 1))];
    }),
  );
}

/** The series of a family, by what stands in braces. */
export function family(series: ReadonlyMap<string, number>, name: string): { readonly [labels: string]: number } {
  const own = [...series].filter(([key]) => key === name || key.startsWith(`${name}{`));
  return Object.fromEntries(own.map(([key, value]) => [key.slice(name.length).replace(/^\{|\}$/g, ""), value]));
}

/** Whether a program can be run here. */
export function isInstalled(program: string): boolean {
  return spawnSync(program, ["--version"], { stdio: "ignore" }).status === 0;
}
