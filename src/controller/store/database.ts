/** A database, as objects and their history need it: statements, several of them as one. */
import type { Dialect } from "./schema.ts";

/** Times go in as RFC 3339 in UTC, JSON as text. */
export type Value = string | number | boolean | null;
export type Row = Readonly<Record<string, unknown>>;

export interface Statement {
  /** Its values are `$1`, `$2` and so on; a table is named as it is. */
  readonly sql: string;
  readonly values?: readonly Value[];
}

export interface Database {
  readonly dialect: Dialect;
  /**
   * All of them or none, one after the other.
   *
   * @returns the rows of each. Times are RFC 3339 in UTC, JSON is text, booleans may be 0 and 1.
   * @throws DatabaseError
   */
  run(statements: readonly Statement[]): Promise<readonly (readonly Row[])[]>;
  close(): Promise<void>;
}

/**
 * `away`: it may be taken later as it is. `refused`: never, such as a value that its column does not take. `taken`: there is
 * one with this key.
 */
export class DatabaseError extends Error {
  readonly kind: "away" | "refused" | "taken";

  constructor(kind: DatabaseError["kind"], message: string) {
    super(message);
    this.kind = kind;
  }
}
