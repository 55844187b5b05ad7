/** A number from 0 to 1, without 1. */
export type Random = () => number;

/** The same numbers for the same seed: successive integers, each scrambled. */
export function seededRandom(seed: number): Random {
  let next = seed;
  return () => scrambled(next++);
}

/**
 * Noise over time, from -1 to 1: a value per second that only `seed` and the second decide, and a smooth way between
 * them. Looked at often or seldom, it is the same noise.
 */
export function noiseAt(seed: number, timeMs: number): number {
  const seconds = timeMs / 1_000;
  const second = Math.floor(seconds);
  const part = seconds - second;
  const weight = part * part * (3 - 2 * part);
  const from = scrambled(seed ^ scramble(second));
  const to = scrambled(seed ^ scramble(second + 1));
  return 2 * (from + (to - from) * weight) - 1;
}

function scrambled(n: number): number {
  return scramble(n) / 2 ** 32;
}

/** Mixes 32 bits so that neighbours become unlike (the finaliser of MurmurHash3, a public-domain hash). */
function scramble(n: number): number {
  let bits = (n + 0x9e3779b9) | 0;
  bits = Math.imul(bits ^ (bits >>> 16), 0x85ebca6b);
  bits = Math.imul(bits ^ (bits >>> 13), 0xc2b2ae35);
  return (bits ^ (bits >>> 16)) >>> 0;
}
