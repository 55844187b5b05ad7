/**
 * What all nodes of a look say together. Pure; each answer is worked out once for a look, however many workloads ask: with a
 * thousand nodes it is most of the work otherwise.
 */
import { isOfProduct, type NodeSeen } from "./seen.ts";

type Nodes = readonly NodeSeen[];

const answers = new WeakMap<Nodes, Map<string, unknown>>();

function once<T>(nodes: Nodes, question: string, answer: () => T): T {
  let known = answers.get(nodes);
  if (known === undefined) {
    known = new Map();
    answers.set(nodes, known);
  }
  if (!known.has(question)) known.set(question, answer());
  return known.get(question) as T;
}

/** Memory of each GPU that could serve, largest first. @param memoryMib is that of those that do not say. */
export function cardsIn(nodes: Nodes, product: string | null, memoryMib: number | null): readonly number[] {
  return once(nodes, `cards ${memoryMib} ${product}`, () =>
    nodes
      .filter((node) => isOfProduct(node, product))
      .flatMap(({ gpus, gpuMemoryMib }) => {
        const each = gpuMemoryMib ?? memoryMib;
        return each === null ? [] : Array.from({ length: gpus }, () => each);
      })
      .sort((a, b) => b - a),
  );
}

/** GPUs of the node that has most. Nodes that are away or cordoned count: they may come back. */
export function mostIn(nodes: Nodes, product: string | null): number {
  return once(nodes, `most ${product}`, () =>
    nodes.reduce((most, node) => (isOfProduct(node, product) ? Math.max(most, node.gpus) : most), 0),
  );
}

/** What a replica takes of the nodes: an equal part of its GPUs of each. */
export interface Extent {
  readonly gpus: number;
  readonly nodes: number;
  readonly product: string | null;
  /** What it asks for them by; absent: {@link WHOLE}. */
  readonly resource?: string;
}

/** The GPUs that nodes count. How many of another resource are free, such as instances of MIG, nobody here knows. */
export const WHOLE = "nvidia.com/gpu";

export function isOfWholeGpus({ resource = WHOLE }: Pick<Extent, "resource">): boolean {
  return resource === WHOLE;
}

/** The fewest nodes that have an equal part each of so many GPUs; `null`: no number of them has. */
export function partsIn(nodes: Nodes, gpus: number, product: string | null): number | null {
  return once(nodes, `parts ${gpus} ${product}`, () => {
    const able = nodes.filter((node) => isOfProduct(node, product)).map((node) => node.gpus);
    const spans = able.map((_, index) => index + 1).filter((span) => gpus % span === 0);
    return spans.find((span) => able.filter((has) => has >= gpus / span).length >= span) ?? null;
  });
}

/** How many more replicas could surely get their GPUs now. Two pods of one may be on one node, where it has room for both. */
export function roomFor(nodes: Nodes, { gpus, nodes: span, product, ...of }: Extent): number {
  if (!isOfWholeGpus(of)) return 0;
  const each = Math.max(1, gpus / span);
  return once(nodes, `room ${each} ${span} ${product}`, () => {
    const open = nodes.filter((node) => node.ready && node.schedulable && isOfProduct(node, product));
    const parts = open.map((node) => Math.max(0, Math.floor((node.gpus - node.usedGpus) / each)));
    return Math.floor(parts.reduce((sum, count) => sum + count, 0) / span);
  });
}

/** Whether one more replica could get its GPUs now. */
export function hasRoomFor(nodes: Nodes, extent: Extent): boolean {
  return roomFor(nodes, extent) >= 1;
}

/** Names of those that do not answer. */
export function awayIn(nodes: Nodes): ReadonlySet<string> {
  return once(nodes, "away", () => new Set(nodes.filter(({ ready }) => !ready).map(({ name }) => name)));
}

/** Names of those that are to be emptied. */
export function drainingIn(nodes: Nodes): ReadonlySet<string> {
  return once(nodes, "draining", () => new Set(nodes.filter(({ draining }) => draining).map(({ name }) => name)));
}

/** Names of their GPUs. */
export function productsOf(nodes: Nodes): readonly string[] {
  return once(nodes, "products", () => [...new Set(nodes.flatMap(({ product }) => product ?? []))]);
}
