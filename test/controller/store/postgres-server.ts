/** A real PostgreSQL for one test file: in a folder of its own, on a port that the system chooses, ended with the file. */
import { type ChildProcess, execFileSync, spawn, spawnSync } from "node:child_process";
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import type { AddressInfo } from "node:net";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pg from "pg";
import type { PostgresSettings } from "../../../src/controller/store/address.ts";

const DEBIAN = "/usr/lib/postgresql";
const BINARIES = folderOfBinaries();
const NOBODY = 65_534;
const CAN_BE_ENDED = spawnSync("setpriv", ["--pdeathsig", "KILL", "true"]).status === 0;
export const PASSWORD = "not-to-be-seen-in-any-log";

function folderOfBinaries(): string | null {
  const { POSTGRES_BINARIES: given } = process.env;
  if (given !== undefined) return given;
  if (!existsSync(DEBIAN)) return null;
  const [newest] = readdirSync(DEBIAN).sort((a, b) => Number(b) - Number(a));
  return newest === undefined ? null : join(DEBIAN, newest, "bin");
}

/** Tests that need one are skipped by name without it; CI installs Debian's. */
export const HAS_POSTGRES = BINARIES !== null && existsSync(join(BINARIES, "initdb"));
export const NEEDS_POSTGRES = HAS_POSTGRES
  ? ""
  : " (needs PostgreSQL: apt-get install postgresql, or POSTGRES_BINARIES)";

export interface TestPostgres {
  readonly port: number;
  /** The server's process, to be stopped, continued or killed. */
  readonly pid: number;
  /** An empty database of this name, and how the controller is told of it. */
  database(name: string, change?: Partial<PostgresSettings>): Promise<PostgresSettings>;
  /** As its superuser. */
  query(database: string, sql: string): Promise<pg.QueryResult>;
  /** After it was killed: the same one on the same port. */
  restart(): Promise<void>;
  stop(): Promise<void>;
}

/** PostgreSQL refuses to run as root, and would stay behind when the tests are killed. */
function commandOf(name: string): { readonly command: string; readonly given: readonly string[] } {
  const command = join(BINARIES as string, name);
  const user = process.getuid?.() === 0 ? [`--reuid=${NOBODY}`, `--regid=${NOBODY}`, "--clear-groups"] : [];
  const given = [...user, ...(CAN_BE_ENDED ? ["--pdeathsig", "KILL"] : [])];
  return given.length === 0 ? { command, given } : { command: "setpriv", given: [...given, command] };
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
  const { port } = server.address() as AddressInfo;
  await new Promise((closed) => server.close(closed));
  return port;
}

export interface ServerOptions {
  /** PEM files: only connections with TLS are let in then. */
  readonly tls?: { readonly certificate: string; readonly key: string };
  /** Where its files are; otherwise a folder of its own. */
  readonly folder?: string;
}

export async function startPostgres({ tls, folder: given }: ServerOptions = {}): Promise<TestPostgres> {
  const folder = given ?? mkdtempSync(join(tmpdir(), "controller-postgres-"));
  const data = join(folder, "data");
  mkdirSync(data);
  const isRoot = process.getuid?.() === 0;
  const own = (path: string) => {
    if (isRoot) chownSync(path, NOBODY, NOBODY);
  };
  chmodSync(folder, 0o755);
  for (const path of [folder, data]) own(path);
  const initdb = commandOf("initdb");
  const passwordFile = join(folder, "password");
  writeFileSync(passwordFile, PASSWORD);
  own(passwordFile);
  const options = [
    "-D",
    data,
    "-U",
    "root",
    "-A",
    "scram-sha-256",
    `--pwfile=${passwordFile}`,
    "-E",
    "UTF8",
    "--no-sync",
  ];
  execFileSync(initdb.command, [...initdb.given, ...options], { stdio: "pipe", env: { ...process.env, LC_ALL: "C" } });
  if (tls !== undefined) {
    for (const [name, from] of [
      ["server.crt", tls.certificate],
      ["server.key", tls.key],
    ] as const) {
      writeFileSync(join(data, name), readFileSync(from), { mode: 0o600 });
      own(join(data, name));
    }
    writeFileSync(join(data, "pg_hba.conf"), "hostssl all all 127.0.0.1/32 scram-sha-256\n");
  }
  const port = await freePort();
  let child = await started(folder, data, port, tls !== undefined);
  const client = (database: string) =>
    new pg.Client({
      ...{ host: "127.0.0.1", port, user: "root", password: PASSWORD, database },
      ssl: tls === undefined ? false : { rejectUnauthorized: false },
    });
  const query = async (database: string, sql: string) => {
    const one = client(database);
    await one.connect();
    try {
      return await one.query(sql);
    } finally {
      await one.end();
    }
  };
  return {
    port,
    get pid() {
      return child.pid as number;
    },
    async database(name, change = {}) {
      await query("postgres", `CREATE DATABASE ${name}`);
      return {
        ...{
          host: "127.0.0.1",
          port,
          database: name,
          user: "root",
          password: PASSWORD,
          schema: "orchestration",
          tls: null,
        },
        ...change,
      };
    },
    query,
    async restart() {
      rmSync(join(data, "postmaster.pid"), { force: true });
      child = await started(folder, data, port, tls !== undefined);
    },
    async stop() {
      await ended(child);
      if (given === undefined) rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** At once: nothing of it is needed any more. */
async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = new Promise((exited) => child.once("exit", exited));
  child.kill("SIGCONT");
  child.kill("SIGQUIT");
  await gone;
}

async function started(folder: string, data: string, port: number, tls: boolean): Promise<ChildProcess> {
  const settings = [
    "fsync=off",
    `unix_socket_directories=${folder}`,
    "listen_addresses=127.0.0.1",
    `ssl=${tls ? "on" : "off"}`,
  ];
  const postgres = commandOf("postgres");
  const given = ["-D", data, "-p", String(port), ...settings.flatMap((one) => ["-c", one])];
  const child = spawn(postgres.command, [...postgres.given, ...given], { stdio: ["ignore", "ignore", "pipe"] });
  let said = "";
  child.stderr?.on("data", (text) => {
    said += text;
  });
  for (let tries = 0; ; tries++) {
    if (child.exitCode !== null || tries > 300) throw new Error(`PostgreSQL does not start: ${said}`);
    if (said.includes("ready to accept connections") && (await answers(port))) return child;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1");
    socket.once("connect", () => resolve(true)).once("error", () => resolve(false));
    socket.once("connect", () => socket.destroy());
  });
}
