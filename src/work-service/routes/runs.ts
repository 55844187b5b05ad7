/** Runs, their logs, and the workers that have them. */
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseDuration } from "../../core/base/duration.ts";
import { type Answer, json, NOT_STORED, type StreamAnswer } from "../../http/exchange/answers.ts";
import { type Call, type Endpoint, endpoint } from "../../http/exchange/endpoint.ts";
import { invalid } from "../../http/exchange/problems.ts";
import { WorkError } from "../../work/errors.ts";
import type { Run, RunSeen } from "../../work/model.ts";
import { isElsewhere } from "../../work/runs.ts";
import { openedPath, soon } from "../elsewhere/passing.ts";
import { followLogs, type LogLine, type LogQuery, logLines, resultFile } from "../output.ts";
import { strangerView } from "../strangers.ts";
import { runView, workerView } from "../views.ts";
import { demandOwner, type MaybeParts, mayTouch, parametersOf, type RouteParts, working } from "./parts.ts";

const DEFAULT_TAIL = 200;
const MAX_TAIL = 10_000;
const MAX_LISTED = 1_000;
const STALE_MS = 120_000;
const BEGIN_LOOK_MS = 200;

export function runEndpoints(parts: MaybeParts): readonly Endpoint[] {
  const looking = { role: "read", body: "ignored" } as const;
  const choosing = { ...looking, takesQuery: true } as const;
  const running = { role: "run", body: "ignored" } as const;
  return [
    endpoint("/runs", "key", { GET: working(parts, choosing, list) }),
    endpoint("/runs/:id", "key", { GET: working(parts, looking, one) }),
    endpoint("/runs/:id/logs", "key", {
      GET: working(parts, choosing, (own, call) => logs(own, call, named(own, call.id))),
    }),
    endpoint("/cluster/runs/:id/logs", "open", { GET: working(parts, looking, signedLogs) }),
    endpoint("/cluster/runs/:id/files/*rest", "open", { GET: working(parts, looking, signedFile) }),
    endpoint("/runs/:id/stop", "key", { POST: working(parts, running, stop) }),
    endpoint("/runs/:id/adopt", "key", { POST: working(parts, running, adopt) }),
    endpoint("/api/v1/tasks/:id/logs", "key", { GET: working(parts, choosing, taskLogs) }),
    endpoint("/workers", "key", { GET: working(parts, looking, workers) }),
    endpoint("/workers/:id", "key", { GET: working(parts, looking, worker) }),
    endpoint("/admin/cleanup", "key", { POST: working(parts, { role: "run", body: "ignored" }, cleanup) }),
  ];
}

const STATES: ReadonlySet<string> = new Set<Run["phase"]>([
  "waiting",
  "assigned",
  "starting",
  "running",
  "ready",
  "unready",
  "stopping",
  "ended",
]);

function list(parts: RouteParts, call: Call): Answer {
  const { state } = parametersOf(call.url, "state");
  if (state !== undefined && !STATES.has(state)) {
    throw invalid([{ path: "state", message: `expected one of ${[...STATES].join(", ")}` }]);
  }
  const isAsked = ({ phase }: { readonly phase: string }) => state === undefined || phase === state;
  const runs = [...parts.books.state.runs.values()].filter(isAsked);
  const strangers = parts.gate.strangers.all.filter(isAsked);
  return json(200, [
    ...runs.slice(-MAX_LISTED).map((run) => runView(run, mayTouch(call, run.owner))),
    ...strangers.slice(0, MAX_LISTED).map((seen) => shownStranger(parts, seen)),
  ]);
}

function shownStranger({ books, leases }: RouteParts, seen: RunSeen) {
  const marked = leases.markedByOthers(books.name);
  const lease = marked.find(({ allocationId, run }) => allocationId === seen.allocationId || run === seen.run);
  const here = [...books.state.workers.values()].find(({ link }) => link === undefined);
  return strangerView(seen, here?.node ?? "", lease);
}

function named({ books }: RouteParts, id: string): Run {
  const run = books.state.runs.get(id);
  if (run === undefined) throw new WorkError("run-not-found", `there is no run ${JSON.stringify(id)}`);
  return run;
}

