/** Bugs of the controller in a cluster: what a drain evicts, rights that are missing, and who reaches a workload. */
import { type Mutant, planted } from "./mutant.ts";

const DRAINS = "test/controller/drains.test.ts";
const RIGHTS = "test/controller/rights.test.ts";
const RECOVERY = "test/controller/recovery.test.ts";
const REACH = "test/controller/reach.test.ts";
const SETTINGS = "test/controller/settings.test.ts";
const OWN_KINDS = "test/controller/own-kinds.test.ts";
const KUBECONFIG = "test/controller/kubeconfig.test.ts";

export const CONTROLLER_CLUSTER_MUTANTS: readonly Mutant[] = [
  ...planted(
    "src/controller/kubernetes/objects.ts",
    ["test/controller/revisions.test.ts"],
    [
      {
        name: "The revision of a workload that is gone stands in the way of the next of its name",
        find: "if (there === undefined || ownerOf(there) === metadata.uid) return null;",
        replace: "if (there === undefined || ownerOf(there) !== metadata.uid) return null;",
      },
    ],
  ),
  ...planted(
    "src/controller/api/gpu-views.ts",
    ["test/controller/nodes.test.ts"],
    [
      {
        name: "Memory of GPUs of which nobody says how much is taken counts as free",
        find: "(sum === null || value === null ? null : sum + value)",
        replace: "(sum === null ? null : sum + (value ?? 0))",
      },
    ],
  ),
  ...planted(
    "src/controller/load-watch.ts",
    ["test/controller/figures.test.ts"],
    [
      {
        name: "All replicas of a large cluster are asked for their load at once",
        find: "if (from > 0) await pause();",
        replace: "if (from < 0) await pause();",
      },
    ],
  ),
  ...planted(
    "src/controller/replica-page.ts",
    ["test/controller/replica-page.test.ts"],
    [
      {
        name: "How full the caches of several engines are is added up",
        find: "cache: cache === null ? null : cache / caches,",
        replace: "cache: cache === null ? null : cache / Math.min(1, caches),",
      },
      {
        name: "A replica may say as much as it likes",
        find: "if (bytes > MAX_BYTES) end(null);",
        replace: "if (bytes < 0) end(null);",
      },
      {
        name: "A replica whose connection breaks holds up all others for as long as one may be silent",
        find: 'answer.on("error", () => end(null));',
        replace: 'answer.on("error", () => undefined);',
      },
    ],
  ),
  ...planted(
    "src/controller/kubernetes/own-kinds.ts",
    [OWN_KINDS],
    [
      {
        name: "A controller is ready under CRDs that have no place for statuses",
        find: "if (lacking.length > 0) {",
        replace: "if (lacking.length > NEEDED.length) {",
      },
      {
        name: "CRDs that were in order once are not looked at again",
        find: "const AGAIN_MS = 60_000;",
        replace: "const AGAIN_MS = Number.POSITIVE_INFINITY;",
      },
    ],
  ),
  ...planted(
    "src/controller/kubernetes/drains.ts",
    [DRAINS],
    [
      {
        name: "A drain evicts what was decided on before it was asked for",
        find: "} else if (tending.nodes.has(name)) await",
        replace: "} else await",
      },
      {
        name: "A drain evicts pods of a workload that was not looked after",
        find: "workload !== null && tending.undecided.has(workload)",
        replace: "workload !== null && tending.spared.has(workload)",
      },
      {
        name: "A refused eviction is asked for again at each look",
        find: "const REFUSED_MS = 5_000;",
        replace: "const REFUSED_MS = 0;",
      },
      {
        name: "A deletion at the deadline waits for the pause of an eviction",
        find: "before.ofEviction !== isLate && ",
        replace: "",
      },
    ],
  ),
  ...planted(
    "src/controller/reconcile/loop.ts",
    [DRAINS],
    [
      {
        name: "Nobody who empties nodes is told which workloads rest",
        find: "await backend.tend(now(), this.#undecided);",
        replace: "await backend.tend(now(), new Set());",
      },
      {
        name: "A paused workload holds up a drain",
        find: "if (decided.wanted === null) this.#undecided.delete(keyOf(workload.metadata));",
        replace: "",
      },
    ],
  ),
  ...planted(
    "src/controller/reconcile/evacuation.ts",
    [RECOVERY],
    [
      {
        name: "A drain evicts a lone replica in the middle of its rollout",
        find: "return { ...STAYING, spared: ready.map(({ name }) => name) };",
        replace: "return { ...STAYING, leaving: ready.slice(1).map(({ name }) => name) };",
      },
    ],
  ),
  ...planted(
    "src/controller/kubernetes/children.ts",
    [RIGHTS],
    [
      {
        name: "Without the right to read NetworkPolicies everything stops",
        find: "!(OF_SOME.has(kind) && isForbidden)",
        replace: "!(OF_SOME.has(kind) && isForbidden && kind in OPTIONAL)",
      },
      {
        name: "An isolated workload runs where its NetworkPolicy cannot be seen",
        find: "if (watch?.isForbidden === true) throw",
        replace: "if (watch?.isForbidden === true && path === DISCOVER_MS.toString()) throw",
      },
    ],
  ),
  ...planted(
    "src/controller/reconcile/loop.ts",
    [RIGHTS],
    [
      {
        name: "Revisions that cannot be seen count as none",
        find: "const { unseenRevisions: unseen = null } = objects;",
        replace: "const unseen = [objects.unseenRevisions ?? null].find((one) => one === name) ?? null;",
      },
    ],
  ),
  ...planted(
    "src/controller/kubernetes/connection.ts",
    [KUBECONFIG],
    [
      {
        name: "A token that a server does not take is kept until it expires",
        find: "|| !access.refused(first)",
        replace: '|| first !== ""',
      },
    ],
  ),
  ...planted(
    "src/controller/kubernetes/render.ts",
    [REACH],
    [
      {
        name: "Routes stay when the gateway is named no more",
        find: "const unwanted = others.filter(({ object }) => object === null)",
        replace: 'const unwanted = others.filter(({ path }) => path === "")',
      },
    ],
  ),
  ...planted(
    "src/controller/settings/settings.ts",
    [SETTINGS],
    [
      {
        name: "The place of the Lease counts as the controller's own",
        find: "namespace: env.POD_NAMESPACE ?? home,",
        replace: "namespace: home,",
      },
      {
        name: "A variable without a value is one",
        find: 'value !== "" || name === "VLLM_RUNTIME_CLASS"',
        replace: 'value !== undefined || name === "VLLM_RUNTIME_CLASS"',
      },
      {
        name: "--leader-elect=false elects",
        find: 'return given === "true";',
        replace: "return true;",
      },
    ],
  ),
];
