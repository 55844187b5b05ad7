/**
 * One YAML 1.2 file as plain data, with the position of every key and value.
 *
 * 1. Whatever the text is, reading it ends and throws nothing: size, depth, aliases and nodes are bounded.
 * 2. No complaint about the YAML repeats text of the file, since that may be a secret.
 * 3. Data are objects without a prototype, so a key such as `constructor` is a key like any other.
 */
import {
  type Document,
  isAlias,
  isMap,
  isScalar,
  isSeq,
  LineCounter,
  type Node,
  parseDocument,
  type YAMLError,
} from "yaml";
import type { Origin, Problem } from "./problems.ts";

export type Path = readonly (string | number)[];
export type Tree = { [key: string]: unknown };

export interface ConfigDocument {
  /** Empty when the file could not be read as YAML at all; {@link readable} is false then. */
  readonly tree: Tree;
  readonly readable: boolean;
  readonly problems: readonly Problem[];
  /** Where `path` stands, or the nearest key above it that does. */
  locate(path: Path, part: "key" | "value"): Origin;
}

interface Offsets {
  readonly key: number;
  readonly value: number;
}

export const MAX_FILE_BYTES = 256 * 1024;
const MAX_DEPTH = 16;
const MAX_ALIASES = 100;
/** Nodes after aliases were followed: a small file can otherwise unfold to billions. */
const MAX_NODES = 50_000;

export function readDocument(text: string, file: string): ConfigDocument {
  const lines = new LineCounter();
  const at = (offset: number): Origin => {
    const { line, col } = lines.linePos(offset);
    return { kind: "file", file, line: Math.max(1, line), column: Math.max(1, col) };
  };
  const parsed = parse(text, lines, at);
  if (parsed.document === null) return unreadable(parsed.problems, at);

  const walk = new Walk(parsed.document, at);
  const { contents } = parsed.document;
  const root = contents === null || (isScalar(contents) && contents.value === null) ? {} : walk.read(contents, [], 0);
  const problems = [...parsed.problems, ...walk.problems];
  if (root === null || typeof root !== "object" || Array.isArray(root)) {
    const message = "expected keys and values, such as `server:`";
    return unreadable([...problems, { origin: at(contents?.range?.[0] ?? 0), path: "", message, hint: null }], at);
  }
  const locate = (path: Path, part: "key" | "value"): Origin => {
    for (let length = path.length; length > 0; length--) {
      const offsets = walk.positions.get(pathKey(path.slice(0, length)));
      if (offsets !== undefined) return at(offsets[part]);
    }
    return at(0);
  };
  return { tree: root as Tree, readable: !walk.gaveUp, problems, locate };
}

/** The settings of no file at all. */
export const NO_DOCUMENT: ConfigDocument = {
  tree: {},
  readable: true,
  problems: [],
  locate: () => ({ kind: "default" }),
};

export function unreadableFile(file: string, message: string): ConfigDocument {
  const whole: Origin = { kind: "file", file, line: null, column: 0 };
  return unreadable([{ origin: whole, path: "", message, hint: null }], () => whole);
}

function unreadable(problems: readonly Problem[], at: (offset: number) => Origin): ConfigDocument {
  return { tree: {}, readable: false, problems, locate: () => at(0) };
}

interface Parsed {
  /** `null`: no YAML. */
  readonly document: Document.Parsed | null;
  readonly problems: Problem[];
}

function parse(text: string, lineCounter: LineCounter, at: (offset: number) => Origin): Parsed {
  let document: Document.Parsed;
  try {
    document = parseDocument(text, {
      version: "1.2",
      schema: "core",
      merge: false,
      resolveKnownTags: false,
      stringKeys: true,
      // The walk below finds keys that are given twice, in linear time and with their path.
      uniqueKeys: false,
      prettyErrors: false,
      logLevel: "error",
      lineCounter,
    });
  } catch (error) {
    // The parser recurses, so only a file nested thousands deep comes here.
    const message = error instanceof RangeError ? "nested too deeply" : "cannot be read as YAML";
    return { document: null, problems: [{ origin: at(0), path: "", message, hint: null }] };
  }
  // One slip can set off a thousand complaints at one place: the last is that of the outermost collection.
  const complaints = new Map([...document.warnings, ...document.errors].map((error) => [error.pos[0], error]));
  const problems = [...complaints.values()].map((error): Problem => {
    return { origin: at(error.pos[0]), path: "", message: `not valid YAML: ${complaintOf(error)}`, hint: null };
  });
  if (document.directives.yaml.version !== "1.2") {
    problems.push({ origin: at(0), path: "", message: "only YAML 1.2 is read", hint: null });
  }
  return { document: document.errors.length > 0 ? null : document, problems };
}

