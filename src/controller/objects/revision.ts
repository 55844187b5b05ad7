/**
 * Revisions: what replicas are started from. Pure.
 *
 *  1. Two specs that start the same have one revision, so scaling and labels roll nothing; a version, an image or a
 *     restart is another.
 *  2. It is made from the spec, never from the plan or the settings: a node that comes or goes, and another default image,
 *     must not roll what runs.
 *  3. The last ones of a workload are kept (`modelRegistry.maxVersions`), those that run in any case. One that comes back gets a new number.
 */
import { createHash } from "node:crypto";
import { canonicalJson } from "./canonical.ts";
import { ANNOTATION, type Metadata } from "./meta.ts";
import type { WorkloadSpec } from "./workload.ts";

const FIELDS = [
  "modelName",
  "modelVersion",
  "modelType",
  "modelSize",
  "parameters",
  "resources",
  "engine",
  "resourceProfile",
] as const satisfies readonly (keyof WorkloadSpec)[];

/** What of a workload is in its revision. */
export interface RevisionParts extends Partial<Pick<WorkloadSpec, (typeof FIELDS)[number]>> {
  readonly secretRefs?: readonly string[];
  /** `null`: it was never restarted. */
  readonly restartedAt: string | null;
}

/** A revision as it is kept: the rollback's truth. */
export interface Revision {
  readonly name: string;
  /** Of two the later one has the higher number. */
  readonly number: number;
  readonly parts: RevisionParts;
  /** What pods are made from, where there are pods; `null`: there are none. */
  readonly template: Readonly<Record<string, unknown>> | null;
  readonly madeAt: string;
}

type Revised = Pick<Metadata, "annotations">;

export function revisionParts({ annotations }: Revised, spec: WorkloadSpec): RevisionParts {
  const parts = Object.fromEntries(FIELDS.flatMap((name) => (spec[name] === undefined ? [] : [[name, spec[name]]])));
  const { secretRefs = [] } = spec.security ?? {};
  return {
    ...parts,
    ...(secretRefs.length === 0 ? {} : { secretRefs }),
    // Taken back to one that was never restarted, it is empty: an annotation is not removed by whoever did not set it.
    restartedAt: annotations[ANNOTATION.restartedAt] || null,
  };
}

/** Names what a replica is started from. */
export function revisionOf(metadata: Revised, spec: WorkloadSpec): string {
  return createHash("sha256")
    .update(canonicalJson(revisionParts(metadata, spec)))
    .digest("hex")
    .slice(0, 10);
}

/** The number that `name` is to have, as the current one of `known`. */
export function numberFor(name: string, known: readonly Revision[]): number {
  const last = Math.max(0, ...known.map(({ number }) => number));
  const old = known.find((one) => one.name === name);
  return old?.number === last ? last : last + 1;
}

/** Those that go: all but the last `most`, of which none that runs. */
export function outdated(known: readonly Revision[], most: number, running: ReadonlySet<string>): readonly Revision[] {
  return known
    .toSorted((a, b) => b.number - a.number)
    .slice(most)
    .filter(({ name }) => !running.has(name));
}

/** What a workload goes back to: `number`, or what it was before `current`; `null`: there is none. */
export function earlier(known: readonly Revision[], current: string, number: number | null): Revision | null {
  if (number !== null) return known.find((one) => one.number === number && one.name !== current) ?? null;
  const before = known.find(({ name }) => name === current)?.number ?? Number.POSITIVE_INFINITY;
  const older = known.filter((one) => one.name !== current && one.number < before);
  return older.toSorted((a, b) => b.number - a.number)[0] ?? null;
}

/** A spec that starts what `parts` started; all that is no part of a revision stays. */
export function specOf(spec: WorkloadSpec, { restartedAt: _, secretRefs, ...parts }: RevisionParts): WorkloadSpec {
  const kept = Object.fromEntries(
    Object.entries(spec).filter(([name]) => !(FIELDS as readonly string[]).includes(name)),
  );
  const { security } = spec;
  const refs = secretRefs === undefined ? {} : { secretRefs: [...secretRefs] };
  const { secretRefs: __, ...open } = security ?? {};
  return {
    ...kept,
    ...parts,
    ...(security === undefined && secretRefs === undefined ? {} : { security: { ...open, ...refs } }),
  } as WorkloadSpec;
}
