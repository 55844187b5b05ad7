/**
 * Runs whose books are lost, taken into these. What they are, their worker has kept: enough to follow them to their end.
 *
 *  1. What was started is followed, and never started a second time: nobody knows how often it had been tried, so a task
 *     that is adopted has no tries left.
 *  2. A service goes on as a service, as its newest run knew it: its replicas that are gone are replaced.
 *  3. Of one job in the lost books there is at most one in these. What has no place in it is left out, and stays what it is.
 */
import type { JsonObject } from "../core/base/json.ts";
import type { WorkCommand } from "./commands.ts";
import type { Draft } from "./draft.ts";
import type { Assignment, JobRecord, JobRef, Task, Workload } from "./model.ts";
import { newSlot, workloadNamed } from "./state.ts";

export function recordOf(job: Task | Workload): JobRecord {
  if ("status" in job) return { kind: "task", name: job.name, labels: job.labels, webhookUrl: job.webhookUrl };
  const { uid: _uid, owner: _owner, spec: _spec, slots: _slots, ...record } = job;
  return { kind: "workload", ...record };
}

type Adopted = Extract<WorkCommand, { readonly type: "adopt-runs" }>;
type AdoptedRun = Adopted["runs"][number];

/** Of one job, all on one node; those that are in the books already stay as they are. */
export function adoptRuns(draft: Draft, { node, uid, runs }: Adopted): void {
  const left = runs.filter(({ assignment }) => draft.state.runs.get(assignment.run) === undefined);
  const [newest] = left.sort(byNewest);
  if (newest === undefined) return;
  const record = newest.assignment.record;
  if (record?.kind === "workload") adoptService(draft, node, uid, record, left);
  else for (const run of left) adoptTask(draft, node, run, record);
}

/** What a run's worker knows of its job is as old as the run: that may since have been scaled, or begun anew. */
function byNewest(a: AdoptedRun, b: AdoptedRun): number {
  const [one, other] = [a, b].map(({ assignment: { record, epoch } }) =>
    record?.kind === "workload" ? [record.generation, record.updatedAt, epoch, record.replicas] : [0, 0, epoch, 0],
  ) as [number[], number[]];
  const differs = one.findIndex((value, i) => value !== other[i]);
  return differs === -1 ? 0 : (other[differs] as number) - (one[differs] as number);
}

const WARNING = "its books were lost: it is not tried again, and its result is not uploaded";

/** Each run is a task of its own: what became of the other replicas of its task nobody knows. */
function adoptTask(draft: Draft, node: string, run: AdoptedRun, record: JobRecord | undefined): void {
  const { now, state } = draft;
  const { assignment } = run;
  const startedAt = Math.min(run.startedAt ?? now, now);
  const { job, owner, spec } = assignment;
  const id = assignment.replicas === 1 && state.tasks.get(job) === undefined ? job : assignment.run;
  const task: Task = {
    id,
    owner,
    name: record?.name ?? job,
    rawYaml: "",
    labels: record?.labels ?? {},
    spec: { ...spec, document: withoutDestination(spec.document) },
    retry: { max: 0, lost: 0, on: null, neverOn: [], backoffMs: 1_000, maxBackoffMs: 1_000 },
    dependsOn: [],
    webhookUrl: record?.kind === "task" ? record.webhookUrl : null,
    warnings: [WARNING],
    status: "DISPATCHED",
    slots: [newSlot(0)],
    submittedAt: startedAt,
    startedAt,
    finishedAt: null,
    cancelling: false,
    error: null,
    adopted: true,
  };
  draft.write({ type: "task-submitted", task });
  adopt(draft, node, { kind: "task", uid: id }, 0, run);
}

function adoptService(
  draft: Draft,
  node: string,
  uid: string,
  { kind: _, ...record }: Extract<JobRecord, { kind: "workload" }>,
  runs: readonly AdoptedRun[],
): void {
  const { owner, spec, job } = (runs[0] as AdoptedRun).assignment;
  // Books out of an older backup may have it themselves.
  const isSame = (one: Workload) => one.uid === job || one.adoptedFrom === job;
  const made = [...draft.state.workloads.values()].find(isSame);
  if (made === undefined) {
    const id = workloadNamed(draft.state, record.id) === undefined ? record.id : `workload-${uid}`;
    const slots = Array.from({ length: record.replicas }, (_, replica) => newSlot(replica));
    const workload = { ...record, id, uid, owner, spec, slots, deleted: false, adoptedFrom: job };
    draft.write({ type: "workload-created", workload });
  }
  for (const run of runs) {
    const workload = draft.state.workloads.get(made?.uid ?? uid) as Workload;
    const { replica } = run.assignment;
    const slot = workload.slots.find((one) => one.replica === replica && replica < workload.replicas);
    if (workload.deleted || slot === undefined || slot.live !== null || slot.outcome !== null) continue;
    adopt(draft, node, { kind: "workload", uid: workload.uid }, replica, run);
  }
}

function adopt(draft: Draft, node: string, job: JobRef, replica: number, run: AdoptedRun): void {
  const { assignment, startedAt, port } = run;
  const { owner, epoch, lease } = assignment;
  const generation = jobGeneration(assignment);
  // Not after now: its worker goes by the wall clock, these books by their own.
  const began = startedAt === null ? null : Math.min(startedAt, draft.now);
  const facts = { owner, replica, epoch, generation, node, lease, startedAt: began, port, at: draft.now };
  draft.write({ type: "run-adopted", run: assignment.run, job, ...facts });
}

function jobGeneration({ record }: Assignment): number {
  return record?.kind === "workload" ? record.generation : 0;
}

/** The headers that it was to be uploaded with stayed in the books. */
function withoutDestination(document: JsonObject): JsonObject {
  const spec = document.spec as { readonly output?: JsonObject } | undefined;
  if (spec?.output === undefined) return document;
  const { destination: _, ...output } = spec.output;
  return { ...document, spec: { ...(spec as JsonObject), output } };
}
