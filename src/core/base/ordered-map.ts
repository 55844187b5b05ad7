/**
 * A persistent map in key order: an AVL tree whose old versions stay valid, so that a state is a value and a
 * failed commit simply keeps the old one.
 *
 * Invariants:
 *  1. The heights of two siblings differ by at most one.
 *  2. `size` and `measure` of a node cover its whole subtree.
 *  3. A node is never changed once built.
 */

/** How keys are ordered, and what is summed up over a subtree. */
export interface Ordering<K, V, M> {
  /** A total order: 0 only for the same key. */
  compare(a: K, b: K): number;
  /** Sums up one entry with what is known of the subtrees beside it (`undefined`: empty). */
  measure(key: K, value: V, left: M | undefined, right: M | undefined): M;
}

interface Node<K, V, M> {
  readonly key: K;
  readonly value: V;
  readonly left: Tree<K, V, M>;
  readonly right: Tree<K, V, M>;
  readonly height: number;
  readonly size: number;
  readonly measure: M;
}
type Tree<K, V, M> = Node<K, V, M> | undefined;

export class OrderedMap<K, V, M = undefined> {
  readonly #ordering: Ordering<K, V, M>;
  readonly #root: Tree<K, V, M>;
  /** Found when it is first asked for; `null`: not yet. */
  #first: readonly [K, V] | undefined | null = null;

  private constructor(ordering: Ordering<K, V, M>, root: Tree<K, V, M>) {
    this.#ordering = ordering;
    this.#root = root;
  }

  static empty<K, V, M>(ordering: Ordering<K, V, M>): OrderedMap<K, V, M> {
    return new OrderedMap(ordering, undefined);
  }

  get size(): number {
    return this.#root?.size ?? 0;
  }

  /** What is summed up over all entries; `undefined` when there are none. */
  get measure(): M | undefined {
    return this.#root?.measure;
  }

  get(key: K): V | undefined {
    let node = this.#root;
    while (node !== undefined) {
      const side = this.#ordering.compare(key, node.key);
      if (side === 0) return node.value;
      node = side < 0 ? node.left : node.right;
    }
    return undefined;
  }

