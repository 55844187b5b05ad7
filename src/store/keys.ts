/** The rows of API keys. */
import type { KeyUse, StoredKey } from "../ports/keys.ts";

export function storedKey(row: Record<string, unknown>): StoredKey {
  return {
    sha256: row.sha256 as string,
    principal: row.principal as string,
    role: row.role as StoredKey["role"],
    createdAt: row.created_at as number,
    expiresAt: row.expires_at as number | null,
  };
}

export function keyUse(row: Record<string, unknown>): KeyUse {
  return { keyId: row.key_id as string, at: row.at as number };
}
