/** The command of `gpuo run`: what it is called with, what it finds in its environment, and whether it can be run at all. */
import { accessSync, constants, realpathSync, statSync } from "node:fs";
import { basename, delimiter, join } from "node:path";
import type { Allocation, Granted } from "../../client/types.ts";
import { EXIT } from "../exits.ts";
import { ALLOCATION_VARIABLE } from "./processes.ts";

/** It cannot be run: with the exit code that says so. */
export class CannotRun extends Error {
  override readonly name = "CannotRun";
  readonly exitCode: number;

  constructor(exitCode: number, message: string) {
    super(message);
    this.exitCode = exitCode;
  }
}

export type Visible = "uuid" | "index";

const UUIDS = "{gpu_uuids}";
const IDS = "{gpu_ids}";

/** The program's path. Looked for before anything is asked for: a mistyped name should not wait for GPUs. */
export function programOf(name: string, path = process.env.PATH ?? ""): string {
  const candidates = name.includes("/")
    ? [name]
    : path.split(delimiter).map((folder) => join(folder === "" ? "." : folder, name));
  let found: string | null = null;
  for (const candidate of candidates) {
    const kind = kindOf(candidate);
    if (kind === "program") return candidate;
    if (kind === "other") found ??= candidate;
  }
  if (found !== null) throw new CannotRun(EXIT.cannotRun, `${found}: cannot be executed`);
  throw new CannotRun(EXIT.notFound, `${name}: not found`);
}

function kindOf(path: string): "program" | "other" | "none" {
  try {
    if (!statSync(path).isFile()) return "other";
    accessSync(path, constants.X_OK);
    return "program";
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EACCES" ? "other" : "none";
  }
}

/** Containers do not inherit the environment: without the GPUs' names in their arguments they would take all, or none. */
export function refuseBareContainer([name = "", ...args]: readonly string[]): void {
  const program = basename(name);
  if ((program !== "docker" && program !== "podman") || args.find((arg) => !arg.startsWith("-")) !== "run") return;
  if (args.some((arg) => arg.includes(UUIDS))) return;
  const how = program === "docker" ? `--gpus '"device=${UUIDS}"'` : `-e NVIDIA_VISIBLE_DEVICES=${UUIDS}`;
  throw new CannotRun(
    EXIT.ownFailure,
    `a container does not see which GPUs are leased; say it: ${program} run ${how} ...`,
  );
}

export function argumentsFor(command: readonly string[], lease: Granted | Allocation): string[] {
  const uuids = (lease.gpu_uuids ?? []).join(",");
  const ids = (lease.gpu_ids ?? []).join(",");
  return command.map((argument) => argument.replaceAll(UUIDS, uuids).replaceAll(IDS, ids));
}

export function environmentFor(lease: Granted | Allocation, visible: Visible): Record<string, string> {
  const env = Object.fromEntries(Object.entries(lease.env ?? {}).map(([name, value]) => [name, String(value)]));
  const indices = env.GPU_ORCHESTRATOR_GPU_INDICES;
  if (visible === "index" && indices === undefined) {
    throw new CannotRun(EXIT.ownFailure, "--visible index: MIG instances have no index that CUDA knows");
  }
  return {
    ...env,
    ...(visible === "index" && indices !== undefined ? { CUDA_VISIBLE_DEVICES: indices } : {}),
    NVIDIA_VISIBLE_DEVICES: (lease.gpu_uuids ?? []).join(","),
    [ALLOCATION_VARIABLE]: lease.id,
  };
}

/** What goes before the command so that it is told when gpuo dies; nothing where util-linux is not there. */
export function deathSignalPrefix(): readonly string[] {
  if (process.platform !== "linux") return [];
  try {
    const path = realpathSync(programOf("setpriv"));
    return basename(path) === "setpriv" ? [path, "--pdeathsig", "TERM", "--"] : [];
  } catch {
    return [];
  }
}