  set(key: K, value: V): OrderedMap<K, V, M> {
    return new OrderedMap(this.#ordering, insert(this.#ordering, this.#root, key, value));
  }

  delete(key: K): OrderedMap<K, V, M> {
    const root = this.#without(key, null);
    return root === this.#root ? this : new OrderedMap(this.#ordering, root);
  }

  /** What stands at `key`, and the map without it, found in one way down; `undefined`: nothing does. */
  take(key: K): { readonly value: V; readonly rest: OrderedMap<K, V, M> } | undefined {
    const taken: { value?: V } = {};
    const root = this.#without(key, taken);
    if (root === this.#root) return undefined;
    return { value: taken.value as V, rest: new OrderedMap(this.#ordering, root) };
  }

  #without(key: K, taken: { value?: V } | null): Tree<K, V, M> {
    const first = this.first();
    if (first === undefined) return undefined;
    // The first is what is mostly taken out of a line: no key need be compared on the way to it.
    if (this.#ordering.compare(key, first[0]) !== 0) return remove(this.#ordering, this.#root, key, taken);
    if (taken !== null) taken.value = first[1];
    return removeFirst(this.#ordering, this.#root as Node<K, V, M>);
  }

  first(): readonly [K, V] | undefined {
    if (this.#first === null) {
      let node = this.#root;
      while (node?.left !== undefined) node = node.left;
      this.#first = node === undefined ? undefined : [node.key, node.value];
    }
    return this.#first;
  }

  /** How many entries stand before `key`. */
  rank(key: K): number {
    let node = this.#root;
    let before = 0;
    while (node !== undefined) {
      const side = this.#ordering.compare(key, node.key);
      if (side <= 0) {
        if (side === 0) return before + (node.left?.size ?? 0);
        node = node.left;
      } else {
        before += (node.left?.size ?? 0) + 1;
        node = node.right;
      }
    }
    return before;
  }

  /**
   * The first entry that passes `accept`. Subtrees whose measure fails `promising` are skipped whole, so with a
   * measure that is exact for the question this takes logarithmic time.
   */
  find(promising: (measure: M) => boolean, accept: (value: V, key: K) => boolean): V | undefined {
    return search(this.#root, promising, accept)?.value;
  }

  /** Every value, in order: as {@link values}, in less time where there are few. */
  forEach(visit: (value: V) => void): void {
    visitAll(this.#root, visit);
  }

  *values(): Generator<V> {
    for (const node of walk(this.#root, () => true)) yield node.value;
  }

  /** The values whose keys are not before `key`, in order. */
  *valuesFrom(key: K): Generator<V> {
    for (const node of walk(this.#root, (other) => this.#ordering.compare(other, key) >= 0)) yield node.value;
  }
}

/** An ordering by strings with nothing to sum up. */
export function byText<V>(): Ordering<string, V, undefined> {
  return { compare: (a, b) => (a < b ? -1 : a > b ? 1 : 0), measure: () => undefined };
}

/** In order; `inside` must be false for a first stretch of keys and true from there on. */
function* walk<K, V, M>(tree: Tree<K, V, M>, inside: (key: K) => boolean): Generator<Node<K, V, M>> {
  const path: Node<K, V, M>[] = [];
  let node = tree;
  while (node !== undefined || path.length > 0) {
    while (node !== undefined) {
      if (inside(node.key)) {
        path.push(node);
        node = node.left;
      } else node = node.right;
    }
    if (path.length === 0) return;
    const next = path.pop() as Node<K, V, M>;
    yield next;
    node = next.right;
  }
}

function visitAll<K, V, M>(tree: Tree<K, V, M>, visit: (value: V) => void): void {
  if (tree === undefined) return;
  visitAll(tree.left, visit);
  visit(tree.value);
  visitAll(tree.right, visit);
}

function search<K, V, M>(
  tree: Tree<K, V, M>,
  promising: (measure: M) => boolean,
  accept: (value: V, key: K) => boolean,
): Node<K, V, M> | undefined {
  if (tree === undefined || !promising(tree.measure)) return undefined;
  const before = search(tree.left, promising, accept);
  if (before !== undefined) return before;
  return accept(tree.value, tree.key) ? tree : search(tree.right, promising, accept);
}

function node<K, V, M>(
  ordering: Ordering<K, V, M>,
  key: K,
  value: V,
  left: Tree<K, V, M>,
  right: Tree<K, V, M>,
): Node<K, V, M> {
  return {
    key,
    value,
    left,
    right,
    height: 1 + Math.max(left?.height ?? 0, right?.height ?? 0),
    size: 1 + (left?.size ?? 0) + (right?.size ?? 0),
    measure: ordering.measure(key, value, left?.measure, right?.measure),
  };
}

/** Like {@link node}, for subtrees whose heights may differ by two. */
function balanced<K, V, M>(
  ordering: Ordering<K, V, M>,
  key: K,
  value: V,
  left: Tree<K, V, M>,
  right: Tree<K, V, M>,
): Node<K, V, M> {
  const tilt = (left?.height ?? 0) - (right?.height ?? 0);
  if (left !== undefined && tilt > 1) {
    if ((left.left?.height ?? 0) >= (left.right?.height ?? 0)) {
      return node(ordering, left.key, left.value, left.left, node(ordering, key, value, left.right, right));
    }
    const middle = left.right as Node<K, V, M>;
    return node(
      ordering,
      middle.key,
      middle.value,
      node(ordering, left.key, left.value, left.left, middle.left),
      node(ordering, key, value, middle.right, right),
    );
  }
  if (right !== undefined && tilt < -1) {
    if ((right.right?.height ?? 0) >= (right.left?.height ?? 0)) {
      return node(ordering, right.key, right.value, node(ordering, key, value, left, right.left), right.right);
    }
    const middle = right.left as Node<K, V, M>;
    return node(
      ordering,
      middle.key,
      middle.value,
      node(ordering, key, value, left, middle.left),
      node(ordering, right.key, right.value, middle.right, right.right),
    );
  }
  return node(ordering, key, value, left, right);
}

/** A node with another subtree on its left. */
function withLeft<K, V, M>(ordering: Ordering<K, V, M>, tree: Node<K, V, M>, left: Tree<K, V, M>): Node<K, V, M> {
  const { key, value, right } = tree;
  if (left?.height !== tree.left?.height) return balanced(ordering, key, value, left, right);
  return asHigh(ordering, tree, left, right, tree.size + (left?.size ?? 0) - (tree.left?.size ?? 0));
}

/** The same on its right. */
function withRight<K, V, M>(ordering: Ordering<K, V, M>, tree: Node<K, V, M>, right: Tree<K, V, M>): Node<K, V, M> {
  const { key, value, left } = tree;
  if (right?.height !== tree.right?.height) return balanced(ordering, key, value, left, right);
  return asHigh(ordering, tree, left, right, tree.size + (right?.size ?? 0) - (tree.right?.size ?? 0));
}

/** A node whose subtrees are as high as before, as they mostly are: then so is the node, and nothing tilts. */
function asHigh<K, V, M>(
  ordering: Ordering<K, V, M>,
  { key, value, height }: Node<K, V, M>,
  left: Tree<K, V, M>,
  right: Tree<K, V, M>,
  size: number,
): Node<K, V, M> {
  const measure = ordering.measure(key, value, left?.measure, right?.measure);
  return { key, value, left, right, height, size, measure };
}

function insert<K, V, M>(ordering: Ordering<K, V, M>, tree: Tree<K, V, M>, key: K, value: V): Node<K, V, M> {
  if (tree === undefined) return node(ordering, key, value, undefined, undefined);
  const side = ordering.compare(key, tree.key);
  if (side === 0) return node(ordering, key, value, tree.left, tree.right);
  return side < 0
    ? withLeft(ordering, tree, insert(ordering, tree.left, key, value))
    : withRight(ordering, tree, insert(ordering, tree.right, key, value));
}

/** @param taken is given the value that stood at `key`. */
function remove<K, V, M>(
  ordering: Ordering<K, V, M>,
  tree: Tree<K, V, M>,
  key: K,
  taken: { value?: V } | null,
): Tree<K, V, M> {
  if (tree === undefined) return undefined;
  const side = ordering.compare(key, tree.key);
  if (side < 0) {
    const left = remove(ordering, tree.left, key, taken);
    return left === tree.left ? tree : withLeft(ordering, tree, left);
  }
  if (side > 0) {
    const right = remove(ordering, tree.right, key, taken);
    return right === tree.right ? tree : withRight(ordering, tree, right);
  }
  if (taken !== null) taken.value = tree.value;
  if (tree.left === undefined) return tree.right;
  if (tree.right === undefined) return tree.left;
  let successor = tree.right;
  while (successor.left !== undefined) successor = successor.left;
  return balanced(ordering, successor.key, successor.value, tree.left, removeFirst(ordering, tree.right));
}

function removeFirst<K, V, M>(ordering: Ordering<K, V, M>, tree: Node<K, V, M>): Tree<K, V, M> {
  if (tree.left === undefined) return tree.right;
  return withLeft(ordering, tree, removeFirst(ordering, tree.left));
}
