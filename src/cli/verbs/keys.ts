/** API keys for the settings: made here, kept nowhere. */
import { createHash, randomInt } from "node:crypto";
import { crc32 } from "node:zlib";
import { UsageError } from "../exits.ts";

const BASE_62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/** 178 bits. */
const RANDOM_CHARACTERS = 30;
const CHECKSUM_CHARACTERS = 6;

const ROLES: readonly string[] = ["read", "allocate", "run", "admin"];

interface KeyOptions {
  readonly role: string;
  readonly expires?: string;
}

/** A key that tells what it is, so that scanners of repositories find it, and whether it was copied whole. */
function newKey(): string {
  const random = Array.from({ length: RANDOM_CHARACTERS }, () => BASE_62[randomInt(BASE_62.length)]).join("");
  return `gpuo_${random}${checksumOf(random)}`;
}

function checksumOf(random: string): string {
  let left = crc32(random);
  let text = "";
  for (let i = 0; i < CHECKSUM_CHARACTERS; i++) {
    text = BASE_62[left % BASE_62.length] + text;
    left = Math.floor(left / BASE_62.length);
  }
  return text;
}

export function keys(what: string, principal: string, options: KeyOptions): string {
  if (what !== "create") throw new UsageError(`${what}: expected create; the settings list keys, and revoke them`);
  if (!ROLES.includes(options.role)) throw new UsageError(`${options.role}: expected ${ROLES.join(", ")}`);
  return create(principal, options);
}

/** The key, which is shown this once, and the line for `auth.api_keys`, which does not tell it. */
function create(principal: string, { role, expires }: KeyOptions): string {
  const key = newKey();
  const sha256 = createHash("sha256").update(key).digest("hex");
  const holder = [`principal: ${JSON.stringify(principal)}`, `role: ${role}`];
  if (expires !== undefined) holder.push(`expires: ${expires}`);
  return [
    `key: ${key}`,
    "It is shown this once. For the daemon, in config.yaml below auth.api_keys, then a SIGHUP:",
    `    sha256:${sha256}: {${holder.join(", ")}}`,
  ].join("\n");
}
