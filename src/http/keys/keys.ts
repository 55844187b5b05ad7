/** `/gpu/keys`: who has keys, new ones, and revoked ones. For admins. */
import { printable } from "../../platform/printable.ts";
import { KeyNotFoundError, type Keys, type ListedKey } from "../../ports/keys.ts";
import type { KeyAnswer } from "../../wire/keys/answers.ts";
import { keySchema } from "../../wire/keys/asks.ts";
import { instant } from "../../wire/values.ts";
import { json } from "../exchange/answers.ts";
import { KEY_ID } from "../exchange/auth.ts";
import { checker } from "../exchange/checks.ts";
import type { Operation } from "../exchange/endpoint.ts";

interface KeyParts {
  readonly keyBook: Keys;
}

export function listing({ keyBook }: KeyParts): Operation {
  return { role: "admin", body: "ignored", answer: () => json(200, { keys: keyBook.list().map(keyView) }) };
}

export function creation({ keyBook }: KeyParts): Operation {
  const check = checker(keySchema);
  return {
    role: "admin",
    body: "needed",
    async answer({ body, actor }) {
      const { principal, role, expires } = check(body);
      const expiresAt = expires === undefined || expires === null ? null : Date.parse(expires);
      const { key, listed } = await keyBook.create({ principal, role: role ?? "allocate", expiresAt }, actor);
      return json(201, { ...keyView(listed), key });
    },
  };
}

export function revoking({ keyBook }: KeyParts): Operation {
  return {
    role: "admin",
    body: "ignored",
    async answer({ id, actor }) {
      if (!KEY_ID.test(id)) throw new KeyNotFoundError(null);
      return json(200, keyView(await keyBook.revoke(id, actor)));
    },
  };
}

function keyView({ id, principal, role, source, createdAt, expiresAt, lastUsedAt }: ListedKey): KeyAnswer {
  return {
    id,
    principal: printable(principal),
    role,
    source,
    created_at: instant(createdAt),
    expires_at: instant(expiresAt),
    last_used_at: instant(lastUsedAt),
  };
}
