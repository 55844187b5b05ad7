/** How much memory a GPU has, by the name that its node has for it: where the node does not say. */

const MIB_OF_GB = 1_000 ** 3 / 1_024 ** 2;

/** Those whose names do not tell, in MiB, as their driver reports them. */
const KNOWN: ReadonlyMap<string, number> = new Map([
  ["h200", 143_771],
  ["b200", 183_359],
  ["gb200", 189_471],
  ["a10g", 23_028],
  ["l40s", 46_068],
  ["t4", 15_360],
]);

/**
 * Of each GPU of a product such as `NVIDIA-A100-SXM4-40GB`, or of each instance of `...-MIG-1g.5gb`; a little less than there is
 * where the name says it in GB.
 *
 * @returns null where nothing tells.
 */
export function memoryOfProduct(product: string): number | null {
  const name = product.toLowerCase();
  const stated = /mig-\d+g\.(\d{1,4})gb/.exec(name) ?? /(?:^|[^\d.])(\d{1,4})gb(?![a-z\d])/.exec(name);
  if (stated !== null) return Math.floor(Number(stated[1]) * MIB_OF_GB);
  const known = name.split(/[-_ ]+/).find((word) => KNOWN.has(word));
  return known === undefined ? null : (KNOWN.get(known) ?? null);
}
