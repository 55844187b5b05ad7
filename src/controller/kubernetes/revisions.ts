/** Revisions as ControllerRevisions: their content never changes, their number does when one comes back. Pure. */
import { LABEL } from "../objects/meta.ts";
import type { Revision } from "../objects/revision.ts";
import type { Workload } from "../objects/workload.ts";
import { type Child, metaOf } from "./owned.ts";
import type { KubeObject } from "./watch.ts";

type Kept = KubeObject & {
  readonly revision?: number;
  readonly data?: Pick<Revision, "parts" | "template">;
};

export function revisionObject(workload: Workload, { name, number, parts, template }: Revision): Child {
  const metadata = metaOf(workload, `${workload.metadata.name}-${name}`);
  const { namespace } = metadata;
  return {
    path: `/apis/apps/v1/namespaces/${namespace}/controllerrevisions/${metadata.name}`,
    object: {
      apiVersion: "apps/v1",
      kind: "ControllerRevision",
      metadata: { ...metadata, labels: { ...metadata.labels, [LABEL.revision]: name } },
      revision: number,
      data: { parts, template },
    },
  };
}

export function revisionIn(object: KubeObject): Revision[] {
  const { metadata, revision = 0, data } = object as Kept;
  const name = metadata.labels?.[LABEL.revision];
  if (name === undefined || data === undefined) return [];
  return [{ name, number: revision, ...data, madeAt: metadata.creationTimestamp }];
}

/** The uid of the workload that it is of. */
export function ownerOf({ metadata }: KubeObject): string | undefined {
  const { ownerReferences = [] } = metadata as { readonly ownerReferences?: readonly { readonly uid: string }[] };
  return ownerReferences[0]?.uid;
}
