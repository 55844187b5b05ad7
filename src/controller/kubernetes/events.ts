/** Each change of a condition as an Event of the cluster, for `kubectl describe` and whatever collects them. */
import { randomUUID } from "node:crypto";
import { hostname } from "node:os";
import type { Metadata } from "../objects/meta.ts";
import { API_VERSION } from "../objects/meta.ts";
import type { Condition } from "../objects/workload.ts";
import { FIELD_MANAGER, type KubeConnection } from "./connection.ts";
import { microTime } from "./leader.ts";

const MAX_NOTE_BYTES = 1_024;
const MAX_INSTANCE = 128;
/** A name of an object has at most 253 characters; the workload's part leaves room for the rest. */
const MAX_NAME = 200;

/** What an Event is of. */
export interface Regarding {
  readonly kind: "LLMWorkload" | "LLMModel";
  readonly metadata: Pick<Metadata, "name" | "namespace" | "uid">;
}

/** One Event is a help and not a duty: whoever calls lets it fail. */
export async function tellCondition(connection: KubeConnection, of: Regarding, condition: Condition) {
  const body = eventOf(of, condition, Date.now());
  await connection.call(`/apis/events.k8s.io/v1/namespaces/${body.metadata.namespace}/events`, {
    method: "POST",
    body,
  });
}

export function eventOf({ kind, metadata }: Regarding, condition: Condition, now: number) {
  const { name, uid } = metadata;
  // Of what is in no namespace it is told in this one, as Kubernetes does of nodes.
  const namespace = metadata.namespace || "default";
  const within = metadata.namespace === "" ? {} : { namespace };
  const { type, status, reason = type, message = "" } = condition;
  return {
    apiVersion: "events.k8s.io/v1",
    kind: "Event",
    metadata: { name: `${name.slice(0, MAX_NAME)}.${randomUUID()}`, namespace },
    eventTime: microTime(now),
    reportingController: FIELD_MANAGER,
    reportingInstance: hostname().slice(0, MAX_INSTANCE),
    action: type,
    reason,
    regarding: { apiVersion: API_VERSION, kind, name, ...within, uid },
    type: isTrouble(condition) ? "Warning" : "Normal",
    note: cut(`${type} is ${status}${message === "" ? "" : `: ${message}`}`),
  };
}

/**
 * `Ready=False` is how each start and each rollout begins, where a hand has set the replicas no other scaling is due, and nobody
 * has to sign a model.
 */
function isTrouble({ type, status, reason }: Condition): boolean {
  if (type === "Ready" || reason === "ScaledByHand" || reason === "Unsigned") return false;
  return status === (type === "Stuck" || type === "Drifted" ? "True" : "False");
}

function cut(note: string): string {
  const bytes = Buffer.from(note);
  // A letter of several bytes that is cut through becomes a replacement sign of three.
  return bytes.length <= MAX_NOTE_BYTES ? note : bytes.subarray(0, MAX_NOTE_BYTES - 3).toString("utf8");
}
