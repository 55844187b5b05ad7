/** What the page shows to whom: what a key may not do is not there. */
import type { Me, Role } from "../api/answers.ts";

const ROLES: readonly Role[] = ["read", "allocate", "run", "admin"];

export function may(role: Role, needed: Role): boolean {
  // A role of a newer daemon counts as the least.
  return Math.max(0, ROLES.indexOf(role)) >= ROLES.indexOf(needed);
}

/** Whether what that principal has sent may be looked into and stopped, by the role that this needs. */
export function mayTouch({ role, principal }: Pick<Me, "role" | "principal">, owner: string): boolean {
  return role === "admin" || principal === owner;
}
