/** What an API key allows: each role all that those before it do, and more. */
export const ROLES = ["read", "allocate", "run", "admin"] as const;

export type Role = (typeof ROLES)[number];
