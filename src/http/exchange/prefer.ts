/** How long a client wants to wait for its answer, as RFC 7240 (the Prefer header) has it. */

/** Longer fields are not looked at. */
const MAX_FIELD_LENGTH = 512;

const TOKEN = "[!#$%&'*+.^_`|~0-9A-Za-z-]+";

const WORD = `${TOKEN}|"(?:[^"\\\\]|\\\\.)*"`;

/** A preference or one of its parameters, each of them possibly empty, and what ends it (section 2). */
const PART = new RegExp(`[ \\t]*(?:(${TOKEN})(?:[ \\t]*=[ \\t]*(${WORD}))?)?[ \\t]*([,;]|$)`, "y");

/**
 * The `wait` preference of a `Prefer` field (several are joined by commas), in ms, at most `longestMs`.
 *
 * @returns 0 when there is none. What is malformed, and all other preferences, count as not there (section 2).
 */
export function preferredWaitMs(field: string | undefined, longestMs: number): number {
  if (field === undefined || field.length > MAX_FIELD_LENGTH) return 0;
  let seconds: string | null = null;
  let endedBy = ",";
  PART.lastIndex = 0;
  while (endedBy !== "") {
    const part = PART.exec(field);
    if (part === null) return 0;
    const [, name, value = "", end = ""] = part;
    // Of a preference that is given twice, the first counts.
    if (endedBy === "," && name?.toLowerCase() === "wait") seconds ??= value;
    endedBy = end;
  }
  const digits = /^"?(\d+)"?$/.exec(seconds ?? "")?.[1];
  return digits === undefined ? 0 : Math.min(Number(digits) * 1_000, longestMs);
}
