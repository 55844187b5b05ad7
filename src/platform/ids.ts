import { randomBytes } from "node:crypto";

const ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz";
const TIME_CHARACTERS = 10;
const RANDOM_CHARACTERS = 16;
const POOL_BYTES = 16 * 256;

/** Makes ids of 26 characters. */
export type IdSource = (nowMs: number) => string;

/**
 * Ids that sort by time: ten characters of milliseconds, then sixteen that are random for the first id of a
 * millisecond and count up within it, in Crockford's base 32 (the layout of github.com/ulid/spec, lower case).
 */
export function sortableIds(random: (bytes: number) => Uint8Array = randomBytes): IdSource {
  let lastMs = -1;
  let timeText = "";
  let pool: Uint8Array = new Uint8Array(0);
  let used = 0;
  const digits = new Uint8Array(RANDOM_CHARACTERS);
  return (nowMs) => {
    if (nowMs > lastMs) {
      lastMs = nowMs;
      timeText = timePart(nowMs);
      if (used + RANDOM_CHARACTERS > pool.length) {
        pool = random(POOL_BYTES);
        used = 0;
      }
      for (let i = 0; i < RANDOM_CHARACTERS; i++) digits[i] = (pool[used + i] as number) & 31;
      // Head-room for counting up: the first digit stays below the last letter.
      digits[0] = (digits[0] as number) & 15;
      used += RANDOM_CHARACTERS;
    } else {
      let i = RANDOM_CHARACTERS - 1;
      while (digits[i] === 31) digits[i--] = 0;
      digits[i] = (digits[i] as number) + 1;
    }
    let text = timeText;
    for (let i = 0; i < RANDOM_CHARACTERS; i++) text += ALPHABET[digits[i] as number];
    return text;
  };
}

function timePart(ms: number): string {
  let text = "";
  let rest = ms;
  for (let i = 0; i < TIME_CHARACTERS; i++) {
    text = (ALPHABET[rest % 32] as string) + text;
    rest = Math.floor(rest / 32);
  }
  return text;
}
