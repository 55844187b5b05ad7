/** How the verb `replay` tells of a decision: in words for people, as JSON for programs. */
import type { replay } from "../daemon/host-verbs.ts";
import { visible } from "../platform/printable.ts";

type Replay = ReturnType<typeof replay>;

/** Of a longer line the rest is counted. */
const MAX_SHOWN_WAITING = 50;

/** In lines, each safe to print whatever a client or a driver has said. */
export function told(replay: Replay): string[] {
  const { event, type, at, first, last, others, asked, gpus, queue } = replay;
  const lines = [
    `event ${event} (${type}), decided at ${timestamp(at)}${first === last ? "" : `, with events ${first} to ${last}`}`,
    asked,
    ...(others === 0
      ? []
      : [`(${others} more ${others === 1 ? "command was" : "commands were"} decided in the same turn)`]),
    "",
    "GPUs as the line was served:",
    ...gpus.map(gpuLine),
    "",
    queue.length === 0 ? "Nobody waited." : "The line, first come first:",
    ...queue.slice(0, MAX_SHOWN_WAITING).flatMap(waitedLines),
    ...(queue.length > MAX_SHOWN_WAITING ? [`  and ${queue.length - MAX_SHOWN_WAITING} more`] : []),
    "",
    "What came of it:",
    ...replay.events.map((words, place) => `  ${replay.from + place}  ${words}`),
    "",
    ...verdict(replay),
  ];
  return lines.map(visible);
}

function gpuLine(gpu: Replay["gpus"][number]): string {
  const memory = `${gpu.memoryUsedMib ?? "?"} of ${gpu.memoryTotalMib ?? "?"} MiB in use`;
  const busy = gpu.utilizationPercent === null ? "utilisation not told" : `${gpu.utilizationPercent} % busy`;
  const read =
    gpu.readingAgeMs === null ? "never read" : `${memory}, ${busy}, read ${seconds(gpu.readingAgeMs)} before`;
  return `  ${gpu.index}  ${gpu.name}, ${gpu.uuid}: ${gpu.standing}${gpu.detail === null ? "" : ` (${gpu.detail})`}; ${read}`;
}

function waitedLines(one: Replay["queue"][number]): string[] {
  const asks = `${one.gpus} x ${one.memoryMib} MiB, priority ${one.priority}, waited ${seconds(one.waitedMs)}`;
  const stated = one.maxDurationMs === null ? "" : `, for ${seconds(one.maxDurationMs)} at most`;
  return [`  ${one.position}. ${one.id} (${asks}${stated})`, `     ${one.outcome}: ${one.reason}`];
}

function verdict({ isSame, failure, recorded, decided }: Replay): string[] {
  if (isSame) return ["Decided again from what was kept, the same came of it, to the byte."];
  return [
    "DECIDED AGAIN, THIS COMES OUT DIFFERENTLY: another version of the program decided it, or the file was changed, or this is a bug.",
    ...(failure === null ? [] : [`a command that was accepted is refused: ${failure}`]),
    "recorded:",
    ...recorded.map((event) => `  ${outline(event)}`),
    "now:",
    ...decided.map((event) => `  ${outline(event)}`),
  ];
}

/** An event without what a workload is made of and where its webhooks go. */
function outline(event: Replay["recorded"][number]): string {
  return JSON.stringify(event, (name, value) => (name === "workloadData" || name === "webhookUrl" ? undefined : value));
}

function seconds(ms: number): string {
  return `${(ms / 1_000).toFixed(ms < 10_000 ? 1 : 0)} s`;
}

function timestamp(at: number): string {
  return new Date(at).toISOString();
}

/** Everything, workload data and addresses included: the operator asks for it of his own file. */
export function asJson(replay: Replay): string {
  return JSON.stringify({ ...replay, at: timestamp(replay.at) }, plain, 2);
}

/** Maps, which JSON leaves empty, as their entries. */
function plain(_name: string, value: unknown): unknown {
  return value instanceof Map ? [...value] : value;
}
