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
  if (program.includes("/")) {
    const code = accessCode(program);
    return code === null ? null : whyNotStarted(program, code);
  }
  const codes = (process.env.PATH ?? "").split(delimiter).map((folder) => accessCode(join(folder, program)));
  if (codes.includes(null)) return null;
  return whyNotStarted(program, codes.find((code) => code !== "ENOENT" && code !== "ENOTDIR") ?? "ENOENT");
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
