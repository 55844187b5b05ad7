/** Bugs of the controller: in what it decides of rollouts, scaling and statuses. */
import { type Mutant, planted } from "./mutant.ts";

const ROLLOUT = "test/controller/rollout.test.ts";
const SCALING = "test/controller/scaling.test.ts";
const RECONCILE = "test/controller/reconcile.test.ts";
const API = "test/controller/api.test.ts";
const KUBERNETES = "test/controller/kubernetes.test.ts";
const WATCH = "test/controller/watch.test.ts";
const RECOVERY = "test/controller/recovery.test.ts";
const REACH = "test/controller/reach.test.ts";
const REVISIONS = "test/controller/revisions.test.ts";
const MANIFESTS = "test/controller/manifests.test.ts";

export const CONTROLLER_MUTANTS: readonly Mutant[] = [
  ...planted(
    "src/controller/api/objects.ts",
    [API],
    [
      {
        name: "A key that is bound to a tenant makes workloads in any namespace",
        find: "if (old === undefined && namespace !== parts.settings.namespace) demandTenant(parts, call, namespace);",
        replace: "",
      },
      {
        name: "A caller gives its pods any secret of the namespace",
        find: "if ((read.spec.security?.secretRefs ?? []).length > 0) {",
        replace: "if (read.spec.security?.secretRefs === null) {",
      },
      {
        name: "What is there is moved to a tenant that nobody knows",
        find: "if (tenant !== before) await",
        replace: "if (before === null) await",
      },
    ],
  ),
  ...planted(
    "src/controller/api/drafts.ts",
    [API],
    [
      {
        name: "A label moves a deployment to another tenant",
        find: "return { ...metadata.labels, ...without(asked, LABEL.model), [LABEL.tenant]: tenantOf(metadata) };",
        replace: "return { [LABEL.tenant]: tenantOf(metadata), ...metadata.labels, ...without(asked, LABEL.model) };",
      },
      {
        name: "An annotation gives a workload's pods a Secret with another's hub token",
        find: "return { ...without(given, ...OWN_ANNOTATIONS), ...Object.fromEntries(own) };",
        replace: "return { ...given, ...Object.fromEntries(own) };",
      },
    ],
  ),
  ...planted(
    "src/controller/reconcile/rollout.ts",
    [ROLLOUT],
    [
      {
        name: "A rollout surges without a spare GPU",
        find: "const surge = ask.hasSpare || placedOld + placedNow > desired ? 1 : 0;",
        replace: "const surge = ask.hasSpare || placedOld + placedNow >= 0 ? 1 : 0;",
      },
      {
        name: "A successor that has not come up counts as one that serves",
        find: "let goable = Math.max(0, ready - (reachable - mayMiss));",
        replace: "let goable = Math.max(0, placedOld + placedNow - (reachable - mayMiss));",
      },
      {
        name: "Recreate starts the new ones beside the old",
        find: "return { targets: new Map([[revision, 0]]), isRolling: true, surge: false, blocked: null };",
        replace: "return { targets: new Map([[revision, desired]]), isRolling: true, surge: false, blocked: null };",
      },
    ],
  ),
  ...planted(
    "src/controller/reconcile/scaling.ts",
    [SCALING],
    [
      {
        name: "A metric that nobody says is 0",
        find: "if (said.length === 0) return null;",
        replace: "if (said.length === 0) return 0;",
      },
      {
        name: "Our scaling goes on where a hand has set the replicas",
        find: "if (spec.replicas !== undefined) return resting(",
        replace: "if (spec.replicas === -1) return resting(",
      },
    ],
  ),
  ...planted(
    "src/controller/reconcile/reconcile.ts",
    [RECONCILE],
    [
      {
        name: "A workload that is being deleted is made again",
        find: "if (workload.metadata.deletionTimestamp !== null) return deleting(workload, seen);",
        replace: 'if (workload.metadata.deletionTimestamp === "") return deleting(workload, seen);',
      },
      {
        name: "A workload that is being deleted is gone before its replicas are",
        find: "const isGone = left === 0 && others.length === 0;",
        replace: "const isGone = others.length === 0;",
      },
    ],
  ),
  ...planted(
    "src/controller/reconcile/status.ts",
    [RECONCILE],
    [
      {
        name: "Ready passes over replicas of older revisions",
        find: "updated >= scaled.desired && left === 0",
        replace: "updated >= scaled.desired",
      },
      {
        name: "What has never served is updated, and never fails",
        find: "if (!hasServed(before)) {",
        replace: "if (!hasServed(before) && !step.isRolling) {",
      },
    ],
  ),
  ...planted(
    "src/controller/reconcile/status.ts",
    [RECOVERY],
    [
      {
        name: "A replica that hangs on a dead node keeps a workload from being Ready",
        find: 'phase !== "stopping" || node === null || !away.has(node)',
        replace: 'phase !== "stopping" || node === null || away.size >= 0',
      },
    ],
  ),
  ...planted(
    "src/controller/reconcile/recovery.ts",
    [RECOVERY],
    [
      {
        name: "A crash loop is started anew at each look",
        find: "(last !== null && now - last.at < last.pauseMs)",
        replace: "(last !== null && now - last.at < 0)",
      },
      {
        name: "A pod on a dead node is waited for without an end",
        find: "const lost = replicas.find((one) => isLost(one, away)",
        replace: "const lost = replicas.find((one) => isLost(one, new Set())",
      },
    ],
  ),
  ...planted(
    "src/controller/reconcile/evacuation.ts",
    [RECOVERY],
    [
      {
        name: "A successor is surged without a free GPU for it",
        find: "const canCome = isUnderWay || plan.gpus === 0 || hasRoomFor(nodes, plan);",
        replace: "const canCome = isUnderWay || plan.gpus >= 0 || hasRoomFor(nodes, plan);",
      },
    ],
  ),
  ...planted(
    "src/controller/objects/isolation.ts",
    [REACH],
    [
      {
        name: "A caller that is not understood lets everybody call",
        find: "return peer === null ? [] : [peer];",
        replace: 'return peer === null ? [{ cidr: "0.0.0.0/0" }] : [peer];',
      },
    ],
  ),
  ...planted(
    "src/controller/kubernetes/owned.ts",
    [KUBERNETES],
    [
      {
        name: "The selector of a Deployment holds a version",
        find: "export function selectorOf({ metadata }: Workload) {\n  return {",
        replace:
          'export function selectorOf({ metadata, spec }: Workload) {\n  return { "llm-orchestrator.io/version": spec.modelVersion,',
      },
    ],
  ),
  ...planted(
    "src/controller/kubernetes/watch.ts",
    [WATCH],
    [
      {
        name: "A watch that fails is opened anew without a pause",
        find: "await this.#pause(error instanceof KubeError ? error.retryAfterMs : null);",
        replace: "await sleep(5, this.#stop.signal);",
      },
    ],
  ),
  ...planted(
    "src/controller/reconcile/reconcile.ts",
    ["test/controller/cluster.test.ts"],
    [
      {
        name: "A workload that is being deleted is gone before its children are",
        find: "const isGone = left === 0 && others.length === 0;",
        replace: "const isGone = left === 0;",
      },
    ],
  ),
  ...planted(
    "src/controller/api/asks.ts",
    ["test/controller/api.test.ts"],
    [
      {
        name: "A field that is null is a mistake of whoever sends it",
        find: ".filter(([, value]) => value !== null)",
        replace: "",
      },
    ],
  ),
  ...planted(
    "src/controller/kubernetes/children.ts",
    ["test/controller/cluster.test.ts"],
    [
      {
        name: "The claim of a workload's models is looked for under the workload's own name",
        find: 'if (kind === "persistentvolumeclaims") return claimNameOf(workload);',
        replace: "",
      },
    ],
  ),
  ...planted(
    "src/controller/reconcile/loop.ts",
    ["test/controller/loop.test.ts"],
    [
      {
        name: "A change of replicas that does not come up stays in progress",
        find: 'if (type === "Stuck" && holds === "True" && reason !== "Unschedulable")',
        replace: 'if (type === "Stuck" && holds === "Unknown")',
      },
      {
        name: "Changes that never end put the next look off for ever",
        find: "if (this.#timer !== null && this.#dueAt <= dueAt) return;",
        replace: "",
      },
      {
        name: "What is new about a workload that was at rest is not looked at",
        find: "return stamp?.every((one, index) => one === before.stamp[index]) === true;",
        replace: "return stamp !== undefined;",
      },
      {
        name: "A workload whose times run out is left alone",
        file: "src/controller/reconcile/reconcile.ts",
        find: 'return holds("Ready") === "True" && holds("Progressing") === "True" && ',
        replace: "return ",
      },
      {
        name: "A clock that is set back makes pauses longer",
        find: "this.#resting.clear();",
        replace: "",
      },
      {
        name: "A clock that is set forward lets deadlines run out",
        find: "this.#memories.clear();",
        replace: "",
      },
    ],
  ),
  ...planted(
    "src/controller/reconcile/loop.ts",
    ["test/controller/cluster.test.ts"],
    [
      {
        name: "A status is written at every look",
        find: "if (this.#measured.isWritten(workload, outcome.status, seen.now)) {",
        replace: "if (outcome.gone) {",
      },
    ],
  ),
  ...planted(
    "src/controller/reconcile/loop.ts",
    ["test/controller/loop.test.ts"],
    [
      {
        name: "A wish waits for the end of a long pass",
        find: "if (performance.now() - startedAt >= CUT_AFTER_MS && this.#hasNews()) return;",
        replace: "",
      },
    ],
  ),
  ...planted(
    "src/controller/reconcile/starts.ts",
    ["test/controller/starts.test.ts"],
    [
      {
        name: "A replica that lost its readiness for a moment has started in that moment",
        find: '(phase === "unready" && before.since.has(name))',
        replace: 'phase === "unready"',
      },
    ],
  ),
  ...planted(
    "src/controller/reconcile/order.ts",
    ["test/controller/order.test.ts"],
    [
      {
        name: "A pass that is cut begins with the same workloads each time",
        find: "isUnanswered(workload) ? -1 : (this.#decidedIn.get(keyOf(workload.metadata)) ?? 0);",
        replace: "isUnanswered(workload) ? -1 : 0;",
      },
    ],
  ),
  ...planted(
    "src/controller/reconcile/measured-writes.ts",
    ["test/controller/measured-writes.test.ts"],
    [
      {
        name: "A controller that begins writes the figures of all workloads at once",
        find: "now - EVERY_MS * fractionOf(uid)",
        replace: "now - EVERY_MS * (uid === uid ? 1 : fractionOf(uid))",
      },
    ],
  ),
  ...planted(
    "src/controller/kubernetes/drains.ts",
    [REVISIONS],
    [
      {
        name: "A node counts as drained at its deadline",
        find: "status: left.length === 0 ?",
        replace: "status: left.length === 0 || this.#refusals.get(node) === undefined ?",
      },
      {
        name: "What is left at a drain's deadline is deleted without force",
        find: "if (isLate && !isForced) return;",
        replace: "if (isLate && node === null) return;",
      },
    ],
  ),
  ...planted(
    "src/controller/kubernetes/render.ts",
    [REVISIONS],
    [
      {
        name: "Another default image rolls everything",
        find: "const template = settings.template ?? templateOf(",
        replace: "const template = templateOf(",
      },
    ],
  ),
  ...planted(
    "src/controller/objects/revision.ts",
    [RECONCILE],
    [
      {
        name: "Scaling rolls a workload",
        find: '  "resourceProfile",\n] as const',
        replace: '  "resourceProfile",\n  "replicas",\n] as const',
      },
    ],
  ),
  ...planted(
    "src/controller/reconcile/plan.ts",
    [KUBERNETES],
    [
      {
        name: "The settings' own server is started with vLLM's flags",
        find: '((engine?.image ?? image).includes("vllm")',
        replace: '((engine?.image ?? "vllm").includes("vllm")',
      },
    ],
  ),
  ...planted(
    "src/controller/kubernetes/leader.ts",
    [WATCH],
    [
      {
        name: "A Lease is taken and never renewed",
        find: "AbortSignal.timeout(Math.ceil(left))",
        replace: "AbortSignal.timeout(left)",
      },
      {
        name: "Who was stopped for a while goes on as leader",
        find: "return this.#options.monotonicMs() - this.#renewedAt < RENEW_MS;",
        replace: "return this.#renewedAt > 0;",
      },
    ],
  ),
  ...planted(
    "src/controller/kubernetes/manifests.ts",
    [MANIFESTS],
    [
      {
        name: "The controller may make Deployments anywhere",
        find: 'rule("apps", ["deployments", "controllerrevisions"], LOOK),',
        replace: 'rule("apps", ["deployments", "controllerrevisions"], [...LOOK, "create", "patch"]),',
      },
    ],
  ),
  ...planted(
    "src/controller/kubernetes/leader.ts",
    [WATCH],
    [
      {
        name: "A Lease that has run out is taken with the next question only",
        find: "Math.min(RETRY_MS * (1 - Math.random() * JITTER), this.#otherLastsMs())",
        replace: "RETRY_MS * (1 - Math.random() * JITTER)",
      },
      {
        name: "A renewal of the Lease that took long is followed by a pause as well",
        find: "Math.max(0, RETRY_MS - (this.#options.monotonicMs() - this.#triedAt))",
        replace: "RETRY_MS",
      },
      {
        name: "Of two that find the Lease free both take it",
        find: "if (error instanceof KubeError && error.status === 409) return false;",
        replace: "if (error instanceof KubeError && error.status === 409) return true;",
      },
    ],
  ),
  ...planted(
    "src/controller/reconcile/status.ts",
    ["test/controller/reconcile.test.ts"],
    [
      {
        name: "A workload that scales without an end is in error",
        find: "look.idleMs >= DEGRADED_MS && !look.isScaling",
        replace: "look.idleMs >= DEGRADED_MS",
      },
      {
        name: "A workload that waits for the GPUs of more replicas is never stuck",
        find: "if (scalingMs >= SCALING_MS && waiting !== undefined) {",
        replace: "if (scalingMs >= SCALING_MS && waiting !== undefined && scalingMs < 0) {",
      },
    ],
  ),
  ...planted(
    "src/controller/host/backend.ts",
    ["test/controller/histories.test.ts"],
    [
      {
        name: "A replica that stops has its name taken by its successor",
        find: "if (taken.has(id)) continue;",
        replace: "",
      },
      {
        name: "A replica that has stopped is left with the daemon",
        find: "status.replicas === 0 && status.nodes.length === 0",
        replace: "status.replicas < 0 && status.nodes.length === 0",
      },
      {
        name: "A workload that is deleted still makes what is missing",
        file: "src/controller/reconcile/reconcile.ts",
        find: "if (workload.metadata.deletionTimestamp !== null) return deleting(workload, seen);",
        replace:
          "if (workload.metadata.deletionTimestamp !== null && seen.tracks.length === 0) return deleting(workload, seen);",
      },
      {
        name: "Revisions that are no longer wanted keep their last replica",
        file: "src/controller/reconcile/rollout.ts",
        find: "targets.set(name, Math.min(wanted, serving - going));",
        replace: "targets.set(name, Math.min(wanted, Math.max(1, serving - going)));",
      },
    ],
  ),
  ...planted(
    "src/controller/kubernetes/gpu-usage.ts",
    ["test/controller/gpu-usage.test.ts"],
    [
      {
        name: "What a Prometheus said of GPUs stays when nobody answers any more",
        find: "this.#learn(NOTHING);",
        replace: "",
      },
      {
        name: "DCGM's exporter is taken for the pod whose GPU it tells of",
        find: 'metric.exported_pod ?? metric.pod ?? ""',
        replace: 'metric.pod ?? ""',
      },
      {
        name: "A GPU that is no number busy is taken for idle",
        find: "if (!Number.isFinite(percent) || percent < 0 || percent > 100) continue;",
        replace: "",
      },
    ],
  ),
];
