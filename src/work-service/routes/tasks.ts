/** Tasks: MLOC's calls, and ours beside them. */
import { parseDuration } from "../../core/base/duration.ts";
import type { JsonValue } from "../../core/base/json.ts";
import { type Answer, json, NOT_STORED } from "../../http/exchange/answers.ts";
import type { TextBody } from "../../http/exchange/body.ts";
import { type Call, type Endpoint, endpoint } from "../../http/exchange/endpoint.ts";
import { invalid } from "../../http/exchange/problems.ts";
import { refusalOf, warningsOf } from "../../work/argv.ts";
import { at, isObject } from "../../work/documents/shape.ts";
import { invalidDocument, readTask, type TaskDraft } from "../../work/documents/task.ts";
import { WorkError } from "../../work/errors.ts";
import type { ExecutorSettings } from "../../work/executor-settings.ts";
import { mergedResponses } from "../../work/merge.ts";
import type { Task, TaskStatus } from "../../work/model.ts";
import { fenceWithin } from "../../work/nodes.ts";
import { isOver, newSlot } from "../../work/state.ts";
import { deliveriesView, destinationOf, RESULT_INCOMPLETE, uploadOf } from "../deliveries.ts";
import { readYaml } from "../documents.ts";
import { soon } from "../elsewhere/passing.ts";
import { resultFile } from "../output.ts";
import type { KeptKey } from "../store.ts";
import { submittedView, taskView } from "../views.ts";
import {
  byDefault,
  demandOwner,
  type MaybeParts,
  mayTouch,
  parametersOf,
  type RouteParts,
  waitUntil,
  working,
} from "./parts.ts";

/** A free GPU is leased well within this: the answer then says which worker has it, as MLOC's does. */
const PROMPT_MS = 2_000;
const MAX_WAIT_MS = 60_000;
const MAX_LISTED = 1_000;

export function taskEndpoints(parts: MaybeParts): readonly Endpoint[] {
  const looking = { role: "read", body: "ignored" } as const;
  const choosing = { ...looking, takesQuery: true } as const;
  const running = { role: "run", body: "ignored" } as const;
  const documents = { role: "run", body: "needed", takesText: true } as const;
  return [
    endpoint("/api/v1/tasks", "key", {
      POST: working(parts, { ...documents, takesQuery: true }, submit),
      GET: working(parts, choosing, list),
    }),
    endpoint("/api/v1/tasks/:id", "key", {
      GET: working(parts, choosing, one),
      DELETE: working(parts, running, cancel),
    }),
    endpoint("/api/v1/tasks/:id/result", "key", { GET: working(parts, looking, result) }),
    endpoint("/api/v1/results/:id", "key", { GET: working(parts, looking, result) }),
    endpoint("/api/v1/tasks/:id/files/*rest", "key", { GET: working(parts, looking, file) }),
  ];
}

/** The YAML of a body: itself, or what stands in `{"yaml": "..."}`. */
/** Of a document that may stand in JSON as `yaml`. */
export function yamlOf(body: unknown): { readonly text: string; readonly value: JsonValue } {
  const { text, isYaml } = body as TextBody;
  const value = readYaml(text);
  if (isYaml || !isObject(value) || typeof value.yaml !== "string") return { text, value };
  return { text: value.yaml, value: readYaml(value.yaml) };
}

/** Both are sent by this host: they go where its webhooks may go. So does what its runs read. @throws WorkError `document-invalid` */
function demandReachable({ checkUrl }: RouteParts, draft: TaskDraft): boolean {
  const urls = [
    ["spec.webhook_url", draft.webhookUrl],
    ["spec.output.destination.url", destinationOf(draft)?.url ?? null],
    ["spec.data.url", dataAddress(draft)],
  ] as const;
  const problems = urls.flatMap(([path, url]) => {
    const message = url === null ? null : checkUrl(url);
    return message === null ? [] : [{ path, message }];
  });
  if (problems.length > 0) throw invalidDocument(problems);
  return urls.slice(0, 2).some(([, url]) => url !== null);
}

/** Where a dataset is read from, if that is an address and no name. */
function dataAddress({ spec: { document } }: TaskDraft): string | null {
  const url = at(document, "spec", "data", "url");
  return typeof url === "string" && url.includes("://") ? url : null;
}

const CANNOT_MOVE =
  "spec.retry.lost counts 0 when a node falls silent: cluster.heartbeat_ttl is shorter than stop.grace, 15 s and two heartbeats";

