/** One bug that the suite must catch. */
export interface Mutant {
  /** What is wrong with the program that has it: a sentence. */
  readonly name: string;
  /** Relative to the project, as are the tests. */
  readonly file: string;
  /** Stands exactly once in the file, or the mutant is out of date. */
  readonly find: string;
  readonly replace: string;
  /** The test files of which at least one must fail: few, so that it is fast. */
  readonly tests: readonly string[];
  /** Its tests need the program built, with the bug in it. */
  readonly built?: true;
}

/** Mutants of one file, unless they name another, each of which the same tests must catch. */
export function planted(
  file: string,
  tests: readonly string[],
  bugs: readonly (Pick<Mutant, "name" | "find" | "replace"> & Partial<Pick<Mutant, "file">>)[],
): readonly Mutant[] {
  return bugs.map((bug) => ({ file, ...bug, tests }));
}
