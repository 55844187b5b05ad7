/**
 * The tables in PostgreSQL, for several controllers.
 *
 *  1. It may be away, from the start on: each call says so within {@link ANSWER_MS}, and nothing waits longer.
 *  2. The tables are made or brought up to date before the first call, by one controller at a time.
 *  3. No error and no log has the password in it.
 *  4. What this process gives up the server gives up, too, and of a process that is stopped or cut off nothing stays locked.
 */
import pg from "pg";
import type { PostgresSettings } from "./address.ts";
import { type Database, DatabaseError, type Row, type Statement, type Value } from "./database.ts";
import { upgrade } from "./postgres-upgrade.ts";

const MAX_CONNECTIONS = 4;
const CONNECT_MS = 3_000;
/** Of one statement. */
const ANSWER_MS = 5_000;
/** Adopting a large database rewrites tables. */
const UPGRADE_MS = 600_000;
const IDLE_MS = 30_000;
/** Before whoever asked gives up: the server's words say what it was. */
const LOCKED_MS = ANSWER_MS - 1_000;

/** For each connection from its beginning: no statement has to name the schema, and times are UTC. */
function optionsOf(schema: string, limits: { readonly statementMs: number; readonly lockMs: number }): string {
  const options = {
    search_path: schema,
    timezone: "UTC",
    client_min_messages: "warning",
    statement_timeout: limits.statementMs,
    lock_timeout: limits.lockMs,
    idle_in_transaction_session_timeout: ANSWER_MS,
    // A host that is switched off says nothing: without these its session would have its locks for hours.
    tcp_keepalives_idle: 5,
    tcp_keepalives_interval: 5,
    tcp_keepalives_count: 2,
  };
  return Object.entries(options)
    .map(([name, value]) => `-c ${name}=${value}`)
    .join(" ");
}

export function clientConfig(settings: PostgresSettings): pg.ClientConfig {
  const { host, port, database, user, password, schema, tls } = settings;
  return {
    host,
    port,
    database,
    user,
    ...(password === null ? {} : { password }),
    ssl: tls === null ? false : { rejectUnauthorized: true, ...(tls.ca === null ? {} : { ca: tls.ca }) },
    options: optionsOf(schema, { statementMs: ANSWER_MS, lockMs: LOCKED_MS }),
    application_name: "gpu-orchestrator controller",
    connectionTimeoutMillis: CONNECT_MS,
    query_timeout: ANSWER_MS,
    keepAlive: true,
    types: { getTypeParser: parserOf as never },
  };
}

export class PostgresDatabase implements Database {
  readonly dialect = "postgres";
  readonly #settings: PostgresSettings;
  readonly #pool: pg.Pool;
  #upgraded: Promise<void> | null = null;

  constructor(settings: PostgresSettings) {
    this.#settings = settings;
    this.#pool = new pg.Pool({ ...clientConfig(settings), max: MAX_CONNECTIONS, idleTimeoutMillis: IDLE_MS });
    // Of one that is idle: the next call makes another.
    this.#pool.on("error", () => undefined);
    // Of one that is in use: its statement says so.
    this.#pool.on("connect", (client) => client.on("error", () => undefined));
  }

  async run(statements: readonly Statement[]): Promise<readonly (readonly Row[])[]> {
    try {
      this.#upgraded ??= this.#upgrade();
      await this.#upgraded.catch((error) => {
        this.#upgraded = null;
        throw error;
      });
      return await this.#with((client) => all(client, statements));
    } catch (error) {
      throw asDatabaseError(error as PgError);
    }
  }

  async #with<T>(act: (client: pg.ClientBase) => Promise<T>): Promise<T> {
    const client = await this.#pool.connect();
    try {
      const done = await act(client);
      client.release();
      return done;
    } catch (error) {
      // Whatever state it is in: nobody is given this connection again.
      client.release(true);
      throw error;
    }
  }

  async #upgrade(): Promise<void> {
    const { schema } = this.#settings;
    const options = optionsOf(schema, { statementMs: UPGRADE_MS, lockMs: UPGRADE_MS });
    const client = new pg.Client({ ...clientConfig(this.#settings), query_timeout: UPGRADE_MS, options });
    client.on("error", () => undefined);
    try {
      await client.connect();
      await upgrade(client, schema);
    } finally {
      // What cannot be closed in words is closed all the same.
      void client.end().catch(() => undefined);
    }
  }

  async close(): Promise<void> {
    await this.#pool.end();
  }
}

async function all(client: pg.ClientBase, statements: readonly Statement[]): Promise<readonly (readonly Row[])[]> {
  const rows: (readonly Row[])[] = [];
  const one = async ({ sql, values = [] }: Statement) => rows.push((await client.query(sql, values.map(taken))).rows);
  if (statements.length === 1) {
    for (const statement of statements) await one(statement);
    return rows;
  }
  await client.query("BEGIN");
  for (const statement of statements) await one(statement);
  await client.query("COMMIT");
  return rows;
}

/** PostgreSQL knows no NUL in a text, and words of a program that has failed can have one. */
function taken(value: Value): Value {
  return typeof value === "string" && value.includes("\0") ? value.replaceAll("\0", "\uFFFD") : value;
}

type PgError = Error & { readonly code?: string };

/** SQLSTATE: 22 is a value, 23 a constraint, 42 a name or a right. Everything else may pass: no connection, a full disk. */
function asDatabaseError(error: PgError): DatabaseError {
  if (error instanceof DatabaseError) return error;
  const { code = "", message } = error;
  if (code === "23505") return new DatabaseError("taken", message);
  return new DatabaseError(/^(22|23)...$/.test(code) ? "refused" : "away", message || code);
}

const TIMESTAMP = 1_114;
const BIGINT = 20;
const JSONS: ReadonlySet<number> = new Set([114, 3_802]);

/** A time is RFC 3339, JSON is text, a count is a number: as SQLite has them. */
function parserOf(oid: number, format?: "text" | "binary"): (text: string) => unknown {
  if (oid === TIMESTAMP) return (text) => new Date(`${text.replace(" ", "T")}Z`).toISOString();
  if (oid === BIGINT) return Number;
  if (JSONS.has(oid)) return (text) => text;
  return pg.types.getTypeParser(oid, format ?? "text") as (text: string) => unknown;
}
