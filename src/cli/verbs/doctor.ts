/** Looks at what commonly goes wrong, and says the remedy beside each. */
import { accessSync, constants, existsSync, readdirSync, statfsSync, statSync } from "node:fs";
import { delimiter, dirname, join, resolve } from "node:path";
import { ApiProblem, Unreachable } from "../../client/errors.ts";
import type { Status } from "../../client/types.ts";
import { visible } from "../../platform/printable.ts";
import { isLocal } from "../connect.ts";
import { type CommonOptions, type Context, contextOf } from "../context.ts";
import { EXIT } from "../exits.ts";
import { VERSION } from "../version.ts";

/** A clock that is further off makes deadlines read wrongly; leases are timed by the daemon's alone. */
const MAX_CLOCK_SKEW_MS = 5_000;
const OTHERS = 0o007;
const MIN_FREE_BYTES = 256 * 2 ** 20;

export interface Finding {
  readonly check: string;
  readonly verdict: "ok" | "note" | "wrong";
  readonly detail: string;
  readonly remedy: string | null;
}

const ok = (check: string, detail: string): Finding => ({ check, verdict: "ok", detail, remedy: null });
const note = (check: string, detail: string, remedy: string): Finding => ({ check, verdict: "note", detail, remedy });
const wrong = (check: string, detail: string, remedy: string): Finding => ({ check, verdict: "wrong", detail, remedy });

export async function doctor(options: CommonOptions & { readonly config?: string }): Promise<void> {
  const context = await contextOf(options);
  const findings = [
    ...(await daemonFindings(context)),
    ...(isLocal(context.url) ? await hostFindings(options.config) : []),
  ];
  for (const finding of findings) {
    const { check, verdict, detail, remedy } = finding;
    if (context.terminal.json) {
      context.terminal.data(finding);
      continue;
    }
    const color = verdict === "ok" ? "green" : verdict === "note" ? "yellow" : "red";
    context.terminal.line(`${context.terminal.paint(verdict.padEnd(5), color)}  ${check}: ${visible(detail)}`);
    if (remedy !== null) context.terminal.line(`       ${visible(remedy)}`);
  }
  if (findings.some(({ verdict }) => verdict === "wrong")) process.exitCode = EXIT.refused;
}

async function daemonFindings(context: Context): Promise<Finding[]> {
  const { client, url } = context;
  const before = Date.now();
  let answer: Awaited<ReturnType<typeof client.hello>>;
  try {
    answer = await client.hello();
  } catch (error) {
    if (!(error instanceof Unreachable) && !(error instanceof ApiProblem)) throw error;
    const remedy = isLocal(url)
      ? "start it: gpuo serve, or systemctl start gpu-orchestrator; another address: --url, GPU_ORCHESTRATOR_URL"
      : "check the address, the network and server.host of the daemon's settings";
    return [wrong("reachability", error.message, remedy)];
  }
  const tookMs = Date.now() - before;
  return [
    ok("reachability", `${url} answers in ${tookMs} ms`),
    ...versionFindings(answer.version),
    ...clockFindings(answer.date, before, tookMs),
    ...(await readinessFindings(context)),
    ...(await statusFindings(context)),
  ];
}

function versionFindings(version: string | null): Finding[] {
  if (version === null)
    return [
      note("version", `gpuo is ${VERSION}; the daemon does not say its own`, "an old daemon: bring it up to date"),
    ];
  if (version === VERSION) return [ok("version", `both ${VERSION}`)];
  return [note("version", `gpuo is ${VERSION}, the daemon ${version}`, "use the same version on both sides")];
}

function clockFindings(date: string | null, before: number, tookMs: number): Finding[] {
  if (date === null) return [];
  // The header has whole seconds.
  const skewMs = Math.max(0, Math.abs(Date.parse(date) + 500 - (before + tookMs / 2)) - 500);
  if (skewMs <= MAX_CLOCK_SKEW_MS) return [ok("clock", "agrees with the daemon's")];
  return [
    wrong(
      "clock",
      `${Math.round(skewMs / 1_000)} s off the daemon's`,
      "set the clocks by NTP: timedatectl set-ntp true",
    ),
  ];
}

async function readinessFindings({ client }: Context): Promise<Finding[]> {
  const why = await client.ready();
  return [
    why === null
      ? ok("readiness", "the daemon is ready")
      : wrong("readiness", why, "the daemon's log says more: journalctl -u gpu-orchestrator"),
  ];
}

