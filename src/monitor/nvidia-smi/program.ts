/** Where `nvidia-smi` is, and why it cannot be run. */
import { accessSync, constants, statSync } from "node:fs";
import { delimiter, join, resolve } from "node:path";
import { ownName } from "../../platform/processes.ts";

const BY_NAME = "nvidia-smi";

/** As it is started: by a path that holds in any folder, or by its name on the PATH. */
export function programOf(path: string | null): string {
  const named = path ?? BY_NAME;
  return named.includes("/") ? resolve(named) : named;
}

/** Why a start of `program` failed with one of the system's codes, and what to do. */
export function whyNotStarted(program: string, code: string): string {
  if (code === "ENOENT" || code === "ENOTDIR") {
    const where = program.includes("/") ? `there is no ${program}` : `${program} is not on the PATH`;
    return `${where} (${code}): install the NVIDIA driver, or set monitoring.nvidia_smi_path; without GPUs: --simulate h100x8`;
  }
  if (code === "EACCES" || code === "EPERM" || code === "EISDIR") {
    return `${program} is not executable for ${ownName()} (${code}): chmod a+rx it, or set monitoring.nvidia_smi_path`;
  }
  return `${program} cannot be run (${code}): set monitoring.nvidia_smi_path to the driver's nvidia-smi`;
}

/** The same before it is started; `null`: nothing is seen to speak against it. */
export function whyNotRunnable(path: string | null): string | null {
  const program = programOf(path);
  const codes = placesOf(program, process.env.PATH ?? "").map(accessCode);
  if (codes.includes(null)) return null;
  const telling = codes.find((code) => code !== "ENOENT" && code !== "ENOTDIR") ?? codes[0] ?? "ENOENT";
  return whyNotStarted(program, telling);
}

/** The file that is started; `null`: there is none. */
export function fileOf(path: string | null, searched = process.env.PATH ?? ""): string | null {
  return placesOf(programOf(path), searched).find((file) => accessCode(file) === null) ?? null;
}

function placesOf(program: string, searched: string): readonly string[] {
  return program.includes("/") ? [program] : searched.split(delimiter).map((folder) => join(folder, program));
}

/** `null`: it may be executed. */
function accessCode(file: string): string | null {
  try {
    accessSync(file, constants.X_OK);
    return statSync(file).isDirectory() ? "EACCES" : null;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? "ENOENT";
  }
}
