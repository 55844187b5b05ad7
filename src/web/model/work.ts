/** Work in words: how a service, a task and a run stand, and what is to be said of each. Pure. */
import type { RunLine, Task, Workload } from "../api/answers.ts";
import type { Look } from "./states.ts";
import { clock, lasting } from "./time.ts";

const WAITS: Look = { word: "waiting", shape: "half", tone: "wait", means: "Not started yet" };
const STARTS: Look = { word: "starting", shape: "dashes", tone: "wait", means: "A node has it, and begins" };
const RUNS: Look = { word: "running", shape: "disc", tone: "held", means: "Its program runs" };
const STOPS: Look = { word: "stopping", shape: "dashes", tone: "wait", means: "Its program is told to end" };
const DONE: Look = { word: "done", shape: "check", tone: "good", means: "Over, and all is well" };
const FAILED: Look = { word: "failed", shape: "cross", tone: "bad", means: "Over, and not as it should be" };
const CANCELLED: Look = { word: "cancelled", shape: "bars", tone: "off", means: "Stopped because somebody wanted it" };
const UNREADY: Look = { word: "unready", shape: "triangle", tone: "wait", means: "It runs, and does not answer" };
const RUN_LOOKS: { readonly [state in Exclude<RunLine["state"], "ended">]: Look } = {
  waiting: WAITS,
  assigned: STARTS,
  starting: STARTS,
  running: RUNS,
  ready: { word: "ready", shape: "disc", tone: "held", means: "It runs, and answers" },
  unready: UNREADY,
  stopping: STOPS,
};

const REPLICA_LOOKS: { readonly [state: string]: Look } = {
  ...RUN_LOOKS,
  "backing-off": { word: "backing off", shape: "half", tone: "wait", means: "It failed, and is tried again soon" },
  failed: FAILED,
  completed: DONE,
};

const PHASE_LOOKS: { readonly [phase: string]: Look } = {
  pending: { ...WAITS, word: "pending", means: "No replica is ready" },
  running: RUNS,
  completed: DONE,
  failed: FAILED,
};

const ENDED_TASKS: { readonly [status in Task["status"]]?: Look } = { DONE, FAILED, CANCELLED };

/** What this page does not know, a newer daemon's, is shown by its own word. */
function known(looks: Readonly<Record<string, Look>>, word: string): Look {
  if (Object.hasOwn(looks, word)) return looks[word] as Look;
  return { word, shape: "question", tone: "off", means: "A newer daemon's state" };
}

/** How a run, a try of something, stands or ended. */
export function runLook({ state, end_reason }: Pick<RunLine, "state" | "end_reason">): Look {
  if (state !== "ended") return known(RUN_LOOKS, state);
  if (end_reason === "exited") return { ...DONE, word: "exited" };
  return { ...(end_reason === "cancelled" ? CANCELLED : FAILED), word: words(end_reason ?? "ended") };
}

export function replicaLook(state: string): Look {
  return known(REPLICA_LOOKS, state);
}

export function taskLook(task: Task): Look {
  const ended = ENDED_TASKS[task.status];
  if (ended !== undefined) return ended;
  if (task.cancelling) return STOPS;
  const live = task.runs.find(({ state }) => state !== "ended");
  return live === undefined ? WAITS : runLook(live);
}

export function workloadLook({ deleted, status }: Workload): Look {
  if (deleted) return STOPS;
  const { phase, replicas, readyReplicas } = status;
  if (phase === "running" && readyReplicas < replicas) return { ...UNREADY, word: "partly ready" };
  return known(PHASE_LOOKS, phase);
}

export function isOpen({ status }: Task): boolean {
  return ENDED_TASKS[status] === undefined;
}

/** The daemon's own names of reasons, `no-suitable-worker`, as words; sentences stay as they are. */
export function words(reason: string): string {
  return /^[a-z]+(-[a-z]+)+$/.test(reason) ? reason.replaceAll("-", " ") : reason;
}

