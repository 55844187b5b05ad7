/** What only a worker can say of the settings: who it is itself. */
import { userInfo } from "node:os";
import type { Rule } from "../config/rules.ts";
import type { WorkConfig } from "../config/work.ts";

export const WORKER_RULES: readonly Rule[] = [
  {
    reads: [
      ["work", "run_as"],
      ["work", "allow_same_user"],
      ["work", "allow_root"],
    ],
    check: ({ work }) => userObjection(work),
  },
];

/** Of whom its runs may not be: it would start, and each of them would fail. */
function userObjection({ runAs, allowSameUser, allowRoot }: WorkConfig): string | null {
  const own = userInfo();
  const users = typeof runAs === "object" && runAs !== null ? Object.values(runAs) : [runAs ?? own.username];
  if (users.includes(own.username) && !allowSameUser) {
    return `runs would be of the worker's own user ${own.username}, who can do to other runs what it can: name another, or set work.allow_same_user: true`;
  }
  return users.includes("root") && !allowRoot
    ? "runs would be root's: name another user, or set work.allow_root: true"
    : null;
}
