/**
 * Who may reach a workload's pods, and whom they may reach, of `security.accessControl` and `security.networkPolicies`.
 * Pure.
 *
 * `accessControl` names who may call: a namespace (`web`), pods by a label (`app=gateway`, of the workload's own namespace;
 * `web/app=gateway`), or addresses (`10.0.0.0/8`). `networkPolicies` names rules: {@link RULES}. Once either is there,
 * nobody else may call. What is not understood opens nothing.
 */
export const RULES = {
  "deny-ingress": "Nobody calls but whom accessControl names",
  "same-namespace": "Pods of the workload's namespace may call",
  "deny-egress": "Its pods reach the cluster's DNS and nothing else: a model must be in the image or a volume",
} as const;
export type Rule = keyof typeof RULES;

export type Peer =
  | { readonly cidr: string }
  | { readonly namespace: string | null; readonly label: readonly [string, string] | null };

export interface Isolation {
  readonly callers: readonly Peer[];
  readonly rules: ReadonlySet<Rule>;
  readonly unknown: readonly string[];
}

const NAMESPACE = /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/;
const LABELLED =
  /^(?:([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)\/)?([A-Za-z0-9][-A-Za-z0-9_./]{0,252})=([A-Za-z0-9][-A-Za-z0-9_.]{0,62})$/;
const CIDR = /^(\d{1,3}(?:\.\d{1,3}){3}\/(?:[12]?\d|3[0-2])|[0-9a-fA-F:]+:[0-9a-fA-F:]*\/(?:\d{1,2}|1[01]\d|12[0-8]))$/;

export function isolationOf({
  accessControl = [],
  networkPolicies = [],
}: {
  readonly accessControl?: readonly string[] | undefined;
  readonly networkPolicies?: readonly string[] | undefined;
}): Isolation {
  const unknown: string[] = [];
  const callers = accessControl.flatMap((entry): Peer[] => {
    const peer = peerOf(entry);
    if (peer === null) unknown.push(entry);
    return peer === null ? [] : [peer];
  });
  const rules = new Set<Rule>();
  for (const entry of networkPolicies) {
    if (entry in RULES) rules.add(entry as Rule);
    else unknown.push(entry);
  }
  return { callers, rules, unknown };
}

function peerOf(entry: string): Peer | null {
  if (CIDR.test(entry)) return { cidr: entry };
  if (NAMESPACE.test(entry)) return { namespace: entry, label: null };
  const [, namespace = null, , key, value] = LABELLED.exec(entry) ?? [];
  return key === undefined || value === undefined ? null : { namespace, label: [key, value] };
}
