/** What all streams of server-sent events have in common (WHATWG HTML, section 9.2). */

/** How often a silent stream sends a comment, so that proxies do not close it (section 9.2.7). */
export const KEEP_ALIVE_MS = 15_000;

export const KEEP_ALIVE = ": keep-alive\n\n";

export const STREAM_HEADERS: readonly string[] = [
  ...["Cache-Control", "no-store"],
  // nginx would keep events back until a buffer is full.
  ...["X-Accel-Buffering", "no"],
];
