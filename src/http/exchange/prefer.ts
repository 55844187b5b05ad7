/** How long a client wants to wait for its answer, as RFC 7240 (the Prefer header) has it. */

import { type HttpError, invalid } from "./problems.ts";

/** Longer fields are not looked at. */
const MAX_FIELD_LENGTH = 512;

const TOKEN = "[!#$%&'*+.^_`|~0-9A-Za-z-]+";

const WORD = `${TOKEN}|"(?:[^"\\\\]|\\\\.)*"`;

/** A preference or one of its parameters, each of them possibly empty, and what ends it (section 2). */
const PART = new RegExp(`[ \\t]*(?:(${TOKEN})(?:[ \\t]*=[ \\t]*(${WORD}))?)?[ \\t]*([,;]|$)`, "y");

/**
 * The `wait` preference of a `Prefer` field (several are joined by commas), in ms, at most `longestMs`.
 *
 * @returns 0 when there is none; all other preferences count as not there (section 2).
 * @throws HttpError 422 for a wait that cannot be read: it is never ignored.
 */
export function preferredWaitMs(field: string | undefined, longestMs: number): number {
  if (field === undefined) return 0;
  if (field.length > MAX_FIELD_LENGTH) return unreadable(field);
  let seconds: string | null = null;
  let endedBy = ",";
  PART.lastIndex = 0;
  while (endedBy !== "") {
    const part = PART.exec(field);
    if (part === null) return unreadable(field);
    const [, name, value = "", end = ""] = part;
    // Of a preference that is given twice, the first counts.
    if (endedBy === "," && name?.toLowerCase() === "wait") seconds ??= value;
    endedBy = end;
  }
  if (seconds === null) return 0;
  // The RFC has whole seconds; `3s` is what people write.
  const digits = /^"?(\d+)s?"?$/.exec(seconds)?.[1];
  if (digits === undefined) throw refusal();
  return Math.min(Number(digits) * 1_000, longestMs);
}

/** Of a field that cannot be read only what does not ask for a wait is passed over. */
function unreadable(field: string): number {
  if (/\bwait\b/i.test(field)) throw refusal();
  return 0;
}

function refusal(): HttpError {
  return invalid([{ path: "Prefer", message: "expected a number of seconds, such as wait=30" }]);
}
