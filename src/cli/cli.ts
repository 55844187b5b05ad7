/** The command line: what each verb does, and which exit code says what. */
import { Command, CommanderError, InvalidArgumentError } from "commander";
import { chooseConfigFile, type Flags, type LoadedConfig, loadConfig } from "../config/load.ts";
import { ConfigError, formatProblem, formatProblems } from "../config/problems.ts";
import type { Rule } from "../config/rules.ts";

declare const __VERSION__: string | undefined;

/** sysexits.h: EX_DATAERR, EX_NOINPUT, EX_CONFIG. */
const EXIT_DATA = 65;
const EXIT_NO_INPUT = 66;
const EXIT_CONFIG = 78;
const EXIT_FAILURE = 1;
/** commander's own for bad usage, and sysexits.h's EX_USAGE in spirit. */
const EXIT_USAGE = 2;
/** After SIGTERM the process is gone within this, in ms, whatever still hangs. */
const STOP_DEADLINE_MS = 9_500;
const HEALTH_TIMEOUT_MS = 3_000;

const VERSION = typeof __VERSION__ === "string" ? __VERSION__ : "0.0.0-source";

interface ServeOptions extends Flags {
  readonly config?: string;
}

interface DatabaseOptions {
  readonly config?: string;
  readonly database?: string;
}

export async function run(argv: readonly string[]): Promise<void> {
  const program = new Command("gpu-orchestrator")
    .description("Leases the GPUs of one host, over HTTP, to the services that need them.")
    .version(VERSION)
    .exitOverride();
  program
    .command("serve")
    .description("serve the GPUs of this host")
    .option("--config <file>", "settings in YAML (default: $CONFIG_PATH, else ./config.yaml if it exists)")
    .option("--host <address>", "address to listen on, over the settings'")
    .option("--port <number>", "port to listen on, over the settings'")
    .option("--simulate <host>", "serve simulated GPUs, such as h100x8, instead of this host's")
    .action(serve);
  program
    .command("check-config")
    .description("check a settings file, and say everything that is wrong with it")
    .argument("[file]", "the file (default: as for serve)")
    .action(checkConfig);
  program
    .command("health")
    .description("exit 0 if the daemon with these settings is alive: for container health checks")
    .option("--config <file>", "settings in YAML (default: as for serve)")
    .action(health);
  program
    .command("backup")
    .description("copy the database into one file, while the daemon runs or not")
    .argument("<file>", "the file to make")
    .option("--config <file>", "settings in YAML (default: as for serve)")
    .option("--database <file>", "the database (default: storage.path of the settings)")
    .option("--overwrite", "replace the file if it exists")
    .action(makeBackup);
  program
    .command("restore")
    .description("put a backup in the place of the database; the daemon must be stopped")
    .argument("<file>", "what backup made")
    .option("--config <file>", "settings in YAML (default: as for serve)")
    .option("--database <file>", "the database (default: storage.path of the settings)")
    .action(restoreBackup);
  program
    .command("replay")
    .description("make a past decision again, and say why it came out as it did")
    .argument("<file>", "the database, live or a backup: it is only read")
    .requiredOption("--at <event>", "an event of that decision: an id of GET /gpu/events", eventNumber)
    .option("--json", "everything as JSON, workload data included")
    .action(replayDecision);
  try {
    await program.parseAsync([...argv]);
  } catch (error) {
    process.exitCode = exitCodeOf(error);
  }
}

function load({ config: named, ...flags }: ServeOptions, rules: readonly Rule[] = []): LoadedConfig {
  return loadConfig({ ...chooseConfigFile(named, process.env), env: process.env, flags, rules });
}

async function serve(options: ServeOptions): Promise<void> {
  const [{ startDaemon }, { SETTING_RULES }] = await Promise.all([
    import("../daemon/daemon.ts"),
    import("../daemon/setting-rules.ts"),
  ]);
  const loadAgain = () => load(options, SETTING_RULES);
  const daemon = await startDaemon(loadAgain(), loadAgain, VERSION);
  process.on("SIGHUP", () => void daemon.reload());
  const stop = () => {
    setTimeout(() => process.exit(0), STOP_DEADLINE_MS).unref();
    void daemon.stop().then(() => process.exit(0));
  };
  process.once("SIGTERM", stop);
  process.once("SIGINT", stop);
}

async function checkConfig(file: string | undefined): Promise<void> {
  const { SETTING_RULES } = await import("../daemon/setting-rules.ts");
  const { file: read, warnings } = load(file === undefined ? {} : { config: file }, SETTING_RULES);
  for (const warning of warnings) console.error(`warning: ${formatProblem(warning)}`);
  console.log(read === null ? "no settings file: the defaults hold" : `${read}: fine`);
}

async function health(options: ServeOptions): Promise<void> {
  const { server } = load(options).config;
  // "Any address" is where to listen, not where to call.
  const host = server.host === "0.0.0.0" ? "127.0.0.1" : server.host === "::" ? "[::1]" : server.host;
  const url = `http://${host.includes(":") && !host.startsWith("[") ? `[${host}]` : host}:${server.port}/livez`;
  try {
    const answer = await fetch(url, { signal: AbortSignal.timeout(HEALTH_TIMEOUT_MS) });
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    console.log(`${url}: alive`);
  } catch (error) {
    console.error(`${url}: ${error instanceof Error ? error.message : String(error)}`);
    process.exitCode = EXIT_FAILURE;
  }
}

function databaseOf({ database, ...options }: DatabaseOptions): string {
  return database ?? load(options).config.storage.path;
}

interface BackupOptions extends DatabaseOptions {
  readonly overwrite?: boolean;
}

async function makeBackup(file: string, { overwrite, ...options }: BackupOptions): Promise<void> {
  const database = databaseOf(options);
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

async function restoreBackup(file: string, options: DatabaseOptions): Promise<void> {
  const path = databaseOf(options);
  const { restore } = await import("../daemon/host-verbs.ts");
  const { file: database, kept, asOf, leases, waiting } = restore(path, file);
  const when = asOf === null ? "before its first start" : `at ${new Date(asOf).toISOString()}`;
  console.log(`${database} is as it was ${when}, with ${leases} leases and ${waiting} waiting requests`);
  if (kept !== null) console.log(`what it was until now is kept as ${kept}`);
  console.log("start the daemon, then release what has ended since: GET /gpu/list shows what it believes");
}

function eventNumber(text: string): number {
  const event = Number(text);
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(event) || event < 1) {
    throw new InvalidArgumentError("expected the number of an event, from 1.");
  }
  return event;
}

async function replayDecision(file: string, { at, json }: { at: number; json?: boolean }): Promise<void> {
  const [{ replay, ReplayError }, { asJson, told }] = await Promise.all([
    import("../daemon/host-verbs.ts"),
    import("./replay.ts"),
  ]);
  try {
    const found = replay(file, at);
    console.log(json === true ? asJson(found) : told(found).join("\n"));
    if (!found.isSame) process.exitCode = EXIT_FAILURE;
  } catch (error) {
    if (!(error instanceof ReplayError)) throw error;
    console.error(error.message);
    process.exitCode = error.isMissing ? EXIT_NO_INPUT : EXIT_DATA;
  }
}

function exitCodeOf(error: unknown): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : EXIT_USAGE;
  if (error instanceof ConfigError) {
    console.error(formatProblems(error));
    return EXIT_CONFIG;
  }
  console.error(error instanceof Error ? error.message : String(error));
  return EXIT_FAILURE;
}