function one(parts: RouteParts, call: Call): Answer {
  const stranger = parts.gate.strangers.find(call.id);
  if (stranger !== undefined) return json(200, shownStranger(parts, stranger));
  const run = named(parts, call.id);
  return json(200, runView(run, mayTouch(call, run.owner)));
}

function stop(parts: RouteParts, call: Call): Answer {
  const stranger = parts.gate.strangers.find(call.id);
  if (stranger !== undefined) {
    // Its books would say whose it is.
    if (!call.actor.admin) throw new WorkError("not-owner", `run ${call.id} is of lost books, and an admin's to stop`);
    parts.gate.strangers.stop(call.id);
    return json(202, shownStranger(parts, stranger));
  }
  const run = named(parts, call.id);
  demandOwner(call, run.owner, `run ${call.id}`);
  parts.books.command({ type: "stop-run", id: call.id });
  return json(202, runView(named(parts, call.id), true));
}

/** Of lost books, with all other runs of its job. */
function adopt(parts: RouteParts, call: Call): Answer {
  const stranger = parts.gate.strangers.find(call.id);
  if (stranger === undefined) {
    named(parts, call.id);
    throw new WorkError("run-not-adoptable", `run ${call.id} is in these books`);
  }
  if (!call.actor.admin) throw new WorkError("not-owner", `run ${call.id} is of lost books, and an admin's to adopt`);
  if (!parts.gate.strangers.adopt(call.id)) {
    throw new WorkError(
      "run-not-adoptable",
      `run ${call.id} has ended or is stopping, or its worker does not say what it is: one that has just begun does so in a moment, and an older one never, but it can be stopped`,
    );
  }
  return json(202, shownStranger(parts, stranger));
}

/** Of its newest run. */
function taskLogs(parts: RouteParts, call: Call): Promise<Answer> | StreamAnswer {
  const task = parts.books.state.tasks.get(call.id);
  if (task === undefined) throw new WorkError("task-not-found", "task not found");
  const runs = [...parts.books.state.runs.values()].filter(({ job }) => job.uid === task.id);
  const newest = runs.sort((a, b) => a.epoch - b.epoch).at(-1);
  if (newest === undefined) throw new WorkError("run-not-found", `task ${call.id} has not run yet`);
  return logs(parts, call, newest);
}

function logs(parts: RouteParts, call: Call, run: Run): Promise<Answer> | StreamAnswer {
  demandOwner(call, run.owner, `run ${run.id}`);
  const { follow } = logQuery(call.url);
  if (!isElsewhere(parts.books, run)) return logsHere(parts, call, run, call.url);
  const path = `logs${call.url.slice(call.url.search(/\?|$/))}`;
  const type = "text/plain; charset=utf-8";
  if (!follow) return hasBegun(run) ? textFrom(parts.elsewhere.ofRun(run, path, soon()), type) : nothing(type);
  return {
    status: 200,
    type,
    headers: NOT_STORED,
    async *pieces(signal) {
      // What was handed out a moment ago has not come to its node yet.
      const now = () => parts.books.state.runs.get(run.id);
      while (now()?.phase === "assigned" && !signal.aborted) {
        await sleep(BEGIN_LOOK_MS, undefined, { signal }).catch(() => undefined);
      }
      if (signal.aborted || !hasBegun(now() ?? run)) return;
      const answer = await parts.elsewhere.ofRun(run, path, signal);
      const decoder = new TextDecoder();
      for await (const piece of answer?.body ?? []) yield decoder.decode(piece as Uint8Array, { stream: true });
    },
  };
}

/** Otherwise there is nothing of it on its node. */
function hasBegun(run: Run): boolean {
  if (run.phase === "ended") return run.startedAt !== null;
  return run.phase !== "waiting" && run.phase !== "assigned";
}

async function nothing(type: string): Promise<Answer> {
  return answerOf(type, "");
}

async function textFrom(asked: Promise<Response | null>, type: string): Promise<Answer> {
  return answerOf(type, (await (await asked)?.text()) ?? "");
}

