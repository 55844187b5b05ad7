const MAX_SHOWN_LENGTH = 512;
/** Control and format characters (bidirectional overrides are of these), separators that break lines, lone surrogates. */
const UNSAFE = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu;

/** Text that others chose (a process name, a driver's message) as an answer shows it: in one line, and left to right. */
export function printable(text: string): string {
  return visible(text.length > MAX_SHOWN_LENGTH ? `${text.slice(0, MAX_SHOWN_LENGTH)}...` : text);
}

/** The same of text whose length is bounded already. */
export function visible(text: string): string {
  return text.replace(UNSAFE, (character) => `\\u{${(character.codePointAt(0) as number).toString(16)}}`);
}
