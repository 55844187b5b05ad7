/** Longest line that leaves this room for logs, `/readyz` and pages, in UTF-16 units. */
const MAX_LINE = 300;
/** What is looked at to make one line: the rest cannot matter. */
const MAX_EXAMINED = 4 * MAX_LINE;

const UNPRINTABLE = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]+/gu;

/**
 * Foreign text as one bounded line: control, format and line-separating characters become blanks, so that it can
 * neither forge a log line nor steer a terminal.
 */
export function oneLine(text: string): string {
  const line = text.slice(0, MAX_EXAMINED).replace(UNPRINTABLE, " ").replace(/\s+/g, " ").trim();
  return line.length > MAX_LINE ? `${line.slice(0, MAX_LINE - 1).replace(/[\uD800-\uDBFF]$/, "")}…` : line;
}

const NAMED: { readonly [name: string]: string } = { amp: "&", lt: "<", gt: ">", quot: '"', apos: "'" };
const REFERENCE = /&(?:(amp|lt|gt|quot|apos)|#([0-9]{1,7})|#x([0-9a-fA-F]{1,6}));/g;

/** Replaces the references that XML itself defines, and no other, once: `&amp;lt;` becomes `&lt;`. */
export function decodeReferences(text: string): string {
  if (!text.includes("&")) return text;
  return text.replace(REFERENCE, (whole, name?: string, decimal?: string, hex?: string) => {
    if (name !== undefined) return NAMED[name] as string;
    const code = decimal !== undefined ? Number.parseInt(decimal, 10) : Number.parseInt(hex as string, 16);
    return isXmlCharacter(code) ? String.fromCodePoint(code) : whole;
  });
}

/** https://www.w3.org/TR/xml/#NT-Char */
function isXmlCharacter(code: number): boolean {
  if (code < 0x20) return code === 0x9 || code === 0xa || code === 0xd;
  return code <= 0xd7ff || (code >= 0xe000 && code <= 0xfffd) || (code >= 0x10000 && code <= 0x10ffff);
}
