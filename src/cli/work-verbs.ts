/** The verbs of work, and that of the worker's own host. */
import type { Command } from "commander";
import { hostVerb, verb } from "./program.ts";

export function workVerbs(program: Command): void {
  const work = () => import("./verbs/work.ts");
  verb(
    program,
    "submit",
    "run a task, or a service, that a YAML file describes",
    "gpuo submit templates/batch-inference.yaml",
  )
    .argument("<file>", "the file; -: standard input")
    .option("--dry-run", "say what would become of it: node, GPUs, command line")
    .action(async (file, options) => (await work()).submit(file, options));
  verb(program, "ps", "what runs: tasks and services", "gpuo ps")
    .option("--all", "tasks that are over, too")
    .option("--watch", "again every 2 s")
    .action(async (options) => (await work()).ps(options));
  verb(program, "logs", "what a task, a service or a run writes", "gpuo logs -f task-01k")
    .argument("<id>", "of a task, workload or run, or the beginning of one")
    .option("-f, --follow", "go on until it ends")
    .option("--tail <n>", "so many lines of what was written before, up to 10000", "200")
    .option("--since <time>", "from then on: 10m, or an instant")
    .option("--stream <name>", "stdout, stderr or both (the default)")
    .action(async (id, options) => (await work()).logs(id, options));
  verb(program, "stop", "cancel tasks, delete services, stop runs", "gpuo stop task-01k")
    .argument("<id...>", "of tasks, workloads or runs")
    .action(async (ids, options) => (await work()).stop(ids, options));
  verb(program, "results", "the result of a task, as JSON", "gpuo results task-01k")
    .argument("<id>", "of a task, or the beginning of one")
    .action(async (id, options) => (await work()).results(id, options));
  verb(program, "scale", "change how many replicas a service has", "gpuo scale my-model 3")
    .argument("<id>", "of a workload, or the beginning of one")
    .argument("<replicas>", "how many")
    .action(async (id, replicas, options) => (await work()).scale(id, replicas, options));
  verb(program, "adopt-run", "take what runs of lost books into the new ones", "gpuo adopt-run run-task-01k-0-1")
    .argument("[run...]", "each with the others of its task or service; none: which there are")
    .action(async (runs, options) => (await work()).adoptRuns(runs, options));
  verb(program, "workers", "the workers that run it", "gpuo workers").action(async (options) =>
    (await work()).workers(options),
  );
  hostVerb(program, "worker", "run the work of this host's daemon, until stopped", "gpuo worker --config my.yaml")
    .option("--config <file>", "settings in YAML (default: as for serve)")
    .option("--simulate <host>", "of a daemon that was started with it")
    .action(async (options: { readonly config?: string; readonly simulate?: string }) => {
      const [{ load }, { runWorker, WORKER_RULES }] = await Promise.all([
        import("./settings.ts"),
        import("../worker/program.ts"),
      ]);
      await runWorker(load(options, WORKER_RULES).config, process.env);
      process.exit();
    });
}
