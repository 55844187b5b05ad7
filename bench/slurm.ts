/** A Slurm of one node on loopback, on ports and in a folder of its own, where Debian's packages are installed. */
import { type ChildProcess, execFileSync, spawn, spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { cpus, hostname, tmpdir } from "node:os";
import { join } from "node:path";
import { sleep } from "./processes.ts";

export interface Slurm {
  /** Where its clients find it. */
  readonly env: { readonly SLURM_CONF: string };
  stop(): Promise<void>;
}

const DAEMONS = ["munged", "slurmctld", "slurmd"];
const PORTS = { slurmctld: 16_817, slurmd: 16_818 };
const READY_MS = 15_000;
const LOOK_AGAIN_MS = 250;

/** @returns why there is none, in words, where it cannot be started. */
export async function startSlurm(): Promise<Slurm | string> {
  const missing = [...DAEMONS, "srun"].filter((program) => spawnSync("which", [program]).status !== 0);
  if (missing.length > 0) return "not installed here";
  if (process.getuid?.() !== 0) return "its node's daemon needs root";
  const folder = mkdtempSync(join(tmpdir(), "gpu-orchestrator-bench-slurm-"));
  const config = join(folder, "slurm.conf");
  const key = join(folder, "munge.key");
  for (const name of ["state", "spool"]) mkdirSync(join(folder, name));
  writeFileSync(key, randomBytes(128), { mode: 0o600 });
  writeFileSync(config, configOf(folder));
  const children: ChildProcess[] = [];
  const start = (program: string, ...args: string[]) => children.push(spawn(program, args, { stdio: "ignore" }));
  const stop = async () => {
    // The one that the others ask for their credentials is ended last.
    for (const child of children.toReversed()) await ended(child);
    rmSync(folder, { recursive: true, force: true });
  };
  const of = (name: string) => join(folder, `munge.${name}`);
  start(
    "munged",
    ...["--foreground", "--force", `--socket=${of("socket")}`, `--key-file=${key}`],
    ...[`--pid-file=${of("pid")}`, `--seed-file=${of("seed")}`, `--log-file=${of("log")}`],
  );
  await sleep(LOOK_AGAIN_MS);
  start("slurmctld", "-D", "-f", config);
  start("slurmd", "-D", "-f", config, "-N", hostname());
  const env = { SLURM_CONF: config };
  for (const begun = performance.now(); performance.now() - begun < READY_MS; await sleep(LOOK_AGAIN_MS)) {
    if (isReady(env)) return { env, stop };
  }
  await stop();
  return `its node was not ready after ${READY_MS / 1_000} s`;
}

function configOf(folder: string): string {
  const name = hostname();
  const settings = {
    ClusterName: "bench",
    SlurmctldHost: `${name}(127.0.0.1)`,
    SlurmctldPort: PORTS.slurmctld,
    SlurmdPort: PORTS.slurmd,
    // Both stay on loopback.
    CommunicationParameters: "NoInAddrAny,NoCtldInAddrAny",
    SlurmUser: "root",
    SlurmdUser: "root",
    AuthType: "auth/munge",
    AuthInfo: `socket=${join(folder, "munge.socket")}`,
    CredType: "cred/munge",
    StateSaveLocation: join(folder, "state"),
    SlurmdSpoolDir: join(folder, "spool"),
    SlurmctldPidFile: join(folder, "slurmctld.pid"),
    SlurmdPidFile: join(folder, "slurmd.pid"),
    SlurmctldLogFile: join(folder, "slurmctld.log"),
    SlurmdLogFile: join(folder, "slurmd.log"),
    // What it watches and counts beside its queue would cost it time; it schedules at once, in order.
    ProctrackType: "proctrack/pgid",
    TaskPlugin: "task/none",
    JobAcctGatherType: "jobacct_gather/none",
    AccountingStorageType: "accounting_storage/none",
    SchedulerType: "sched/builtin",
    SelectType: "select/cons_tres",
    SelectTypeParameters: "CR_CPU",
    MpiDefault: "none",
    ReturnToService: 2,
  };
  const lines = Object.entries(settings).map(([setting, value]) => `${setting}=${value}`);
  lines.push(`NodeName=${name} NodeAddr=127.0.0.1 CPUs=${cpus().length} State=UNKNOWN`);
  lines.push("PartitionName=bench Nodes=ALL Default=YES MaxTime=INFINITE State=UP");
  return `${lines.join("\n")}\n`;
}

function isReady(env: Slurm["env"]): boolean {
  try {
    const args = ["--noheader", "--format=%T"];
    return execFileSync("sinfo", args, { env: { ...process.env, ...env }, stdio: "pipe" }).includes("idle");
  } catch {
    return false;
  }
}

function ended(child: ChildProcess): Promise<void> {
  return new Promise((resolve) => {
    if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return resolve();
    child.once("exit", () => resolve());
    child.kill("SIGTERM");
  });
}
