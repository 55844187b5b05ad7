/** Conditions as Kubernetes has them: a type, a status, a reason in one word, a message, and since when it is so. */
import type { EpochMs } from "../../core/base/time.ts";
import type { Condition, ConditionType } from "./workload.ts";

export interface Finding<Type extends string = ConditionType> {
  readonly type: Type;
  readonly status: Condition["status"];
  readonly reason: string;
  readonly message: string;
}

export function finding<Type extends string = ConditionType>(
  type: Type,
  holds: boolean | null,
  reason: string,
  message = "",
): Finding<Type> {
  return { type, status: holds === null ? "Unknown" : holds ? "True" : "False", reason, message };
}

/**
 * The conditions after a look, in the order of `findings`. The time of one moves only when its status does; those that
 * this look says nothing of stay.
 */
export function conditionsAfter(
  before: readonly Condition[],
  findings: readonly Finding<string>[],
  generation: number,
  now: EpochMs,
): Condition[] {
  const known = new Map(before.map((one) => [one.type, one]));
  const looked = findings.map(({ type, status, reason, message }): Condition => {
    const old = known.get(type);
    known.delete(type);
    const lastTransitionTime = old?.status === status ? old.lastTransitionTime : new Date(now).toISOString();
    return { type, status, reason, message, observedGeneration: generation, lastTransitionTime };
  });
  return [...looked, ...known.values()];
}

export function conditionOf(conditions: readonly Condition[] | undefined, type: string): Condition | undefined {
  return conditions?.find((one) => one.type === type);
}

/** A status, as far as it has conditions. */
interface Told {
  readonly conditions?: readonly Condition[] | undefined;
}

/** Conditions whose status or reason is another than before. */
export function changedConditions(before: Told, after: Told): Condition[] {
  const old = new Map((before.conditions ?? []).map((one) => [one.type, `${one.status} ${one.reason}`]));
  return (after.conditions ?? []).filter(({ type, status, reason }) => old.get(type) !== `${status} ${reason}`);
}
