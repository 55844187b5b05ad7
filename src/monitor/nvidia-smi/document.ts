/**
 * From the bytes that `nvidia-smi -q -x` printed to one tree per GPU. What the fields mean is parse.ts's.
 *
 * 1. The last complete `<nvidia_smi_log>` counts; text around it, prologs and unfinished documents do not.
 * 2. All of that document is read or none of it: every element is matched with its end, so that no damage can make
 *    a GPU disappear.
 * 3. Process names come from any local user. They are shielded before anything else is looked at, so that angle
 *    brackets in them, escaped or not, cannot pass for elements.
 * 4. Sizes are bounded before work is done on them.
 */
import { XMLParser, XMLValidator } from "fast-xml-parser";
import { plainTree, type Tree } from "./plain-tree.ts";
import { sifted, UNREAD } from "./sieve.ts";
import { decodeReferences, oneLine } from "./text.ts";

/** Most that one probe may print, without what nobody reads. Eight B200s print 0.36 MB; loop output is several documents. */
export const MAX_OUTPUT_BYTES = 8 * 1024 * 1024;
/** Most GPUs of one document. Hosts have up to 16. */
export const MAX_GPUS = 128;
/** Most of a process name that is kept, in UTF-16 units. */
export const MAX_PROCESS_NAME = 4096;
/** Most of one GPU's XML that is parsed, without the parts that nobody reads. Real ones take 12 kB. */
const MAX_GPU_XML = 1024 * 1024;
/** Most tags of one GPU, likewise. A GPU has about 600, and 16 for each of its processes. */
export const MAX_GPU_TAGS = 16_384;
/** Longest tag. The longest real one names a GPU's PCI address. */
const MAX_TAG_LENGTH = 1024;
/** Deepest nesting. Real documents go to 7. */
const MAX_DEPTH = 32;

/** Never dropped with them: without these a GPU in use looks free. */
const KEPT = ["<processes", "<compute_processes"] as const;

const START = "<nvidia_smi_log";
const END = "</nvidia_smi_log>";
const NAME_START = "<process_name>";
const NAME_END = "</process_name>";
const COMMENT_START = "<!--";
const COMMENT_END = "-->";
const GPU_TAG = /<gpu(?:\s[^<>]*)?>|<\/gpu\s*>/g;
const GPU_ID = /\sid\s*=\s*(?:"([^"]*)"|'([^']*)')/;

export type ParseErrorKind =
  /** Nothing but blanks. */
  | "empty"
  /** Text without the beginning of a document. */
  | "no-document"
  /** A document that began and did not end. */
  | "unfinished"
  /** A document whose elements do not match, or whose figures contradict each other. */
  | "malformed"
  | "too-large"
  | "too-many-gpus"
  /** A GPU that can be told from the others neither by UUID nor by PCI address. */
  | "no-identity";

export interface ParseError {
  readonly kind: ParseErrorKind;
  /** One bounded line. */
  readonly message: string;
}

/** Leaves this room only as a {@link ParseError}. */
export class UnreadableDocument extends Error {
  readonly kind: ParseErrorKind;
  constructor(kind: ParseErrorKind, message: string) {
    super(oneLine(message));
    this.kind = kind;
  }
}

/** A document cut into the XML of its GPUs, in order of appearance, and the XML of the rest. */
export interface Slices {
  readonly host: string;
  readonly gpus: readonly { readonly id: string | null; readonly xml: string }[];
}

/** @throws {UnreadableDocument} */
export function sliceDocument(given: Uint8Array | string): Slices {
  const output = given.length > MAX_OUTPUT_BYTES ? sifted(given) : given;
  if (output.length > MAX_OUTPUT_BYTES) {
    throw new UnreadableDocument("too-large", `${output.length} bytes are more than the ${MAX_OUTPUT_BYTES} allowed`);
  }
  // Bytes that are not UTF-8 become U+FFFD, which parse.ts takes for "not text".
  const text = typeof output === "string" ? output : new TextDecoder("utf-8").decode(output);
  return sliceGpus(withoutComments(shieldProcessNames(lastDocument(text))));
}

function lastDocument(text: string): string {
  const end = text.lastIndexOf(END);
  const start = end < 0 ? -1 : lastStartBefore(text, end);
  if (start >= 0) return text.slice(start, end + END.length);
  if (text.trim() === "") throw new UnreadableDocument("empty", "it printed nothing");
  if (text.includes(START) || text.includes("<?xml")) {
    throw new UnreadableDocument("unfinished", `the document breaks off after ${text.length} characters`);
  }
  throw new UnreadableDocument("no-document", `it printed no document but: ${text.slice(0, 1000)}`);
}

function lastStartBefore(text: string, end: number): number {
  const start = text.lastIndexOf(START, end);
  // `<nvidia_smi_logger>` would be another element.
  return start >= 0 && /[\s>]/.test(text.charAt(start + START.length)) ? start : -1;
}

/** Escapes and bounds what stands in `<process_name>`; a name without special characters stays as it is. */
function shieldProcessNames(xml: string): string {
  let from = xml.indexOf(NAME_START);
  if (from < 0) return xml;
  const parts: string[] = [];
  let copied = 0;
  while (from >= 0) {
    const begin = from + NAME_START.length;
    const end = xml.indexOf(NAME_END, begin);
    if (end < 0) throw new UnreadableDocument("malformed", "a process name has no end");
    const name = xml.slice(begin, end);
    if (name.length > MAX_PROCESS_NAME || name.includes("<") || name.includes("&")) {
      parts.push(xml.slice(copied, begin), escapeText(boundedName(name)));
      copied = end;
    }
    from = xml.indexOf(NAME_START, end);
  }
  parts.push(xml.slice(copied));
  return parts.join("");
}

