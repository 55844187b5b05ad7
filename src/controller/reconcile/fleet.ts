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

/** How many more replicas of so many GPUs could be placed now. */
export function roomIn(nodes: Nodes, gpus: number, product: string | null): number {
  return once(nodes, `room ${gpus} ${product}`, () =>
    nodes
      .filter((node) => node.ready && node.schedulable && isOfProduct(node, product))
      .reduce((sum, node) => sum + Math.max(0, Math.floor((node.gpus - node.usedGpus) / Math.max(1, gpus))), 0),
  );
}

/** Whether some node could take a replica of so many GPUs now. */
export function hasRoomFor(nodes: Nodes, gpus: number, product: string | null): boolean {
  return once(nodes, `fits ${gpus} ${product}`, () =>
    nodes.some(
      (node) => node.ready && node.schedulable && isOfProduct(node, product) && node.gpus - node.usedGpus >= gpus,
    ),
  );
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
