/** The verb that serves workloads, and those that look at them and change them. */
import type { Command } from "commander";
import { hostVerb, verb } from "./program.ts";
import { VERSION } from "./version.ts";

export function clusterVerbs(program: Command): void {
  const example = "gpuo controller --backend host --simulate h100x8";
  hostVerb(program, "controller", "serve LLMWorkloads and deployments, until stopped", example)
    .option("--config <file>", "settings in YAML; those of the LLM Orchestrator will do")
    .option("--backend <name>", "host: leases of this host's daemon; else kubernetes")
    .option("--kubeconfig <file>", "of the cluster (default: as kubectl, or the pod's)")
    .option("--context <name>", "one of the kubeconfig's")
    .option("--allow-insecure", "a kubeconfig may skip the verification of TLS")
    .option("--leader-election-id <name>", "(default: llm-orchestrator-leader)")
    .option("--leader-elect [true|false]", "one of several controllers decides (the default)")
    .option("--no-leader-elect", "this is the only one")
    .option("--namespace <name>", "only its workloads (default: all)")
    .option("--metrics-bind-address <address>", "/metrics without a key, such as :8080")
    .option("--health-probe-bind-address <address>", "/healthz and /readyz, such as :8081")
    .option("--zap-log-level <level>", "debug, info, warn or error")
    .option("--zap-encoder <name>", "taken, and no matter: the log is JSON")
    .option("--simulate <host>", "on simulated GPUs, with a daemon of its own")
    .option("--host <address>", "address to listen on (default: 127.0.0.1)")
    .option("--port <number>", "port to listen on (default: $PORT, else 8003)")
    .action(async (options) => {
      await (await import("../controller/program.ts")).runController(options, VERSION);
      process.exit();
    });
  const cluster = () => import("./verbs/cluster.ts");
  const group = hostVerb(program, "cluster", "workloads, models and nodes of a controller", "gpuo cluster workloads ls")
    .description(
      "workloads, models and nodes of a controller; --url, or $GPU_ORCHESTRATOR_CONTROLLER_URL, says where it is",
    )
    .helpCommand(false);
  verb(group, "apply", "make or change workloads and models from a file", "gpuo cluster apply -f workload.yaml")
    .requiredOption("-f, --file <file>", "YAML or JSON; -: standard input")
    .action(async (options) => (await cluster()).apply(options));
  verb(group, "workloads", "ls, get, why, events or rm", "gpuo cluster workloads ls")
    .argument("<what>", "ls, get, why, events or rm")
    .argument("[name]", "of a workload")
    .action(async (what, name, options) => (await cluster()).workloads(what, name, options));
  verb(group, "models", "ls, get, register, sign, verify or rm", "gpuo cluster models ls")
    .argument(
      "<what>",
      "ls; get; register: make one known; sign: print a file with its models signed; verify: exit 0 where it is signed; or rm",
    )
    .argument("[name]", "of a model; register: NAME/VERSION, such as llama2/7b")
    .option("--hub <id>", "register: where it is on the hub, such as meta-llama/Llama-2-7b-hf")
    .option("--type <type>", "register: text-generation (default), embedding or classification")
    .option("--tenant <names...>", "register: whose workloads may use it (default: everybody's)")
    .option("--public", "register: for every tenant, and so told to gateways")
    .option("-f, --file <file>", "sign: YAML or JSON; -: standard input")
    .option("--key <file>", "sign: a private key of Ed25519, in PEM")
    .option("--key-id <name>", "sign: what modelRegistry.trustedKeys of the controller calls its public key")
    .action(async (what, name, options) => (await import("./verbs/cluster-models.ts")).models(what, name, options));
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
  verb(group, "clusters", "ls", "gpuo cluster clusters ls")
    .argument("<what>", "ls: where replicas run")
    .action(async (what, options) => (await cluster()).clusters(what, options));
  printVerbs(group);
  // As first verbs, too: so a pipeline for another operator calls them.
  printVerbs(program, true);
}

function printVerbs(parent: Command, hidden = false): void {
  const cluster = () => import("./verbs/cluster.ts");
  const words = hidden ? "gpuo" : "gpuo cluster";
  hostVerb(parent, "crds", "print the CRDs for a Kubernetes cluster", `${words} crds | kubectl apply -f -`, hidden)
    .description(
      "print the CRDs for a Kubernetes cluster, as its server takes them; they go over the LLM Orchestrator's",
    )
    .option("--kubeconfig <file>", "which server is asked (default: $KUBECONFIG, ~/.kube/config, the pod's own)")
    .option("--context <name>", "of the kubeconfig (default: its current one)")
    .option("--cel", "with rules in CEL, and no server is asked")
    .option("--no-cel", "without them, for servers before 1.25, and no server is asked")
    .action(async (options) => (await cluster()).printCrds(options));
  hostVerb(
    parent,
    "manifests",
    "print all it needs in Kubernetes",
    `${words} manifests --image gpu-orchestrator:1.0.0`,
    hidden,
  )
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
