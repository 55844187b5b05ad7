/** The `count` first of `items` in the order of `compare`; one, which is asked for most, takes one pass. */
export function first<T>(items: T[], count: number, compare: (a: T, b: T) => number): T[] {
  if (count !== 1 || items.length === 0) return items.sort(compare).slice(0, count);
  return [items.reduce((best, item) => (compare(item, best) < 0 ? item : best))];
}

export function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