async function statusFindings({ client, key, keyFrom }: Context): Promise<Finding[]> {
  let status: Status;
  try {
    status = await client.status();
  } catch (error) {
    if (!(error instanceof ApiProblem) || (error.status !== 401 && error.status !== 403)) throw error;
    const detail =
      key === null ? "the daemon wants a key, and none is given" : `the key from ${keyFrom} is not accepted`;
    return [wrong("key", detail, "give one that the daemon's auth.api_keys lists: --key-file FILE")];
  }
  const { gpus, simulated, monitor, drain } = status;
  const bad = gpus.filter(({ state }) => !["free", "leased", "reclaiming", "mig"].includes(state));
  return [
    ...(key === null ? [] : [ok("key", `from ${keyFrom}`)]),
    ...(simulated
      ? [note("driver", `${gpus.length} SIMULATED GPUs`, "without --simulate the daemon serves what nvidia-smi shows")]
      : []),
    ...(simulated ? [] : driverFindings(status)),
    ...monitor.warnings.map((warning) => note("driver", warning, "see docs/monitoring.md")),
    ...(monitor.processes_hidden
      ? [
          note(
            "processes",
            "the daemon cannot see the host's processes",
            "in a container: --pid=host; else the unit's ProtectProc and hidepid",
          ),
        ]
      : []),
    ...(drain === null ? [] : [note("drain", `no leases are granted: ${drain.reason}`, "gpuo undrain --reason ...")]),
    ...bad.map(({ id, state, reason }) =>
      note("gpu", `GPU ${id} is ${state}: ${reason ?? "no reason is told"}`, `gpuo show ${id}`),
    ),
  ];
}

function driverFindings({ gpus, driver_version: driver, monitor }: Status): Finding[] {
  if (monitor.failure !== null) {
    return [
      wrong(
        "driver",
        monitor.failure.message,
        "run nvidia-smi as the daemon's user; monitoring.nvidia_smi_path says where it is",
      ),
    ];
  }
  if (gpus.length === 0) return [wrong("driver", "no GPU has been seen", "run nvidia-smi -L")];
  return [ok("driver", `${gpus.length} GPUs, driver ${driver ?? "?"}`)];
}

/** Of this host: what a daemon here would meet. */
async function hostFindings(named: string | undefined): Promise<Finding[]> {
  return [...deviceFindings(), ...(await settingsFindings(named))];
}

function deviceFindings(): Finding[] {
  const devices = existsSync("/dev") ? readdirSync("/dev").filter((name) => /^nvidia(?:\d+|ctl)$/.test(name)) : [];
  const closed = devices.filter((name) => !isAccessible(join("/dev", name)));
  const hasProgram = (process.env.PATH ?? "")
    .split(delimiter)
    .some((folder) => folder !== "" && existsSync(join(folder, "nvidia-smi")));
  if (devices.length === 0 && !hasProgram)
    return [note("permissions", "this host has no NVIDIA driver", "fine for a simulation")];
  if (closed.length > 0) {
    return [
      wrong(
        "permissions",
        `${closed.join(", ")} cannot be opened by you`,
        "join the group that ls -l /dev/nvidia* shows (often video)",
      ),
    ];
  }
  return [ok("permissions", "the GPUs' devices can be opened")];
}

function isAccessible(path: string): boolean {
  try {
    accessSync(path, constants.R_OK | constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

async function settingsFindings(named: string | undefined): Promise<Finding[]> {
  const { ConfigError, formatProblems, formatProblem, loadForDoctor } = await import("../host-verbs.ts");
  try {
    const { config, file, warnings } = await loadForDoctor(named);
    const surprises = warnings.map((warning) =>
      note("settings", formatProblem(warning), "gpuo check-config says the same"),
    );
    return [
      ...surprises,
      ok("settings", file === null ? "no file here: the defaults hold" : `${file}: fine`),
      ...diskFindings(config.storage.path),
    ];
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return [wrong("settings", formatProblems(error).split("\n").join("; "), "gpuo check-config")];
  }
}

function diskFindings(path: string): Finding[] {
  if (path === ":memory:")
    return [note("database", "in memory: a restart forgets every lease", "set storage.path to a file")];
  const folder = existingFolder(dirname(resolve(path)));
  const { bavail, bsize } = statfsSync(folder);
  const free = bavail * bsize;
  const freeText = `${(free / 2 ** 30).toFixed(1)} GiB free at ${folder}`;
  return [
    databaseFinding(path),
    free < MIN_FREE_BYTES
      ? wrong("disk", freeText, "make room: with a full disk nothing is granted")
      : ok("disk", freeText),
  ];
}

/** What is in it only the daemon judges, at its start and as it runs; see readiness. */
function databaseFinding(path: string): Finding {
  const file = resolve(path);
  try {
    const { size, mode } = statSync(file);
    if ((mode & OTHERS) !== 0)
      return note("database", `${file} can be read by others: it has workloads and webhooks`, `chmod 600 ${file}`);
    return ok("database", `${file}, ${(size / 2 ** 20).toFixed(1)} MiB`);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code !== "ENOENT") return note("database", `${file}: ${code}`, "look as the daemon's user, or as root");
    return note(
      "database",
      `${file} is not there`,
      "the daemon makes it at its first start; other settings may name it",
    );
  }
}

function existingFolder(path: string): string {
  return existsSync(path) ? path : existingFolder(dirname(path));
}