/** The parser's own words, less what may be text of the file: invariant 2. */
function complaintOf({ code, message }: YAMLError): string {
  if (code === "MULTIPLE_DOCS") return "a second YAML document begins, and only one is read";
  if (code === "RESOURCE_EXHAUSTION") return "nested too deeply";
  if (code === "BAD_DIRECTIVE") return "unknown directive";
  if (code === "NON_STRING_KEY") return "a key must be text";
  return message.replace(/[:\n].*$/s, "");
}

/** Turns nodes into data, and notes where each stands and which keys are given twice. */
class Walk {
  readonly positions = new Map<string, Offsets>();
  readonly problems: Problem[] = [];
  gaveUp = false;
  readonly #document: Document.Parsed;
  readonly #at: (offset: number) => Origin;
  #nodes = 0;
  #aliases = 0;

  constructor(document: Document.Parsed, at: (offset: number) => Origin) {
    this.#document = document;
    this.#at = at;
  }

  read(node: Node | null, path: Path, offset: number): unknown {
    if (this.gaveUp) return null;
    this.#nodes += 1;
    // An alias that holds itself ends here too.
    if (path.length > MAX_DEPTH) return this.#giveUp(offset, `nested more than ${MAX_DEPTH} levels deep`);
    if (this.#nodes > MAX_NODES) return this.#giveUp(offset, `holds more than ${MAX_NODES} values`);
    if (isAlias(node)) {
      this.#aliases += 1;
      if (this.#aliases > MAX_ALIASES) return this.#giveUp(offset, `follows more than ${MAX_ALIASES} aliases`);
      const target = node.resolve(this.#document);
      if (target !== undefined) return this.read(target, path, offset);
      this.problems.push({
        origin: this.#at(offset),
        path: printPath(path),
        message: "an alias without an anchor before it",
        hint: null,
      });
      return null;
    }
    if (isMap<Node, Node | null>(node)) return this.#readMap(node.items, path, offset);
    if (isSeq<Node>(node))
      return node.items.map((item, index) => this.#readChild(item, [...path, index], offset, offset));
    return isScalar(node) ? node.value : null;
  }

  #readMap(pairs: readonly { key: Node; value: Node | null }[], path: Path, offset: number): Tree {
    const tree: Tree = Object.create(null);
    for (const { key, value } of pairs) {
      // `stringKeys` has made sure that a key is text.
      const name = isScalar(key) ? String(key.value) : "";
      const keyOffset = key.range?.[0] ?? offset;
      const childPath = [...path, name];
      const earlier = name in tree ? this.positions.get(pathKey(childPath)) : undefined;
      if (earlier !== undefined) this.#reportTwice(childPath, earlier.key, keyOffset);
      tree[name] = this.#readChild(value, childPath, keyOffset, keyOffset);
    }
    return tree;
  }

  #readChild(node: Node | null, path: Path, keyOffset: number, fallback: number): unknown {
    const value = node?.range?.[0] ?? fallback;
    this.positions.set(pathKey(path), { key: keyOffset, value });
    return this.read(node, path, value);
  }

  #reportTwice(path: Path, firstOffset: number, offset: number): void {
    const first = this.#at(firstOffset);
    const line = first.kind === "file" ? first.line : null;
    this.problems.push({
      origin: this.#at(offset),
      path: printPath(path),
      message: `given twice, first in line ${line}`,
      hint: null,
    });
  }

  #giveUp(offset: number, message: string): null {
    this.gaveUp = true;
    this.problems.push({ origin: this.#at(offset), path: "", message, hint: null });
    return null;
  }
}

function pathKey(path: Path): string {
  return JSON.stringify(path);
}

const HIDDEN = "(hidden)";
const MAX_KEY_PRINTED = 64;

/** `auth.api_keys.(hidden).role`: an API key is a secret, also where it is wrong. */
export function printPath(path: Path): string {
  const isApiKey = (index: number) => index === 2 && path[0] === "auth" && path[1] === "api_keys";
  return path
    .map((key, index) => (isApiKey(index) ? HIDDEN : typeof key === "number" ? String(key) : printKey(key)))
    .join(".");
}

export function printKey(key: string): string {
  return /^[\w-]{1,64}$/.test(key) ? key : JSON.stringify(key.slice(0, MAX_KEY_PRINTED));
}
