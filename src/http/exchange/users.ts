/** The system's books of users and groups, by `getent`, which asks all that the host is told to ask (nsswitch.conf(5)). */
import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";

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
 * @throws Error when that cannot be known.
 */
export async function userBy(uid: number, adminGroup: string | null): Promise<User> {
  const [name = "", , , primary] = await entry("passwd", uid, (fields) => fields[2] === String(uid));
  if (uid === 0 || adminGroup === null) return { name, isAdmin: uid === 0 };
  const [, , gid, members = ""] = await entry("group", adminGroup, (fields) => fields[0] === adminGroup);
  const isMember = name !== "" && members.split(",").includes(name);
  return { name, isAdmin: isMember || (gid !== undefined && gid === primary) };
}

/** The fields of one entry; none: there is no such one. */
async function entry(
  book: "passwd" | "group",
  key: string | number,
  is: (fields: readonly string[]) => boolean,
): Promise<readonly string[]> {
  const text = await asked(book, String(key));
  return text.split("\n", 100_000).map(fieldsOf).find(is) ?? [];
}

function asked(book: string, key: string): Promise<string> {
  const env = { PATH: process.env.PATH ?? "/usr/bin:/bin", LC_ALL: "C.UTF-8" };
  return new Promise((resolve, reject) => {
    execFile("getent", [book, key], { env, timeout: ASK_MS, killSignal: "SIGKILL" }, (error, text) => {
      if (error === null) resolve(text);
      else if (error.code === NONE) resolve("");
      // A system without getent has its books in files.
      else if (error.code === "ENOENT") resolve(readFileSync(`/etc/${book}`, "utf8"));
      else reject(error);
    });
  });
}

function fieldsOf(line: string): readonly string[] {
  return line.split(":");
}
