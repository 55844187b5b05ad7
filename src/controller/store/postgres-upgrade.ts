/**
 * Brings the schema of a PostgreSQL up to date: an empty one, one of an older version, or the Orchestration Service's own,
 * whose tables are adopted with their rows. All of it happens, or nothing.
 */
import type pg from "pg";
import { columnIn, creating, quoted, TABLES, type Table, typeIn } from "./schema.ts";

/** As many as SQLite's, so that a version means the same tables in both; the first here makes or adopts them all. */
const FIRST = 3;
/** Entry n leads from version FIRST + n to the next. */
const LATER: readonly (readonly string[])[] = [];
const NEWEST = FIRST + LATER.length;
/** One controller at a time: the letters `GpuC`. */
const UPGRADE_LOCK = 0x47707543;
const VERSIONS_TABLE = "controller_migrations";

/** @throws Error when it is of a newer version. */
export async function upgrade(client: pg.ClientBase, schema: string): Promise<void> {
  await client.query("BEGIN");
  try {
    await client.query("SELECT pg_advisory_xact_lock($1)", [UPGRADE_LOCK]);
    const { rows: schemas } = await client.query("SELECT 1 FROM pg_namespace WHERE nspname = $1", [schema]);
    // Not "if not exists": that takes the right to make one even where there is one.
    if (schemas.length === 0) await client.query(`CREATE SCHEMA ${quoted(schema)}`);
    const version = await versionOf(client, schema);
    if (version > NEWEST) {
      throw new Error(`the schema ${schema} is of a newer version (${version}; this one knows ${NEWEST})`);
    }
    if (version === 0) await makeOrAdopt(client, schema);
    for (const sql of LATER.slice(Math.max(0, version - FIRST)).flat()) await client.query(sql);
    if (version < NEWEST) {
      await client.query(`INSERT INTO ${VERSIONS_TABLE} (version) SELECT generate_series($1::int, $2::int)`, [
        version + 1,
        NEWEST,
      ]);
    }
    await client.query("COMMIT");
  } catch (error) {
    await client.query("ROLLBACK").catch(() => undefined);
    throw error;
  }
}

async function versionOf(client: pg.ClientBase, schema: string): Promise<number> {
  const { rows: tables } = await client.query("SELECT 1 FROM pg_tables WHERE schemaname = $1 AND tablename = $2", [
    schema,
    VERSIONS_TABLE,
  ]);
  if (tables.length === 0) {
    await client.query(
      `CREATE TABLE ${VERSIONS_TABLE} (version INTEGER PRIMARY KEY, applied_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP)`,
    );
    return 0;
  }
  const { rows } = await client.query(`SELECT coalesce(max(version), 0) AS version FROM ${VERSIONS_TABLE}`);
  return rows[0].version;
}

interface There {
  readonly column_name: string;
  readonly data_type: string;
  readonly is_nullable: "YES" | "NO";
  readonly column_default: string | null;
}

async function makeOrAdopt(client: pg.ClientBase, schema: string): Promise<void> {
  for (const table of TABLES) {
    const { rows } = await client.query<There>(
      `SELECT column_name, data_type, is_nullable, column_default FROM information_schema.columns
       WHERE table_schema = $1 AND table_name = $2`,
      [schema, table.name],
    );
    const statements = rows.length === 0 ? creating("postgres", table) : adopting(table, rows);
    for (const sql of statements) await client.query(sql);
  }
  await client.query("INSERT INTO versions (one, last) VALUES (1, 0) ON CONFLICT DO NOTHING");
}

/**
 * From another program's table to ours: columns and defaults that it lacks are added, ids of another type become words, and
 * what we may not know may be null. Its own columns, keys and rows stay.
 */
function adopting({ name, columns, indexes }: Table, there: readonly There[]): string[] {
  const known = new Map(there.map((column) => [column.column_name, column]));
  const changes = Object.entries(columns).flatMap(([column, of]): string[] => {
    const old = known.get(column);
    if (old === undefined) return [`ADD COLUMN ${columnIn("postgres", column, of)}`];
    const isWord = typeof of.type === "object";
    const becomesWord = isWord && old.data_type !== "character varying" && old.data_type !== "text";
    const type = typeIn("postgres", of.type);
    return [
      ...(becomesWord ? [`ALTER COLUMN ${quoted(column)} TYPE ${type} USING ${quoted(column)}::text`] : []),
      // Its own program wrote them all; what refers to a deployment that is gone does not.
      ...(of.byDefault !== null && old.column_default === null
        ? [`ALTER COLUMN ${quoted(column)} SET DEFAULT ${of.byDefault}`]
        : []),
      ...(of.mayBeNull && old.is_nullable === "NO" ? [`ALTER COLUMN ${quoted(column)} DROP NOT NULL`] : []),
    ];
  });
  return [
    ...(changes.length === 0 ? [] : [`ALTER TABLE ${name} ${changes.join(", ")}`]),
    ...Object.entries(indexes).map(
      ([index, of]) => `CREATE INDEX IF NOT EXISTS ${index} ON ${name} (${of.map(quoted).join(", ")})`,
    ),
  ];
}
