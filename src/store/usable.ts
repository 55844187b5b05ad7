/** Whether a path could be a database here, found out without touching it. */
import { accessSync, constants, type Stats, statSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { ownName, userName } from "../platform/processes.ts";

const REMEDY = "set storage.path to a file in a folder that this user may write to";

/** Why not, and what to do; `null`: nothing is seen to speak against it. */
export function whyUnusable(path: string): string | null {
  if (path.includes("\0")) return `${JSON.stringify(path)} has a NUL character: ${REMEDY}`;
  const wanted = resolve(path);
  let standing = wanted;
  let found = statOf(standing);
  while (found === null) {
    standing = dirname(standing);
    found = statOf(standing);
  }
  if (typeof found === "string") return `${wanted} cannot be reached (${found}): ${REMEDY}`;
  const isFile = standing === wanted;
  if (isFile && !found.isFile()) {
    // Opening a pipe would wait for whoever writes to it, for ever.
    return `${wanted} is ${kindOf(found)}, and no file that could be a database: ${REMEDY}`;
  }
  if (!isFile && !found.isDirectory()) {
    return `${wanted} cannot be made: ${standing} is ${kindOf(found)}, and no folder: ${REMEDY}`;
  }
  const denied = deniedAt(standing, found);
  return denied === null || isFile ? denied : `${wanted} cannot be made: ${denied}`;
}

/** `null`: it is not there, or not to be seen. Text: why that cannot be told. */
function statOf(path: string): Stats | string | null {
  try {
    return statSync(path);
  } catch (error) {
    const { code = "?" } = error as NodeJS.ErrnoException;
    // Behind a folder that is closed to this user nothing can be seen; that folder is what to tell of.
    return code === "ENOENT" || code === "ENOTDIR" || code === "EACCES" ? null : code;
  }
}

function kindOf(found: Stats): string {
  if (found.isFile()) return "a file";
  if (found.isDirectory()) return "a folder";
  if (found.isFIFO()) return "a named pipe";
  return found.isSocket() ? "a socket" : "a device";
}

function deniedAt(path: string, found: Stats): string | null {
  const { uid, mode } = found;
  const isFolder = found.isDirectory();
  try {
    accessSync(path, constants.R_OK | constants.W_OK | (isFolder ? constants.X_OK : 0));
    return null;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "EROFS") return `${path} is on a file system that is read-only: ${REMEDY}`;
    const owner = `${userName(uid)} (mode ${(mode & 0o7777).toString(8).padStart(4, "0")})`;
    return `${path} belongs to ${owner}, and ${ownName()} may not write to it: chown it to ${ownName()}, or ${REMEDY}`;
  }
}
