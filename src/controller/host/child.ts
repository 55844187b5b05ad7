/** A daemon with simulated GPUs, as this process's child: for trying the API in one command. */
import { type ChildProcess, spawn } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { mkdirSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";
import { thisProgram } from "../../platform/executable.ts";
import { endLeftover, noteChild } from "./leftover.ts";

const START_MS = 30_000;
const STOP_MS = 12_000;
const PRINCIPAL = "controller";
/** Linux takes no longer address of a socket (unix(7)), less what the setting leaves free. */
const MAX_SOCKET_PATH = 100;

export interface ChildDaemon {
  /** Of its socket; of its port where the folder's name is too long for one. */
  readonly url: string;
  /** Known to this process alone. */
  readonly key: string;
  /** Resolves when it has ended by itself. */
  readonly ended: Promise<string>;
  stop(): Promise<void>;
}

/**
 * Starts `serve` of this same program on a socket in `folder`, with a key that lives as long as it does. Its worker, which
 * has a key too, calls it at a free port of loopback.
 *
 * @param folder where its settings and its database stand.
 * @param stopped ends it while it starts.
 * @throws Error when it does not serve in time.
 */
export async function startChildDaemon(shape: string, folder: string, stopped: AbortSignal): Promise<ChildDaemon> {
  const note = join(resolve(folder), "daemon.pid");
  await endLeftover(note, STOP_MS);
  const key = randomBytes(32).toString("base64url");
  const file = settingsIn(resolve(folder), key);
  const [program, ...args] = thisProgram();
  const argv = [...args, "serve", "--config", file, "--port", "0", "--simulate", shape];
  // In a group of its own: Ctrl-C is for this process, which still needs it to stop the replicas.
  const child = spawn(program, argv, { stdio: ["ignore", "pipe", "inherit"], detached: true });
  if (child.pid !== undefined) noteChild(note, child.pid);
  const ended = new Promise<string>((done) => {
    child.once("exit", (code, signal) => done(String(signal ?? code)));
    child.once("error", (error) => done(error.message));
  });
  const end = () => child.kill("SIGTERM");
  stopped.addEventListener("abort", end);
  const served = await servingUrl(child, ended);
  const socket = socketIn(resolve(folder));
  const url = socket === null ? served : `unix:${socket}`;
  stopped.removeEventListener("abort", end);
  return {
    url,
    key,
    ended,
    async stop() {
      child.kill("SIGTERM");
      const timer = setTimeout(() => child.kill("SIGKILL"), STOP_MS);
      await ended;
      clearTimeout(timer);
    },
  };
}

/** Where it finds its callers' tokens. */
export function secretFolderOf(folder: string): string {
  return join(resolve(folder), "secrets");
}

function socketIn(folder: string): string | null {
  const path = join(folder, "daemon.sock");
  return Buffer.byteLength(path) > MAX_SOCKET_PATH ? null : path;
}

function settingsIn(folder: string, key: string): string {
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const sha256 = createHash("sha256").update(key).digest("hex");
  const settings = {
    server: { socket: socketIn(folder) },
    auth: { enabled: true, api_keys: { [`sha256:${sha256}`]: { principal: PRINCIPAL, role: "admin" } } },
    storage: { path: join(folder, "daemon.db") },
    logging: { level: "info" },
    work: {
      enabled: true,
      // Nothing but our own stand-in for an engine is run, as the user who runs this.
      executors: { simulated: { type: "simulated" } },
      allow_root: true,
      allow_same_user: true,
      dir: join(folder, "work"),
      results_dir: join(folder, "results"),
      max_workloads: 1_000,
      secret_folders: { [PRINCIPAL]: secretFolderOf(folder) },
    },
  };
  const file = join(folder, "daemon.yaml");
  // JSON is YAML.
  writeFileSync(file, JSON.stringify(settings), { mode: 0o600 });
  return file;
}

async function servingUrl(child: ChildProcess, ended: Promise<string>): Promise<string> {
  const lines = createInterface({ input: child.stdout as NodeJS.ReadableStream });
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`the daemon did not serve within ${START_MS / 1_000} s`)), START_MS);
  });
  const serving = new Promise<string>((found) => {
    lines.on("line", (line) => {
      process.stdout.write(`${line}\n`);
      const { msg, url } = partsOf(line);
      if (msg === "serving" && typeof url === "string") found(url);
    });
  });
  try {
    const gone = ended.then((how) => {
      throw new Error(`the daemon ended before it served: ${how}`);
    });
    return await Promise.race([serving, gone, late]);
  } catch (error) {
    child.kill("SIGKILL");
    throw error;
  } finally {
    clearTimeout(timer);
  }
}

function partsOf(line: string): Record<string, unknown> {
  try {
    return JSON.parse(line) as Record<string, unknown>;
  } catch {
    return {};
  }
}
