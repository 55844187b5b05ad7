/** Events in words: one line each. */
import { gib } from "./amounts.ts";

export interface EventLine {
  readonly id: number;
  readonly type: string;
  readonly at: number;
  readonly kind: "request" | "gpu" | "host";
  /** The service, or the GPU's UUID, that it is about; empty for the host. */
  readonly about: string;
  /** The UUID of the one GPU on which that happened to a service; `null`: it is no matter of one GPU. */
  readonly on: string | null;
  readonly text: string;
  readonly tone: "plain" | "good" | "wait" | "bad";
}

type Body = Readonly<Record<string, unknown>>;

const WORDS: { readonly [type: string]: readonly [text: string, tone: EventLine["tone"]] } = {
  submitted: ["asks for GPUs", "plain"],
  granted: ["is granted", "good"],
  reoffered: ["is offered again", "wait"],
  claimed: ["takes its grant", "plain"],
  nudged: ["is sent a message", "plain"],
  "became-head": ["is next in the line", "plain"],
  renewed: ["renews", "plain"],
  "end-moved": ["moved its end", "plain"],
  extended: ["has longer", "plain"],
  ended: ["ends", "plain"],
  preempting: ["must make room", "wait"],
  draining: ["must leave, the GPU is drained", "wait"],
  "notice-withdrawn": ["may stay after all", "good"],
  "preemption-begun": ["has others make room", "plain"],
  "preemption-called-off": ["no longer has others make room", "plain"],
  "gpu-seen": ["is seen", "plain"],
  "use-seen": ["begins to compute", "plain"],
  "use-gone": ["computes no more", "plain"],
  "went-idle": ["holds GPUs that nobody uses", "wait"],
  "went-busy": ["uses its GPUs again", "good"],
  "memory-settled": ["has its memory", "plain"],
  "memory-returned": ["has given its memory back", "plain"],
  "went-over-memory": ["uses more memory than its share", "wait"],
  "went-within-memory": ["is within its share again", "good"],
  "gpu-quarantined": ["is quarantined", "bad"],
  "gpu-lost": ["is lost", "bad"],
  "gpu-back": ["is back", "good"],
  "gpu-faulted": ["has a fault", "bad"],
  "gpu-fault-answered": ["has its fault answered", "good"],
  "gpu-freed": ["is free", "good"],
  "gpu-gone": ["is gone", "bad"],
  "gpu-foreign-use": ["is used by somebody without a lease", "wait"],
  "gpu-foreign-use-over": ["is used by strangers no more", "good"],
  "gpu-cordoned": ["is cordoned", "wait"],
  "gpu-uncordoned": ["is cordoned no more", "good"],
  "quarantine-cleared": ["is out of quarantine", "good"],
  "gpu-removed": ["is struck off", "plain"],
  "host-cordoned": ["The host is drained", "wait"],
  "host-uncordoned": ["The host is drained no more", "good"],
  reserved: ["GPUs are reserved", "plain"],
  "reservation-cancelled": ["A reservation is given up", "plain"],
  resumed: ["The daemon serves again", "plain"],
};

/** @returns `null` for what is no JSON, which this page can say nothing about. */
export function eventLine(id: number, type: string, data: string): EventLine | null {
  const body = bodyOf(data);
  if (body === null) return null;
  const [verb, tone] = WORDS[type] ?? [type, "plain"];
  const service = text(body.service_name);
  const gpu = text(body.gpu_uuid);
  const kind = service !== "" ? "request" : gpu !== "" ? "gpu" : "host";
  const at = Date.parse(text(body.at));
  return {
    id,
    type,
    at,
    kind,
    about: service || gpu,
    on: service !== "" && gpu !== "" ? gpu : null,
    text: verb + details(type, body),
    tone: endTone(type, body, tone),
  };
}

function bodyOf(data: string): Body | null {
  try {
    const body: unknown = JSON.parse(data);
    return typeof body === "object" && body !== null ? (body as Body) : null;
  } catch {
    return null;
  }
}

/** What this one has beyond its kind. */
function details(type: string, body: Body): string {
  if (type === "granted") {
    const ids = Array.isArray(body.gpu_ids) ? body.gpu_ids.join(", ") : "";
    return body.status === "offered" ? ` GPU ${ids}, to be taken` : ` GPU ${ids}`;
  }
  if (type === "submitted") {
    const { required_gpus, min_memory_mb: memory } = body;
    return `: ${text(required_gpus)} × ${gib(typeof memory === "number" ? memory : null)} GiB`;
  }
  if (type === "ended") {
    const detail = text(body.end_detail);
    return `: ${text(body.end_reason).replaceAll("_", " ")}${detail === "" ? "" : `, ${detail}`}`;
  }
  const reason = text(body.reason);
  const by = text(body.by);
  // Only its owner and admins are told by whom, and what.
  if (type === "nudged") return by === "" ? "" : ` by ${by}: ${text(body.message)}`;
  return `${by === "" ? "" : ` by ${by}`}${reason === "" ? "" : `: ${reason}`}`;
}

const GOOD_ENDS = ["released", "cancelled"];

function endTone(type: string, { end_reason }: Body, tone: EventLine["tone"]): EventLine["tone"] {
  return type !== "ended" || GOOD_ENDS.includes(text(end_reason)) ? tone : "wait";
}

function text(value: unknown): string {
  return typeof value === "string" ? value : typeof value === "number" ? String(value) : "";
}

/** @param kind `all`, or a kind of line; heartbeats are told only when they are searched for. */
export function wanted(lines: readonly EventLine[], kind: string, search: string): EventLine[] {
  const words = search.toLowerCase().split(/\s+/).filter(Boolean);
  return lines.filter((line) => {
    if (kind !== "all" && line.kind !== kind) return false;
    if (words.length === 0) return line.type !== "renewed";
    const all = `${line.type} ${line.about} ${line.text}`.toLowerCase();
    return words.every((word) => all.includes(word));
  });
}
