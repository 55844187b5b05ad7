/** The system's books of users and groups, by `getent`, which asks all that the host is told to ask (nsswitch.conf(5)). */
import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";

const ASK_MS = 5_000;
/** What getent exits with when there is no such entry. */
const NONE = 2;

export interface User {
  /** "": the books do not know it. */
  readonly name: string;
  readonly isAdmin: boolean;
}

/**
 * @param adminGroup whose members are admins, as root is; `null`: root alone.
 * @param files where the books are on a system without getent.
 * @throws Error when that cannot be known.
 */
export async function userBy(uid: number, adminGroup: string | null, files = "/etc"): Promise<User> {
  const [name = "", , , primary] = await entry(files, "passwd", uid, (fields) => fields[2] === String(uid));
  if (uid === 0 || adminGroup === null) return { name, isAdmin: uid === 0 };
  const [, , gid, members = ""] = await entry(files, "group", adminGroup, (fields) => fields[0] === adminGroup);
  const isMember = name !== "" && members.split(",").includes(name);
  return { name, isAdmin: isMember || (gid !== undefined && gid === primary) };
}

/** The fields of one entry; none: there is no such one. */
async function entry(
  files: string,
  book: "passwd" | "group",
  key: string | number,
  is: (fields: readonly string[]) => boolean,
): Promise<readonly string[]> {
  const text = (await asked(book, String(key))) ?? (await written(`${files}/${book}`));
  return text.split("\n", 100_000).map(fieldsOf).find(is) ?? [];
}

/** `null`: a system without getent has its books in files. */
function asked(book: string, key: string): Promise<string | null> {
  const env = { PATH: process.env.PATH ?? "/usr/bin:/bin", LC_ALL: "C.UTF-8" };
  return new Promise((resolve, reject) => {
    execFile("getent", [book, key], { env, timeout: ASK_MS, killSignal: "SIGKILL" }, (error, text) => {
      if (error === null) resolve(text);
      else if (error.code === NONE) resolve("");
      else if (error.code === "ENOENT") resolve(null);
      else reject(error);
    });
  });
}

/** Where there is no such book, nobody is known by name. */
async function written(path: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return "";
    throw error;
  }
}

function fieldsOf(line: string): readonly string[] {
  return line.split(":");
}
