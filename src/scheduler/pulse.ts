/**
 * How often the daemon sees that it runs, and the silence that tells a pause (SIGSTOP, suspend) from a busy moment. No
 * TTL that can be asked for is shorter: a pause that is longer than the TTL is always seen.
 */
export const BEAT_MS = 500;

export const PAUSE_MS = 1_000;
