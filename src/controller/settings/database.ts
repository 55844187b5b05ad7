/** Where history and, on one host, objects are kept: a PostgreSQL or a file of SQLite. */
import { readFileSync } from "node:fs";
import type { Origin, Problem } from "../../config/problems.ts";
import type { PostgresSettings } from "../store/address.ts";

type Environment = Readonly<Record<string, string | undefined>>;

const PORT = 5_432;
/** The second seed's. It has a password by default, too; this one has none. */
const NAME = "ai_platform";
const USER = "ai_platform";
const SCHEMA = "orchestration";
const IDENTIFIER = /^[a-z_][a-z0-9_]{0,62}$/;
const URL_PREFIX = /^postgres(ql)?:\/\//;

export function isPostgresUrl(database: string | undefined): database is string {
  return database !== undefined && URL_PREFIX.test(database);
}

/**
 * `DB_HOST` chooses a PostgreSQL, and so does `database: postgres://...`, under the second seed's environment.
 *
 * @returns null for none.
 */
export function postgresOf(
  database: string | undefined,
  env: Environment,
  problems: Problem[],
): PostgresSettings | null {
  const { DB_HOST: host } = env;
  const found = (origin: Origin, message: string) => problems.push({ origin, path: "", message, hint: null });
  const url = isPostgresUrl(database) ? urlIn(database, problems) : null;
  if ((host === undefined || host === "") && url === null) return null;
  const port = env.DB_PORT === undefined || env.DB_PORT === "" ? (url?.port ?? PORT) : Number(env.DB_PORT);
  if (!Number.isInteger(port) || port < 1 || port > 65_535) {
    found({ kind: "environment", name: "DB_PORT" }, "expected a whole number from 1 to 65535");
  }
  const schema = env.DB_SCHEMA || SCHEMA;
  if (!IDENTIFIER.test(schema)) found({ kind: "environment", name: "DB_SCHEMA" }, "expected a-z, 0-9 and _");
  const ssl = env.DB_SSL || (url?.ssl ?? "verify-full");
  // What does not look at the certificate only seems to be safe.
  if (ssl !== "disable" && ssl !== "verify-full" && ssl !== "require") {
    found({ kind: "environment", name: "DB_SSL" }, "expected verify-full or disable");
  }
  return {
    host: host || (url?.host ?? "localhost"),
    port,
    database: env.DB_NAME || (url?.database ?? NAME),
    user: env.DB_USER || (url?.user ?? USER),
    password: fileOf(env, "DB_PASSWORD_FILE", problems)?.trim() ?? (env.DB_PASSWORD || (url?.password ?? null)),
    schema,
    tls: ssl === "disable" ? null : { ca: fileOf(env, "DB_SSL_CA", problems) },
  };
}

function fileOf(env: Environment, name: string, problems: Problem[]): string | null {
  const path = env[name];
  if (path === undefined || path === "") return null;
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    const origin: Origin = { kind: "environment", name };
    problems.push({ origin, path: "", message: (error as Error).message, hint: null });
    return null;
  }
}

/** No message has the URL in it: it may have a password. */
function urlIn(database: string, problems: Problem[]) {
  try {
    const { hostname, port, pathname, username, password, searchParams } = new URL(database);
    const part = (text: string) => (text === "" ? null : decodeURIComponent(text));
    return {
      host: part(hostname.replace(/^\[(.*)\]$/, "$1")) ?? "localhost",
      port: port === "" ? null : Number(port),
      database: part(pathname.slice(1)),
      user: part(username),
      password: part(password),
      ssl: searchParams.get("sslmode"),
    };
  } catch {
    const message = "expected postgres://USER@HOST:PORT/NAME";
    problems.push({ origin: { kind: "default" }, path: "database", message, hint: null });
    return null;
  }
}