/** What the controller asks of a node: it has shown its secret instead of a key. */
function signedUrl({ elsewhere }: RouteParts, call: Call): string {
  const { secret } = elsewhere;
  const url = secret === null ? null : openedPath(call.url, secret, Date.now());
  if (url === null) throw new WorkError("run-not-found", `there is no run ${JSON.stringify(call.id)}`);
  return url;
}

function signedLogs(parts: RouteParts, call: Call): Promise<Answer> | StreamAnswer {
  const url = signedUrl(parts, call);
  return logsHere(parts, call, named(parts, call.id), url);
}

async function signedFile(parts: RouteParts, call: Call): Promise<Answer> {
  signedUrl(parts, call);
  const body = await resultFile(parts.settings.resultsDir, named(parts, call.id).id, call.rest);
  return { status: 200, type: "application/octet-stream", body, headers: NOT_STORED };
}

function logsHere(parts: RouteParts, call: Call, run: Run, url: string): Promise<Answer> | StreamAnswer {
  const { query, follow } = logQuery(url);
  const folder = join(parts.settings.dir, "runs", run.id);
  const asEvents = (call.accept ?? "").includes("text/event-stream");
  const type = asEvents ? "text/event-stream" : "text/plain; charset=utf-8";
  const shown = asEvents ? eventOf : textOf;
  if (!follow) return logLines(folder, query).then((lines) => answerOf(type, lines.map(shown).join("")));
  const isOver = () => parts.books.state.runs.get(run.id)?.phase === "ended";
  return {
    status: 200,
    type,
    headers: NOT_STORED,
    async *pieces(signal) {
      for await (const lines of followLogs(folder, query, isOver, signal)) yield lines.map(shown).join("");
    },
  };
}

function answerOf(type: string, body: string): Answer {
  return { status: 200, type, body, headers: NOT_STORED };
}

function textOf({ text }: LogLine): string {
  return `${text}\n`;
}

function eventOf(line: LogLine): string {
  return `event: ${line.stream}\ndata: ${JSON.stringify({ time: line.time, text: line.text })}\n\n`;
}

function logQuery(url: string): { readonly query: LogQuery; readonly follow: boolean } {
  const given = parametersOf(url, "stream", "tail", "since", "follow");
  const { stream = "both", tail = String(DEFAULT_TAIL), since, follow = "false" } = given;
  if (stream !== "stdout" && stream !== "stderr" && stream !== "both") {
    throw invalid([{ path: "stream", message: "expected stdout, stderr or both" }]);
  }
  const lines = Number(tail);
  if (!Number.isInteger(lines) || lines < 0 || lines > MAX_TAIL) {
    throw invalid([{ path: "tail", message: `expected a whole number from 0 to ${MAX_TAIL}` }]);
  }
  const agoMs = since === undefined ? null : parseDuration(since);
  const from = since === undefined ? null : agoMs === null ? Date.parse(since) : Date.now() - agoMs;
  if (from !== null && Number.isNaN(from))
    throw invalid([{ path: "since", message: "expected an instant, or a duration such as 10m" }]);
  return { query: { stream, tail: lines, since: from }, follow: follow === "true" };
}

function workers(parts: RouteParts): Answer {
  return json(
    200,
    [...parts.books.state.workers.values()].map((found) => shownWorker(parts, found)),
  );
}

function shownWorker({ books, leases }: RouteParts, found: Parameters<typeof workerView>[1]) {
  const own =
    found.link === undefined ? { free: leases.freeGpus(), gpus: leases.gpus(), driver: leases.driver() } : null;
  return workerView(books.state, found, books.now(), own);
}

function worker(parts: RouteParts, call: Call): Answer {
  const found = parts.books.state.workers.get(call.id);
  if (found === undefined) throw new WorkError("worker-not-found", "worker not found");
  return json(200, shownWorker(parts, found));
}

async function cleanup({ books, elsewhere }: RouteParts): Promise<Answer> {
  const before = books.state.workers.size;
  const forgotten = await elsewhere.removeStale();
  books.command({ type: "remove-stale-workers", staleMs: STALE_MS });
  return json(200, { ok: true, removed: Math.max(forgotten, before - books.state.workers.size) });
}
