/** API keys: a line for the settings, or, with `auth.store: database`, keys that the daemon has. */
import type { Key } from "../../client/types.ts";
import { newKey } from "../../platform/new-key.ts";
import { type CommonOptions, contextOf } from "../context.ts";
import { UsageError } from "../exits.ts";
import { type Column, table } from "../table.ts";
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
  const { role, expires } = options;
  if (!ROLES.includes(role)) throw new UsageError(`${role}: expected ${ROLES.join(", ")}`);
  if (!(await isKeptInDatabase(options))) return console.log(lineFor(principal, options));
  const { client, terminal } = await contextOf(options);
  const until = expires === undefined ? {} : { expires: new Date(expires).toISOString() };
  const answer = await client.createKey({ principal, role: role as Key["role"], ...until });
  if (terminal.json) return terminal.data(answer);
  terminal.line(`key: ${answer.key}`);
  terminal.say(`it is shown this once; its id is ${answer.id}`);
}

/** A daemon that is named is asked. Without one the settings of this host say where its keys are. */
async function isKeptInDatabase({ url, host, config }: KeyOptions): Promise<boolean> {
  if (url !== undefined || host !== undefined) return true;
  const { load } = await import("../host-verbs.ts");
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
