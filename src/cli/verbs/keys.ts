/** API keys: a line for the settings, or, with `auth.store: database`, keys that the daemon has. */
import { ApiProblem, Unreachable } from "../../client/errors.ts";
import type { Key, NewKey } from "../../client/types.ts";
import { newKey } from "../../platform/new-key.ts";
import { type CommonOptions, type Context, contextOf } from "../context.ts";
import { UsageError } from "../exits.ts";
import { type Column, table } from "../table.ts";
import { Terminal } from "../terminal.ts";
import { leftText, sinceText } from "../words.ts";

const ROLES: readonly string[] = ["read", "allocate", "run", "admin"];

interface KeyOptions extends CommonOptions {
  readonly role: string;
  readonly expires?: string;
  readonly config?: string;
}

const COLUMNS: readonly Column<Key>[] = [
  { head: "ID", cell: ({ id }) => id },
  { head: "PRINCIPAL", cell: ({ principal }) => principal, shrinksTo: 10 },
  { head: "ROLE", cell: ({ role }) => role },
  { head: "IN", cell: ({ source }) => source },
  { head: "CREATED", cell: ({ created_at: at }) => agoText(at), align: "right", goes: 1 },
  { head: "LAST USED", cell: ({ last_used_at: at }) => agoText(at) ?? "never", align: "right" },
  { head: "EXPIRES IN", cell: ({ expires_at: at }) => leftText(at, Date.now()) ?? "never", align: "right" },
];

const agoText = (at: string | null) => {
  const since = sinceText(at, Date.now());
  return since === null ? null : `${since} ago`;
};

export async function keys(what: string, which: string | undefined, options: KeyOptions): Promise<void> {
  if (what === "list") return list(options);
  if (what !== "create" && what !== "revoke") throw new UsageError(`keys ${what}: expected create, list or revoke`);
  if (which === undefined)
    throw new UsageError(what === "create" ? "for whom? gpuo keys create NAME" : "which? gpuo keys revoke ID");
  return what === "create" ? create(which, options) : revoke(which, options);
}

async function list(options: KeyOptions): Promise<void> {
  const { client, terminal } = await contextOf(options);
  const { keys: all } = await client.keys();
  if (terminal.json) for (const one of all) terminal.data(one);
  else if (all.length === 0) terminal.line("there are no keys");
  else for (const line of table(all, COLUMNS, terminal)) terminal.line(line);
}

async function revoke(id: string, options: KeyOptions): Promise<void> {
  const { client, terminal } = await contextOf(options);
  const answer = await client.revokeKey(id);
  if (terminal.json) terminal.data(answer);
  else terminal.say(`${answer.id} of ${answer.principal} is revoked`);
}

async function create(principal: string, options: KeyOptions): Promise<void> {
  const { role } = options;
  if (!ROLES.includes(role)) throw new UsageError(`${role}: expected ${ROLES.join(", ")}`);
  const answer = await madeByDaemon(principal, options);
  if (answer === null) return console.log(lineFor(principal, options));
  const terminal = new Terminal(options);
  if (terminal.json) return terminal.data(answer);
  terminal.line(`key: ${answer.key}`);
  terminal.say(`it is shown this once; its id is ${answer.id}`);
}

/**
 * A key that the daemon has made; `null`: its keys stand in its settings.
 *
 * A daemon or a settings file that an option names tells where the keys are. Without one a daemon is tried whose address
 * or key the environment or cli.yaml has; without those too, this host's settings tell.
 */
export async function madeByDaemon(
  principal: string,
  options: KeyOptions,
  connect: (options: KeyOptions) => Promise<Context> = contextOf,
): Promise<NewKey | null> {
  const { role, expires, url, host, config } = options;
  const isOpen = url === undefined && host === undefined && config === undefined;
  const bySettings = url === undefined && host === undefined && config !== undefined;
  if (bySettings && !(await isKeptInDatabase(config))) return null;
  const { client, terminal, key, isNamed } = await connect(options);
  const isTried = isOpen && (isNamed || key !== null);
  if (isOpen && !isTried && !(await isKeptInDatabase())) return null;
  if (expires !== undefined && Number.isNaN(Date.parse(expires)))
    throw new UsageError(`--expires ${expires}: expected a day such as 2027-06-30, or a time with its zone`);
  const until = expires === undefined ? {} : { expires: new Date(expires).toISOString() };
  try {
    return await client.createKey({ principal, role: role as Key["role"], ...until });
  } catch (error) {
    if (!isTried) throw error;
    if (error instanceof ApiProblem && error.code === "keys-in-file") return null;
    // Of a daemon that is named, this host's settings tell nothing.
    if (isNamed || !(error instanceof Unreachable) || (await isKeptInDatabase())) throw error;
    terminal.say(`no daemon answers (${error.message}); so the key is one for the settings`);
    return null;
  }
}

async function isKeptInDatabase(config?: string): Promise<boolean> {
  const { load } = await import("../settings.ts");
  return load(config === undefined ? {} : { config }).config.auth.store === "database";
}

/** The key, which is shown this once, and the line for `auth.api_keys`, which does not tell it. */
export function lineFor(principal: string, { role, expires }: Pick<KeyOptions, "role" | "expires">): string {
  const { key, sha256 } = newKey();
  const holder = [`principal: ${JSON.stringify(principal)}`, `role: ${role}`];
  if (expires !== undefined) holder.push(`expires: ${expires}`);
  return [
    `key: ${key}`,
    "It is shown this once. For the daemon, in config.yaml below auth.api_keys, then a SIGHUP:",
    `    sha256:${sha256}: {${holder.join(", ")}}`,
  ].join("\n");
}
