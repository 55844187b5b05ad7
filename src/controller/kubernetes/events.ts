/** Each change of a condition as an Event of the cluster, for `kubectl describe` and whatever collects them. */
import { randomUUID } from "node:crypto";
import { hostname } from "node:os";
import { API_VERSION } from "../objects/meta.ts";
import type { Condition, Workload } from "../objects/workload.ts";
import { FIELD_MANAGER, type KubeConnection } from "./connection.ts";
import { microTime } from "./leader.ts";

const MAX_NOTE_BYTES = 1_024;
const MAX_INSTANCE = 128;
/** A name of an object has at most 253 characters; the workload's part leaves room for the rest. */
const MAX_NAME = 200;

/** One Event is a help and not a duty: whoever calls lets it fail. */
export async function tellCondition(connection: KubeConnection, workload: Workload, condition: Condition) {
  const { namespace } = workload.metadata;
  const path = `/apis/events.k8s.io/v1/namespaces/${namespace}/events`;
  await connection.call(path, { method: "POST", body: eventOf(workload, condition, Date.now()) });
}

export function eventOf({ metadata }: Workload, condition: Condition, now: number) {
  const { name, namespace, uid } = metadata;
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
    regarding: { apiVersion: API_VERSION, kind: "LLMWorkload", name, namespace, uid },
    type: isTrouble(condition) ? "Warning" : "Normal",
    note: cut(`${type} is ${status}${message === "" ? "" : `: ${message}`}`),
  };
}

/** `Ready=False` is how each start and each rollout begins, and where a hand has set the replicas no other scaling is due. */
function isTrouble({ type, status, reason }: Condition): boolean {
  if (type === "Ready" || reason === "ScaledByHand") return false;
  return status === (type === "Stuck" || type === "Drifted" ? "True" : "False");
}

function cut(note: string): string {
  const bytes = Buffer.from(note);
  // A letter of several bytes that is cut through becomes a replacement sign of three.
  return bytes.length <= MAX_NOTE_BYTES ? note : bytes.subarray(0, MAX_NOTE_BYTES - 3).toString("utf8");
}
