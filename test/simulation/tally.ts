/** Counts what happened, by group and name. */
export class Tally {
  readonly #groups = new Map<string, Map<string, number>>();

  count(group: string, name: string, by = 1): void {
    let names = this.#groups.get(group);
    if (names === undefined) {
      names = new Map();
      this.#groups.set(group, names);
    }
    names.set(name, (names.get(name) ?? 0) + by);
  }

  of(group: string, name: string): number {
    return this.#groups.get(group)?.get(name) ?? 0;
  }

  /** Those of `names` that never happened. */
  missing(group: string, names: readonly string[]): readonly string[] {
    return names.filter((name) => this.of(group, name) === 0).map((name) => `${group}: ${name}`);
  }

  /** One line per group, names in the order of the alphabet. */
  lines(): readonly string[] {
    return [...this.#groups].map(([group, names]) => {
      const figures = [...names].sort(([a], [b]) => (a < b ? -1 : 1)).map(([name, n]) => `${name} ${n}`);
      return `${group}: ${figures.join(", ")}`;
    });
  }
}