/** The name as text. A reference takes up to ten characters, so more than ten times the bound cannot matter. */
function boundedName(raw: string): string {
  const name = decodeReferences(raw.slice(0, 10 * MAX_PROCESS_NAME));
  return name.length > MAX_PROCESS_NAME ? name.slice(0, MAX_PROCESS_NAME).replace(/[\uD800-\uDBFF]$/, "") : name;
}

function escapeText(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

function withoutComments(xml: string): string {
  let from = xml.indexOf(COMMENT_START);
  if (from < 0) return xml;
  const parts: string[] = [];
  let copied = 0;
  while (from >= 0) {
    const end = xml.indexOf(COMMENT_END, from + COMMENT_START.length);
    if (end < 0) throw new UnreadableDocument("malformed", "a comment has no end");
    parts.push(xml.slice(copied, from));
    copied = end + COMMENT_END.length;
    from = xml.indexOf(COMMENT_START, copied);
  }
  parts.push(xml.slice(copied));
  return parts.join("");
}

/** @throws {UnreadableDocument} unless beginnings and ends of `gpu` elements take turns. */
function sliceGpus(xml: string): Slices {
  const host: string[] = [];
  const gpus: { id: string | null; xml: string }[] = [];
  let open: RegExpMatchArray | null = null;
  let copied = 0;
  for (const tag of xml.matchAll(GPU_TAG)) {
    const begins = !tag[0].startsWith("</");
    if (begins === (open !== null)) {
      throw new UnreadableDocument("malformed", `GPU element ${gpus.length + 1} has no beginning or no end`);
    }
    const end = tag.index + tag[0].length;
    if (open === null) {
      if (gpus.length === MAX_GPUS) throw new UnreadableDocument("too-many-gpus", `more than ${MAX_GPUS} GPUs`);
      host.push(xml.slice(copied, tag.index));
      open = tag;
    } else {
      gpus.push({ id: idOf(open[0]), xml: xml.slice(open.index, end) });
      open = null;
    }
    copied = end;
  }
  if (open !== null) throw new UnreadableDocument("malformed", "the last GPU element has no end");
  host.push(xml.slice(copied));
  return { host: host.join(""), gpus };
}

function idOf(tag: string): string | null {
  const found = GPU_ID.exec(tag);
  return found === null ? null : (found[1] ?? found[2] ?? null);
}

const parser = new XMLParser({
  ignoreAttributes: true,
  ignoreDeclaration: true,
  ignorePiTags: true,
  // References are decoded by decodeReferences: no declared entity is ever expanded.
  processEntities: false,
  parseTagValue: false,
  // Blanks at the ends of a process name belong to it.
  trimValues: false,
  maxNestedTags: MAX_DEPTH,
  jPath: false,
});

/**
 * The tree of one slice, below its root element.
 *
 * @throws {UnreadableDocument} when its elements do not match, or it is out of all proportion.
 */
export function treeOf(slice: string, what: string): Tree {
  const xml = UNREAD.reduce(withoutContent, slice);
  if (xml.length > MAX_GPU_XML) throw new UnreadableDocument("too-large", `${what} takes ${xml.length} characters`);
  return plainTree(xml, { tags: MAX_GPU_TAGS, depth: MAX_DEPTH }) ?? unusualTree(xml, what);
}

/** The same of whatever XML. */
function unusualTree(xml: string, what: string): Tree {
  boundTags(xml, what);
  try {
    // The parser forgives elements that do not match; half a GPU must not pass for a whole one.
    const valid = XMLValidator.validate(xml);
    if (valid === true) return Object.values(parser.parse(xml) as { [root: string]: Tree })[0] ?? "";
    throw new UnreadableDocument("malformed", `${what}: ${valid.err.msg}`);
  } catch (error) {
    if (error instanceof UnreadableDocument) throw error;
    throw new UnreadableDocument("malformed", `${what}: ${error instanceof Error ? error.message : String(error)}`);
  }
}

/** Processing instructions and document types, which stand before a document if anywhere. */
const NO_ELEMENT = /^<(?:\?|!(?!\[CDATA\[))/;

/** The time that parsing takes goes by the tags, not by the characters. */
function boundTags(xml: string, what: string): void {
  let tags = 0;
  for (let from = xml.indexOf("<"); from >= 0; tags++) {
    const end = xml.indexOf(">", from);
    if (end < 0 || end - from > MAX_TAG_LENGTH) throw new UnreadableDocument("malformed", `${what} has an endless tag`);
    if (NO_ELEMENT.test(xml.slice(from, from + 9))) {
      throw new UnreadableDocument("malformed", `${what} has a declaration inside`);
    }
    if (tags === MAX_GPU_TAGS) throw new UnreadableDocument("too-large", `${what} has more than ${MAX_GPU_TAGS} tags`);
    from = xml.indexOf("<", end);
  }
}

/**
 * Empties elements of this tag that have children; a bare word such as `Insufficient Size` stays. Where the end was
 * damaged, what looks like content may reach into a list of processes: that is left for the validator to find.
 */
function withoutContent(xml: string, tag: string): string {
  const startTag = `<${tag}>`;
  const endTag = `</${tag}>`;
  const parts: string[] = [];
  let copied = 0;
  let from = xml.indexOf(startTag);
  while (from >= 0) {
    const begin = from + startTag.length;
    const end = xml.indexOf(endTag, begin);
    if (end < 0) break;
    const content = xml.slice(begin, end);
    if (content.includes("<") && !content.includes(startTag) && !KEPT.some((kept) => content.includes(kept))) {
      parts.push(xml.slice(copied, begin));
      copied = end;
    }
    from = xml.indexOf(startTag, end);
  }
  parts.push(xml.slice(copied));
  return parts.join("");
}
