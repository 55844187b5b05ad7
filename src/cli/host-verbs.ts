/** The verbs of the daemon's own host. They read its settings and its database, and are loaded when one of them is called. */
import { userInfo } from "node:os";
import type { LoadedConfig } from "../config/load.ts";
import { ConfigError, formatProblem, formatProblems } from "../config/problems.ts";
import { EXIT } from "./exits.ts";
import { load, type ServeOptions } from "./settings.ts";

const HEALTH_TIMEOUT_MS = 3_000;

export interface DatabaseOptions {
  readonly config?: string;
  readonly database?: string;
}

export async function checkConfig(file: string | undefined): Promise<void> {
  const [{ SETTING_RULES }, { hostTroubles }] = await Promise.all([
    import("../daemon/setting-rules.ts"),
    import("../daemon/host-check.ts"),
  ]);
  const { config, file: read, warnings } = load(file === undefined ? {} : { config: file }, SETTING_RULES);
  for (const warning of warnings) console.error(`warning: ${formatProblem(warning)}`);
  // The file may be checked for another host, or by another user.
  for (const trouble of hostTroubles(config))
    console.error(`warning: on this host, for ${userInfo().username}: ${trouble}`);
  console.log(read === null ? "no settings file: the defaults hold" : `${read}: fine`);
}

export async function health(options: ServeOptions): Promise<void> {
  const { server, auth } = load(options).config;
  if (server.socket !== null && !auth.enabled) return healthAt(server.socket);
  // "Any address" is where to listen, not where to call.
  const host = server.host === "0.0.0.0" ? "127.0.0.1" : server.host === "::" ? "[::1]" : server.host;
  const url = `${server.tls === null ? "http" : "https"}://${host.includes(":") && !host.startsWith("[") ? `[${host}]` : host}:${server.port}/livez`;
  try {
    const status = server.tls === null ? await statusOf(url) : await secureStatusOf(url);
    if (status !== 200) throw new Error(`status ${status}`);
    console.log(`${url}: alive`);
  } catch (error) {
    console.error(`${url}: ${error instanceof Error ? error.message : String(error)}`);
    process.exitCode = EXIT.refused;
  }
}

/** Where nothing listens at a port. */
async function healthAt(socket: string): Promise<void> {
  const { nodeTransport } = await import("../client/node-transport.ts");
  const { Client } = await import("../client/client.ts");
  try {
    await new Client({ transport: nodeTransport(`unix:${socket}`) }).hello({
      signal: AbortSignal.timeout(HEALTH_TIMEOUT_MS),
    });
    console.log(`${socket}: alive`);
  } catch (error) {
    console.error(`${socket}: ${error instanceof Error ? error.message : String(error)}`);
    process.exitCode = EXIT.refused;
  }
}

async function statusOf(url: string): Promise<number> {
  return (await fetch(url, { signal: AbortSignal.timeout(HEALTH_TIMEOUT_MS) })).status;
}

/** It is asked by an address that its certificate need not have, on this host, and nothing is told to it. */
async function secureStatusOf(url: string): Promise<number> {
  const { get } = await import("node:https");
  return new Promise((resolve, reject) => {
    const signal = AbortSignal.timeout(HEALTH_TIMEOUT_MS);
    const asked = get(url, { rejectUnauthorized: false, signal, agent: false }, (answer) => {
      answer.resume();
      resolve(answer.statusCode ?? 0);
    });
    asked.on("error", reject);
  });
}

function databaseOf({ database, ...options }: DatabaseOptions): string {
  return database ?? load(options).config.storage.path;
}

interface BackupOptions extends DatabaseOptions {
  readonly overwrite?: boolean;
}

export async function makeBackup(file: string, { overwrite, ...options }: BackupOptions): Promise<void> {
  const database = databaseOf(options);
  const ofController = await import("../controller/store/backup.ts");
  if (ofController.isOfController(database)) {
    const { from, to, bytes } = await ofController.backUpController(database, file, overwrite === true);
    console.log(`${from} of a controller is backed up to ${to} (${(bytes / 2 ** 20).toFixed(1)} MiB)`);
    return;
  }
  const { backUp } = await import("../daemon/host-verbs.ts");
  const giveUp = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => giveUp.abort(signal));
  try {
    const { from, to, bytes } = await backUp(database, file, { overwrite: overwrite === true, signal: giveUp.signal });
    console.log(`${from} is backed up to ${to} (${(bytes / 2 ** 20).toFixed(1)} MiB)`);
  } catch (error) {
    // The second time the signal does what it does by itself, at once: an exit would wait for the copying thread.
    if (giveUp.signal.aborted) process.kill(process.pid, giveUp.signal.reason);
    throw error;
  }
}

export async function restoreBackup(file: string, options: DatabaseOptions): Promise<void> {
  const path = databaseOf(options);
  const ofController = await import("../controller/store/backup.ts");
  if (ofController.isOfController(file)) {
    if (options.database === undefined) throw new Error(`${file} is of a controller: name its database by --database`);
    const { file: restored, kept } = await ofController.restoreController(path, file);
    console.log(`${restored} is as it was when ${file} was made; start the controller`);
    if (kept !== null) console.log(`what it was until now is kept as ${kept}`);
    return;
  }
  const { restore } = await import("../daemon/host-verbs.ts");
  const { file: database, kept, asOf, leases, waiting, beside, keptBeside } = restore(path, file);
  const when = asOf === null ? "before its first start" : `at ${new Date(asOf).toISOString()}`;
  console.log(`${database} is as it was ${when}, with ${leases} leases and ${waiting} waiting requests`);
  if (kept !== null) console.log(`what it was until now is kept as ${kept}`);
  if (keptBeside !== null) console.log(`its books of work are kept as ${keptBeside}`);
  if (beside) console.log("the books of work too: its open tasks fail with outcome-unknown when the daemon starts");
  console.log("start the daemon, then release what has ended since: GET /gpu/list shows what it believes");
}

export async function replayDecision(file: string, { at, json }: { at: number; json?: boolean }): Promise<void> {
  const [{ replay, ReplayError }, { asJson, told }] = await Promise.all([
    import("../daemon/host-verbs.ts"),
    import("./replay.ts"),
  ]);
  try {
    const found = replay(file, at);
    console.log(json === true ? asJson(found) : told(found).join("\n"));
    if (!found.isSame) process.exitCode = EXIT.refused;
  } catch (error) {
    if (!(error instanceof ReplayError)) throw error;
    console.error(error.message);
    process.exitCode = error.isMissing ? EXIT.noInput : EXIT.data;
  }
}

export { ConfigError, formatProblem, formatProblems };

export async function loadForDoctor(named: string | undefined): Promise<LoadedConfig> {
  const { SETTING_RULES } = await import("../daemon/setting-rules.ts");
  return load(named === undefined ? {} : { config: named }, SETTING_RULES);
}