interface Waits {
  readonly reason: string | null;
  readonly position: number | null;
  readonly eta: string | null;
}

/** Why something waits, where in the line, and until when at the latest; empty: it does not wait. */
export function waitingText({ reason, position, eta }: Waits, now: number): string {
  if (reason === null) return "";
  const place = position === null ? "" : `position ${position}: `;
  return `${place}${words(reason)}${eta === null ? "" : `, by ${clock(Date.parse(eta), now)}`}`;
}

/** What is to be said of a task beside its state. */
export function taskRemark(task: Task, now: number): string {
  if (isOpen(task)) return waitingText(task, now);
  const { status, error, exit_code, started_at, finished_at } = task;
  if (status === "CANCELLED") return "";
  const lasted = started_at && finished_at ? `after ${lasting(Date.parse(finished_at) - Date.parse(started_at))}` : "";
  if (status === "DONE") return lasted;
  const code = exit_code === null || exit_code === 0 ? "" : `exit code ${exit_code}`;
  return [words(error ?? ""), code, lasted].filter(Boolean).join(", ");
}

/** How long a run took or has taken; `null`: it has not begun. */
export function ranMs({ started_at, ended_at }: RunLine, now: number): number | null {
  return started_at === null ? null : (ended_at === null ? now : Date.parse(ended_at)) - Date.parse(started_at);
}

/** How long a run has taken, how it ended, and where it is or was. */
export function runText(run: RunLine, names: ReadonlyMap<string, string>, now: number): string {
  const ms = ranMs(run, now);
  const took = ms === null ? "" : `${run.ended_at === null ? "for" : "ran"} ${lasting(ms)}`;
  const code = run.exit_code === null || run.exit_code === 0 ? "" : `exit code ${run.exit_code}`;
  const gpus = run.gpu_uuids.length === 0 ? "" : `GPU ${gpuNames(run.gpu_uuids, names)}`;
  return [took, code, run.node ?? "", gpus].filter(Boolean).join(", ");
}

/** GPUs by what they are called here; those of another host by the beginning of their UUID. */
export function gpuNames(uuids: readonly string[], names: ReadonlyMap<string, string>): string {
  return uuids
    .map((uuid) => (names.get(uuid) ?? uuid.slice(0, 12)).replace(/^GPU (?=\d)/, ""))
    .sort((a, b) => a.localeCompare(b, "en", { numeric: true }))
    .join(", ");
}

/** All GPUs of what has several runs, each once. */
export function gpusOf(runs: readonly Pick<RunLine, "state" | "gpu_uuids">[]): string[] {
  return [...new Set(runs.filter(({ state }) => state !== "ended").flatMap(({ gpu_uuids }) => gpu_uuids))];
}

/** The nodes of what runs, each once. */
export function nodesOf(runs: readonly Pick<RunLine, "state" | "node">[]): string {
  const live = runs.filter(({ state }) => state !== "ended");
  return [...new Set((live.length > 0 ? live : runs.slice(0, 1)).flatMap(({ node }) => node ?? []))].join(", ");
}

/** Of what is over, so many are shown before somebody asks for all. */
const FIRST_ENDED = 4;

/** Those that are shown first: `most` of what is open, and the latest few of what is over. */
export function firstTasks(tasks: readonly Task[], most: number): Task[] {
  const [open, ended] = [tasks.filter(isOpen), tasks.filter((task) => !isOpen(task))];
  return [...open.slice(0, most), ...ended.slice(0, FIRST_ENDED)];
}

/** Those that a search in plain text means. */
export function meant<T extends Task | Workload>(all: readonly T[], search: string): readonly T[] {
  const wanted = search.toLowerCase().split(/\s+/).filter(Boolean);
  if (wanted.length === 0) return all;
  return all.filter((one) => {
    const [id, status] = "task_id" in one ? [one.task_id, one.status] : [one.id, one.status.phase];
    const text = `${one.name} ${one.owner} ${id} ${status}`.toLowerCase();
    return wanted.every((word) => text.includes(word));
  });
}
