/** Which daemon is called, and with which key. A key is never an argument: arguments are seen by everybody on the host. */
import { readFileSync, statSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { Client } from "../client/client.ts";
import { defaultUrl } from "../client/default-url.ts";
import { nodeTransport } from "../client/node-transport.ts";
import { SettingsError } from "./exits.ts";

export interface ConnectionOptions {
  readonly url?: string;
  /** One of the hosts that the settings name. */
  readonly host?: string;
  readonly keyFile?: string;
}

export interface Connection {
  readonly url: string;
  /** Whether somebody says where the daemon is; else it is looked for where it usually is. */
  readonly isNamed: boolean;
  readonly key: string | null;
  /** Where it is from, for those who wonder. */
  readonly keyFrom: string | null;
}

interface Settings {
  readonly url?: string;
  readonly key_file?: string;
  readonly host?: string;
  readonly hosts?: Readonly<Record<string, { readonly url?: string; readonly key_file?: string }>>;
}

type Environment = Readonly<Record<string, string | undefined>>;

/** @param warn is told of a key file that others can read. */
export async function connectionOf(
  options: ConnectionOptions,
  env: Environment,
  warn: (words: string) => void,
): Promise<Connection> {
  const settings = await settingsIn(env);
  const urlHere = options.url ?? (options.host === undefined ? filled(env.GPU_ORCHESTRATOR_URL) : undefined);
  // A host's key goes to that host alone.
  const named = namedHost(options.host ?? (urlHere === undefined ? settings.host : undefined), settings);
  const given = urlHere ?? named?.url ?? filled(env.GPU_ORCHESTRATOR_URL) ?? settings.url;
  const url = given ?? defaultUrl();
  // A relative path of a socket would mean another for the keeper of gpuo run, which is in another folder.
  if (!/^(?:https?:\/\/.|unix:(?:\/\/)?\/[^/])/.test(url) || (!url.startsWith("unix:") && !URL.canParse(url))) {
    throw new SettingsError(`${url}: expected http://HOST:PORT, https://HOST or unix:/PATH`);
  }
  const fileFirst = options.keyFile ?? named?.key_file ?? filled(env.GPU_ORCHESTRATOR_API_KEY_FILE);
  const keyGiven = filled(env.GPU_ORCHESTRATOR_API_KEY);
  const at = { url, isNamed: given !== undefined };
  if (fileFirst === undefined && keyGiven !== undefined)
    return { ...at, key: keyGiven, keyFrom: "GPU_ORCHESTRATOR_API_KEY" };
  const file = fileFirst ?? settings.key_file;
  return file === undefined ? { ...at, key: null, keyFrom: null } : { ...at, ...keyIn(file, warn) };
}

export function clientOf({ url, key }: Pick<Connection, "url" | "key">, patienceMs = 0): Client {
  return new Client({ transport: nodeTransport(url), key: () => key, patienceMs });
}

/** Whether the daemon shares this host's processes: then what refuses a connection is a daemon that is down. */
export function isLocal(url: string): boolean {
  if (url.startsWith("unix:")) return true;
  const { hostname } = new URL(url);
  return hostname === "localhost" || hostname === "[::1]" || /^127\.\d+\.\d+\.\d+$/.test(hostname);
}

export function filled(text: string | undefined): string | undefined {
  return text === "" ? undefined : text;
}

function namedHost(name: string | undefined, { hosts = {} }: Settings) {
  if (name === undefined) return undefined;
  if (Object.hasOwn(hosts, name)) return hosts[name];
  const known = Object.keys(hosts);
  throw new SettingsError(`no host "${name}" in cli.yaml (${known.length === 0 ? "it names none" : known.join(", ")})`);
}

function keyIn(file: string, warn: (words: string) => void) {
  const path = file.startsWith("~/") ? join(homedir(), file.slice(2)) : file;
  try {
    const { mode } = statSync(path);
    if ((mode & 0o077) !== 0) warn(`${path} can be read by others: chmod 600 ${path}`);
    return { key: readFileSync(path, "utf8").trim(), keyFrom: path };
  } catch (error) {
    throw new SettingsError(`the key file cannot be read: ${(error as Error).message}`);
  }
}

async function settingsIn(env: Environment): Promise<Settings> {
  const folder = filled(env.XDG_CONFIG_HOME) ?? join(homedir(), ".config");
  const path = join(folder, "gpu-orchestrator", "cli.yaml");
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch {
    return {};
  }
  const { parseYaml } = await import("./yaml.ts");
  let settings: unknown;
  try {
    settings = parseYaml(text) ?? {};
  } catch (error) {
    throw new SettingsError(`${path}: ${(error as Error).message}`);
  }
  return checked(settings, path);
}

function checked(settings: unknown, path: string): Settings {
  const wrong = (what: string) => new SettingsError(`${path}: ${what}; known are url, key_file, host and hosts`);
  if (typeof settings !== "object" || settings === null || Array.isArray(settings)) throw wrong("expected keys");
  const known: Record<string, string> = { url: "string", key_file: "string", host: "string", hosts: "object" };
  for (const [key, value] of Object.entries(settings)) {
    if (!Object.hasOwn(known, key)) throw wrong(`unknown key ${key}`);
    if (typeof value !== known[key] || value === null)
      throw wrong(`${key}: expected ${known[key] === "object" ? "names" : "text"}`);
  }
  for (const [name, host] of Object.entries((settings as Settings).hosts ?? {})) {
    const stray = Object.keys(host ?? {}).find((key) => key !== "url" && key !== "key_file");
    if (stray !== undefined)
      throw new SettingsError(`${path}: hosts.${name}: unknown key ${stray}; known are url and key_file`);
  }
  return settings as Settings;
}