export function draftOf(parts: RouteParts, { body, client, actor }: Call): TaskDraft & { readonly rawYaml: string } {
  const { settings, deliveries } = parts;
  const { text, value } = yamlOf(body);
  const defaultModel = (executor: string) => {
    const type = Object.hasOwn(settings.executors, executor) ? settings.executors[executor]?.type : null;
    return type === "vllm" || type === "ppo" ? settings.defaultModels[type] : null;
  };
  const draft = readTask(value, { taskTypes: settings.taskTypes, byDefault: byDefault(parts), defaultModel });
  const refusal = refusalOf("task", draft.spec, settings.executors);
  if (refusal !== null) throw refusal;
  if (demandReachable(parts, draft)) client?.mayNotify((atMost) => deliveries.pendingOf(actor.principal, atMost));
  if (settings.executors[draft.spec.executor]?.type === "mloc" && draft.replicas > 1) {
    const problem = { path: "spec.resources.replicas", message: "MLOC's workers take a task whole: expected 1" };
    throw new WorkError("document-invalid", `${problem.path}: ${problem.message}`, [problem]);
  }
  const { times } = parts.elsewhere;
  const cannotMove = times !== null && draft.retry.lost > 0 && fenceWithin(draft.spec.stop.graceMs, times) === null;
  const executor = settings.executors[draft.spec.executor] as ExecutorSettings;
  const warnings = [
    ...draft.warnings,
    ...warningsOf("task", draft.spec, executor),
    ...(cannotMove ? [CANNOT_MOVE] : []),
  ];
  return { ...draft, warnings, rawYaml: text };
}

function taskOf(id: string, draft: ReturnType<typeof draftOf>, owner: string, now: number): Task {
  const { replicas, ...rest } = draft;
  return {
    ...rest,
    id,
    owner,
    status: "PENDING",
    slots: Array.from({ length: replicas }, (_, replica) => newSlot(replica)),
    submittedAt: now,
    startedAt: null,
    finishedAt: null,
    cancelling: false,
    error: null,
  };
}

function submit(parts: RouteParts, call: Call): Answer | Promise<Answer> {
  const { books, settings, newId } = parts;
  const { queue = "true" } = parametersOf(call.url, "queue");
  if (queue !== "true" && queue !== "false") throw invalid([{ path: "queue", message: "expected true or false" }]);
  return parts.idempotency.answer("submit-task", call, {
    async first(key) {
      const id = `task-${newId()}`;
      const task = taskOf(id, draftOf(parts, call), call.actor.principal, books.now());
      books.command({ type: "submit-task", task, maxTasks: settings.maxTasks }, keptKey(key, id));
      const waits = () => standing(books.state.tasks.get(id) as Task);
      await waitUntil(parts, call, PROMPT_MS, () => !waits());
      if (queue === "false" && waits() === "now")
        books.command({ type: "fail-task", id, reason: reasonNow(parts, id) });
      return json(200, submittedView(books.state, books.state.tasks.get(id) as Task));
    },
    again: ([id = ""]) => {
      const task = books.state.tasks.get(id);
      if (task === undefined) throw new WorkError("task-not-found", "task not found");
      return json(200, submittedView(books.state, task));
    },
  });
}

/** Whether a task could start now, and does not; what depends on others is not expected to. */
function standing({ status, dependsOn }: Task): "now" | null {
  return status === "PENDING" && dependsOn.length === 0 ? "now" : null;
}

function reasonNow({ books }: RouteParts, id: string): string {
  const { reason } = taskView(books.state, books.state.tasks.get(id) as Task, false);
  return `No suitable IDLE worker: ${reason ?? "none is free"}`;
}

export function keptKey(key: Omit<KeptKey, "id"> | null, id: string): KeptKey | null {
  return key === null ? null : { ...key, id };
}

const STATUSES: ReadonlySet<string> = new Set<TaskStatus>(["PENDING", "DISPATCHED", "DONE", "FAILED", "CANCELLED"]);

function list({ books }: RouteParts, call: Call): Answer {
  const { status, limit = String(MAX_LISTED), before } = parametersOf(call.url, "status", "limit", "before");
  const most = Number(limit);
  if (!Number.isInteger(most) || most < 1 || most > MAX_LISTED) {
    throw invalid([{ path: "limit", message: `expected a whole number from 1 to ${MAX_LISTED}` }]);
  }
  const wanted = status?.toUpperCase();
  if (wanted !== undefined && !STATUSES.has(wanted)) {
    throw invalid([{ path: "status", message: `expected one of ${[...STATUSES].join(", ")}` }]);
  }
  const all = [...books.state.tasks.values()].filter((task) => wanted === undefined || task.status === wanted);
  const page = all.filter(({ id }) => before === undefined || id < before).slice(-most);
  const next = page[0] !== undefined && all[0] !== page[0] ? page[0].id : null;
  const same = wanted === undefined ? "" : `&status=${wanted}`;
  const link = next === null ? [] : ["Link", `</api/v1/tasks?before=${next}&limit=${most}${same}>; rel="next"`];
  return json(
    200,
    page.map((task) => taskView(books.state, task, mayTouch(call, task.owner))),
    link,
  );
}

