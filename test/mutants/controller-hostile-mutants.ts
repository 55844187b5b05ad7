/** Bugs of the controller under hostile hands: servers that are ill, objects that are somebody else's, names that cannot be. */
import { type Mutant, planted } from "./mutant.ts";

const HOSTILE = "test/controller/hostile.test.ts";
const INSTANCES = "test/controller/instances.test.ts";
const RUBBISH = "test/controller/rubbish.test.ts";
const WATCH = "test/controller/watch.test.ts";

export const CONTROLLER_HOSTILE_MUTANTS: readonly Mutant[] = [
  ...planted(
    "src/controller/kubernetes/watch.ts",
    [WATCH],
    [
      {
        name: "What a write has answered goes over what the watch has seen since",
        find: 'if (isLater(this.#version ?? "", object.metadata.resourceVersion)) return;',
        replace: "",
      },
      {
        name: "What is told late of a predecessor counts for its successor",
        find: "if (!this.#isKnownLater(object)) {",
        replace: 'if (type === "DELETED" || !this.#isKnownLater(object)) {',
      },
    ],
  ),
  ...planted(
    "src/controller/kubernetes/children.ts",
    [HOSTILE],
    [
      {
        name: "What is somebody else's under a child's name is taken over",
        find: "if (there === null || isMadeFor(there, workload)) return;",
        replace: "if (there === null || there.metadata.uid !== workload) return;",
      },
      {
        name: "What is somebody else's under a child's name is deleted",
        find: "|| isOthers(live, workload)) return;",
        replace: ") return;",
      },
      {
        name: "What is somebody else's under a child's name holds up a workload's end",
        find: "there !== undefined && !isOthers(there, name) ?",
        replace: "there !== undefined ?",
      },
    ],
  ),
  ...planted(
    "src/controller/kubernetes/pods.ts",
    [HOSTILE],
    [
      {
        name: "A Job's pod with a workload's labels is its replica",
        find: "return maker === undefined || MAKERS.has(maker.kind) ?",
        replace: "return maker === undefined || maker.kind !== name ?",
      },
      {
        name: "A pod without a revision is a replica",
        find: "name === undefined || labels?.[LABEL.revision] === undefined) return null;",
        replace: "name === undefined) return null;",
      },
    ],
  ),
  ...planted(
    "src/controller/kubernetes/objects.ts",
    [HOSTILE],
    [
      {
        name: "A workload that somebody else's finalizer keeps is let go at each look",
        find: "if (!finalizers.includes(FINALIZER)) return;",
        replace: "",
      },
    ],
  ),
  ...planted(
    "src/controller/reconcile/fleet.ts",
    [INSTANCES],
    [
      {
        name: "A rollout of instances of MIG surges where whole GPUs are free",
        find: "if (!isOfWholeGpus(of)) return 0;",
        replace: "",
      },
    ],
  ),
  ...planted(
    "src/controller/reconcile/plan.ts",
    [INSTANCES],
    [
      {
        name: "An instance of MIG is planned with the memory of whole GPUs",
        find: "resource === WHOLE ? cardsIn(",
        replace: "resource !== undefined ? cardsIn(",
      },
    ],
  ),
  ...planted(
    "src/controller/kubernetes/drains.ts",
    [HOSTILE],
    [
      {
        name: "A node that cannot be changed holds up the drains of all others",
        find: ".catch((error) => failed.push(error));",
        replace: ";",
      },
    ],
  ),
  ...planted(
    "src/controller/kubernetes/trouble.ts",
    [HOSTILE],
    [
      {
        name: "A kind is gone when its server fails to say",
        find: "error.status === 403) ? false : null;",
        replace: "error.status === 403) ? false : false;",
      },
    ],
  ),
  ...planted(
    "src/controller/reconcile/refusals.ts",
    ["test/controller/host.test.ts"],
    [
      {
        name: "What a backend has refused is asked for at each look",
        find: "if (isSame && performance.now() < before.until) throw before.error;",
        replace: "",
      },
    ],
  ),
  ...planted(
    "src/controller/objects/legible.ts",
    [RUBBISH],
    [
      {
        name: "A spec that cannot be read takes the list of all deployments with it",
        find: "scaling: isPart(scaling) ? scalingOf(scaling) : NOTHING_ASKED.scaling,",
        replace: "scaling,",
      },
      {
        name: "A status that cannot be read is taken as it stands",
        find: "  const fields = schema.shape as Fields;",
        replace: "  if (isPart(status)) return status;\n  const fields = schema.shape as Fields;",
      },
    ],
  ),
  ...planted(
    "src/controller/objects/rules.ts",
    [RUBBISH],
    [
      {
        name: "A workload whose name no Service can have is accepted",
        find: "return OBJECT_NAME.test(name) ? [] :",
        replace: "return name !== undefined ? [] :",
      },
    ],
  ),
  ...planted(
    "src/controller/reconcile/loop.ts",
    [RUBBISH],
    [
      {
        name: "A controller that is to end first ends its pass over all",
        find: "return this.#parts.leads() && !this.#stopped;",
        replace: "return this.#parts.leads();",
      },
    ],
  ),
  ...planted(
    "src/controller/reconcile/resting.ts",
    [RUBBISH],
    [
      {
        name: "What is asked for waits until the last wish's failure has been rested from",
        find: "|| rest.wish !== wishOf(metadata) ||",
        replace: "||",
      },
    ],
  ),
  ...planted(
    "src/controller/kubernetes/connection.ts",
    ["test/controller/pace.test.ts"],
    [
      {
        name: "Writes have no pace",
        find: "if (this.#left >= 0) return;",
        replace: "if (this.#left !== null) return;",
      },
      {
        name: "A Lease waits behind other writes",
        find: 'if (isWrite && !path.includes("/leases"))',
        replace: "if (isWrite)",
      },
    ],
  ),
  ...planted(
    "src/controller/kubernetes/connection.ts",
    [WATCH],
    [
      {
        name: "A server that asks for no pause is asked without end",
        find: "seconds > 0 ? Math.min",
        replace: "seconds >= 0 ? Math.min",
      },
    ],
  ),
];
