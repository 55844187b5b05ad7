/** API keys: 178 random bits that tell what they are, so that scanners of repositories find them. */
import { createHash, randomInt } from "node:crypto";
import { crc32 } from "node:zlib";

const BASE_62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const RANDOM_CHARACTERS = 30;
const CHECKSUM_CHARACTERS = 6;

/** @returns a new key, whose checksum tells whether it was copied whole, and the digest that is kept of it. */
export function newKey(): { readonly key: string; readonly sha256: string } {
  const random = Array.from({ length: RANDOM_CHARACTERS }, () => BASE_62[randomInt(BASE_62.length)]).join("");
  const key = `gpuo_${random}${checksumOf(random)}`;
  return { key, sha256: createHash("sha256").update(key).digest("hex") };
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

const KEYS = new RegExp(`gpuo_[0-9A-Za-z]{${RANDOM_CHARACTERS + CHECKSUM_CHARACTERS}}`, "g");

/** Text that may have a key where none belongs, for what is kept. */
export function withoutKeys(text: string): string {
  return text.replace(KEYS, "gpuo_(a key)");
}
