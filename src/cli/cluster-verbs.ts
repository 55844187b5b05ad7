/** The verb that serves workloads, and those that look at them and change them. */
import type { Command } from "commander";
import { VERSION } from "./version.ts";

type Verb = (program: Command, name: string, summary: string, example: string) => Command;

export function clusterVerbs(program: Command, verb: Verb): void {
  program
    .command("controller")
    .summary("serve LLMWorkloads and deployments, until stopped")
    .description("serve LLMWorkloads and deployments, until stopped")
    .option("--config <file>", "settings in YAML: the first seed's config.yaml is one")
    .option("--backend <name>", "host: replicas on the leases of this host's daemon; else kubernetes")
    .option("--kubeconfig <file>", "of the cluster (default: $KUBECONFIG, ~/.kube/config, or the pod's account)")
    .option("--context <name>", "one of the kubeconfig's")
    .option("--allow-insecure", "take a kubeconfig that skips the verification of TLS")
    .option("--leader-election-id <name>", "name of the Lease (default: llm-orchestrator-leader)")
    .option("--leader-elect", "one of several controllers decides (the default)")
    .option("--no-leader-elect", "this is the only one")
    .option("--namespace <name>", "workloads of this namespace only (default: of all)")
    .option("--metrics-bind-address <address>", "also answer /metrics there, without a key: :8080 (default: none)")
    .option("--health-probe-bind-address <address>", "also answer /healthz and /readyz there: :8081 (default: none)")
    .option("--zap-log-level <level>", "debug, info, warn or error")
    .option("--zap-encoder <name>", "taken, as the LLM Orchestrator's manifest has it: the log is JSON in any case")
    .option("--simulate <host>", "on simulated GPUs, such as h100x8, with a daemon of its own")
    .option("--host <address>", "address to listen on (default: 127.0.0.1)")
    .option("--port <number>", "port to listen on (default: $PORT, else 8003)")
    .action(async (options) => {
      await (await import("../controller/program.ts")).runController(options, VERSION);
      process.exit();
    });
  const cluster = () => import("./verbs/cluster.ts");
  const group = program
    .command("cluster")
    .summary("workloads of a controller: apply, workloads, scale, nodes")
    .description("workloads of a controller; --url, or $GPU_ORCHESTRATOR_CONTROLLER_URL, says where it is");
  verb(group, "apply", "make or change workloads and models from a file", "gpuo cluster apply -f workload.yaml")
    .requiredOption("-f, --file <file>", "YAML or JSON; -: standard input")
    .action(async (options) => (await cluster()).apply(options));
  verb(group, "workloads", "ls, get, why, events or rm", "gpuo cluster workloads ls")
    .argument("<what>", "ls, get, why, events or rm")
    .argument("[name]", "of a workload")
    .action(async (what, name, options) => (await cluster()).workloads(what, name, options));
  verb(group, "scale", "change how many replicas a workload has", "gpuo cluster scale my-llm 3")
    .argument("<name>", "of a workload")
    .argument("<replicas>", "how many, or auto: as the load wants it")
    .action(async (name, replicas, options) => (await cluster()).scale(name, replicas, options));
  verb(group, "rollout", "status, undo, promote or abort", "gpuo cluster rollout undo my-llm")
    .argument("<what>", "status: how far it is, and its revisions; undo: back to an earlier one")
    .argument("<name>", "of a workload")
    .option("--to <number>", "undo: to this revision (default: to the one before)")
    .action(async (what, name, options) => (await cluster()).rollout(what, name, options));
  verb(group, "nodes", "ls, drain, cordon or uncordon", "gpuo cluster nodes ls")
    .argument("<what>", "ls, drain, cordon or uncordon")
    .argument("[node]", "its name")
    .option("--deadline <seconds>", "drain: until then what refuses is asked again (default: 300)")
    .option("--force", "drain: what is left at the deadline is deleted")
    .action(async (what, node, options) => (await cluster()).nodes(what, node, options));
  group
    .command("crds")
    .summary("print the CRDs for a Kubernetes cluster")
    .description("print the CRDs for a Kubernetes cluster; they go over those of the LLM Orchestrator")
    .option("--no-cel", "without rules in CEL: for servers before 1.25")
    .action(async ({ cel }) => (await cluster()).printCrds(cel));
  group
    .command("manifests")
    .summary("print all that the controller needs in a Kubernetes cluster")
    .description("print all that the controller needs in a Kubernetes cluster: CRDs, rights, PriorityClasses, itself")
    .requiredOption("--image <name>", "of the controller, as `docker build` made it")
    .option(
      "--config <file>",
      "the controller's settings: priorities of the classes of service, and who may be preempted",
    )
    .option("--namespace <name>", "where the controller runs", "llm-orchestrator")
    .option("--workload-namespace <names...>", "where workloads may be made", ["llm-workloads"])
    .option(
      "--replicas <number>",
      "controllers, of which one decides; default: 2 where $DB_HOST is a PostgreSQL, else 1",
    )
    .action(async (options) => (await cluster()).printManifests(options));
}