function named({ books }: RouteParts, id: string): Task {
  const task = books.state.tasks.get(id);
  if (task === undefined) throw new WorkError("task-not-found", "task not found");
  return task;
}

async function one(parts: RouteParts, call: Call): Promise<Answer> {
  const { wait } = parametersOf(call.url, "wait");
  named(parts, call.id);
  if (wait !== undefined) {
    const ms = parseDuration(wait);
    if (ms === null || ms > MAX_WAIT_MS) throw invalid([{ path: "wait", message: "expected a duration of up to 60s" }]);
    await waitUntil(parts, call, ms, () => isOver(named(parts, call.id)));
  }
  const task = named(parts, call.id);
  const whole = mayTouch(call, task.owner);
  const told = whole ? deliveriesView(parts.deliveries.ofTask(task.id), call.actor.admin) : null;
  return json(200, { ...taskView(parts.books.state, task, whole), deliveries: told });
}

function cancel(parts: RouteParts, call: Call): Answer {
  const { owner } = named(parts, call.id);
  demandOwner(call, owner, `task ${call.id}`);
  parts.books.command({ type: "cancel-task", id: call.id });
  return json(200, taskView(parts.books.state, named(parts, call.id), true));
}

function result(parts: RouteParts, call: Call): Promise<Answer> {
  return resultAnswer(parts, call, RESULT);
}

function file(parts: RouteParts, call: Call): Promise<Answer> {
  return resultAnswer(parts, call, call.rest);
}

async function resultAnswer(parts: RouteParts, call: Call, path: string): Promise<Answer> {
  const { owner, status, slots } = named(parts, call.id);
  demandOwner(call, owner, `task ${call.id}`);
  const isOfAll = slots.length > 1 && status === "DONE" && path === RESULT;
  const bytes =
    (isOfAll ? await wholeResult(parts, call.id).catch(() => null) : null) ?? (await fileOf(parts, call.id, path));
  const type = path.endsWith(".json") ? "application/json; charset=utf-8" : "application/octet-stream";
  // What a run wrote is nobody's page: a browser is to keep it, not to show it.
  return { status: 200, type, body: bytes, headers: [...NOT_STORED, "Content-Disposition", "attachment"] };
}

const RESULT = "responses.json";

type FileParts = Pick<RouteParts, "books" | "elsewhere" | "settings">;

/**
 * A file that only the node of a run has: of a task's one run by its path, of several by `replicas/N/...`.
 *
 * @returns `null`: it is to be had here, or nowhere.
 */
async function fromNode({ books, elsewhere, settings }: FileParts, id: string, path: string): Promise<Buffer | null> {
  if (elsewhere.secret === null) return null;
  const task = books.state.tasks.get(id) as Task;
  const [, replica = "0", rest = path] = /^replicas\/(\d+)\/(.*)$/s.exec(path) ?? [];
  const isHere = await resultFile(settings.resultsDir, id, path).then(
    () => true,
    () => false,
  );
  if (isHere || (task.slots.length > 1 && rest === path)) return null;
  const run = [...books.state.runs.values()].findLast(
    ({ job, replica: of }) => job.uid === id && of === Number(replica),
  );
  if (run?.phase !== "ended") return null;
  const encoded = rest.split("/").map(encodeURIComponent).join("/");
  const answer = await elsewhere.ofRun(run, `files/${encoded}`, soon()).catch(() => null);
  return answer === null ? null : Buffer.from(await answer.arrayBuffer());
}

/**
 * What is uploaded of a task: its id and its result, as MLOC's workers send them.
 *
 * @throws Error when it cannot be had; UnfitResultError when it never can be sent.
 */
export async function resultToSend(parts: FileParts, id: string): Promise<Buffer> {
  return uploadOf(id, await wholeResult(parts, id));
}

/**
 * Of several replicas all, wherever each of them lies: what is put together here has only those that came by themselves.
 *
 * @throws Error when that of a replica is not to be had now.
 */
async function wholeResult(parts: FileParts, id: string): Promise<Buffer> {
  const { slots } = parts.books.state.tasks.get(id) as Task;
  if (slots.length === 1) return fileOf(parts, id, RESULT);
  const each = await Promise.all(
    slots.map(({ replica }) => fileOf(parts, id, `replicas/${replica}/${RESULT}`).then(String, () => null)),
  );
  if (each.includes(null)) throw new Error(RESULT_INCOMPLETE);
  return Buffer.from(mergedResponses(each));
}

async function fileOf(parts: FileParts, id: string, path: string): Promise<Buffer> {
  return (await fromNode(parts, id, path)) ?? (await resultFile(parts.settings.resultsDir, id, path));
}
