/**
 * A replica that is larger than any node: a group of pods, one of which leads, as a LeaderWorkerSet. Each pod has an equal part of
 * the GPUs; Ray, which the image of vLLM brings along, makes one engine of them. Pure.
 *
 *  1. A group serves when all of its pods do, and goes as one: whichever pod is lost, all start anew.
 *  2. Only the leader is called.
 *  3. How many pods a group has is fixed with its revision, as all of its template is: a larger node that comes rolls nothing.
 */
import { LABEL } from "../objects/meta.ts";
import type { Workload } from "../objects/workload.ts";
import type { Plan } from "../reconcile/plan.ts";
import type { ReplicaSeen } from "../reconcile/seen.ts";
import { type Child, metaOf } from "./owned.ts";
import type { KubeObject } from "./watch.ts";

const GROUP_INDEX = "leaderworkerset.sigs.k8s.io/group-index";
const WORKER_INDEX = "leaderworkerset.sigs.k8s.io/worker-index";
/** Of the Service: the first pod of each group. */
export const LEADERS = { [WORKER_INDEX]: "0" } as const;
const RAY_PORT = 6_379;

type Part = Readonly<Record<string, unknown>>;
interface Container extends Part {
  readonly args?: readonly string[];
}
interface PodTemplate {
  readonly metadata?: { readonly labels?: Readonly<Record<string, string>> };
  readonly spec?: Part & { readonly containers?: readonly Container[] };
}
export interface GroupTemplate {
  readonly size: number;
  readonly leaderTemplate: PodTemplate;
  readonly workerTemplate: PodTemplate;
}

export function isGroup(template: Part | null): template is Part & GroupTemplate {
  return template !== null && "workerTemplate" in template;
}

export function groupPath({ metadata: { namespace, name } }: Workload): string {
  return `/apis/leaderworkerset.x-k8s.io/v1/namespaces/${namespace}/leaderworkersets/${name}`;
}

/** The leader waits for all others: the engine needs their GPUs from its start on. */
const LEAD = `ray start --head --port=${RAY_PORT} --disable-usage-stats &&
until python3 -c 'import os, ray, sys
ray.init(address="auto", logging_level="ERROR")
sys.exit(sum(node["Alive"] for node in ray.nodes()) < int(os.environ["LWS_GROUP_SIZE"]))'; do sleep 2; done &&
exec python3 -m vllm.entrypoints.openai.api_server "$@"`;
/** Ends when the leader does, and looks for it again until the group starts anew. */
const FOLLOW = `while true; do ray start --address="$LWS_LEADER_ADDRESS:${RAY_PORT}" --block; sleep 2; done`;

/** From the template of a pod that would be alone. */
export function groupTemplate(one: PodTemplate, { nodes }: Pick<Plan, "nodes">): GroupTemplate {
  const labels = { ...one.metadata?.labels, [LABEL.groupSize]: String(nodes) };
  const as = (change: (container: Container) => Container): PodTemplate => ({
    metadata: { ...one.metadata, labels },
    spec: { ...one.spec, containers: (one.spec?.containers ?? []).map(change) },
  });
  const shell = ["/bin/sh", "-c"];
  return {
    size: nodes,
    leaderTemplate: as((container) => ({
      ...container,
      command: shell,
      args: [LEAD, "llm-server", ...(container.args ?? [])],
    })),
    // It serves nobody: what it does is seen by the leader.
    workerTemplate: as(({ ports: _, startupProbe: __, readinessProbe: ___, livenessProbe: ____, ...container }) => ({
      ...container,
      command: shell,
      args: [FOLLOW],
    })),
  };
}

export interface Groups {
  readonly replicas: number;
  readonly surge: boolean;
  /** All at once. */
  readonly recreates: boolean;
}

export function leaderWorkerSet(
  workload: Workload,
  { size, leaderTemplate, workerTemplate }: GroupTemplate,
  { replicas, surge, recreates }: Groups,
): Child["object"] {
  // One of the two is to be above 0.
  const rolling = surge ? { maxSurge: 1, maxUnavailable: 0 } : { maxSurge: 0, maxUnavailable: 1 };
  return {
    apiVersion: "leaderworkerset.x-k8s.io/v1",
    kind: "LeaderWorkerSet",
    metadata: metaOf(workload),
    spec: {
      replicas,
      startupPolicy: "LeaderCreated",
      rolloutStrategy: {
        type: "RollingUpdate",
        rollingUpdateConfiguration: recreates ? { maxSurge: 0, maxUnavailable: Math.max(1, replicas) } : rolling,
      },
      leaderWorkerTemplate: { size, restartPolicy: "RecreateGroupOnPodRestart", leaderTemplate, workerTemplate },
    },
  };
}

/** The template of what is there; `null`: it is no LeaderWorkerSet. */
export function templateOfGroups({ spec }: KubeObject): GroupTemplate | null {
  const { leaderWorkerTemplate = null } = (spec ?? {}) as { readonly leaderWorkerTemplate?: GroupTemplate | null };
  if (leaderWorkerTemplate === null) return null;
  const { size, leaderTemplate, workerTemplate } = leaderWorkerTemplate;
  return { size, leaderTemplate, workerTemplate };
}

/** Which pods are one replica; the leader is the first. */
export function replicasIn(pods: readonly KubeObject[]): readonly (readonly KubeObject[])[] {
  const byGroup = Map.groupBy(pods, ({ metadata: { name, labels } }) => {
    const group = labels?.[GROUP_INDEX];
    return group === undefined ? `pod ${name}` : `group ${group}`;
  });
  const place = ({ metadata }: KubeObject) => Number(metadata.labels?.[WORKER_INDEX] ?? 0);
  return [...byGroup.values()].map((of) => of.toSorted((a, b) => place(a) - place(b)));
}

/** As one replica, of each of its pods by itself. */
export function groupSeen(pods: readonly KubeObject[], each: readonly ReplicaSeen[]): ReplicaSeen {
  const [leader] = each as readonly [ReplicaSeen];
  const size = Number(pods[0]?.metadata.labels?.[LABEL.groupSize] ?? 1);
  const phase = phaseOf(each, each.length >= size);
  return {
    ...leader,
    phase,
    gpus: each.reduce((sum, { gpus }) => sum + gpus, 0),
    restarts: each.reduce((sum, { restarts }) => sum + restarts, 0),
    trouble: each.find(({ trouble }) => trouble !== null)?.trouble ?? null,
    waiting: phase === "waiting" ? (each.find(({ waiting }) => waiting !== null)?.waiting ?? null) : null,
    pods: each.map(({ name }) => name),
  };
}

function phaseOf(each: readonly ReplicaSeen[], isWhole: boolean): ReplicaSeen["phase"] {
  const has = (phase: ReplicaSeen["phase"]) => each.some((one) => one.phase === phase);
  // What goes goes as one, and what has failed starts anew as one.
  for (const phase of ["stopping", "failed", "waiting"] as const) if (has(phase)) return phase;
  if (!isWhole || has("starting")) return "starting";
  return has("unready") ? "unready" : "ready";
}
