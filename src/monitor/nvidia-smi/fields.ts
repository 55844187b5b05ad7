/**
 * Single values of a GPU's tree. A path is whole, from the `gpu` element down, because the same leaf names stand
 * under several parents (`total` stands under four). No reading is `null`, never 0.
 */
import type { Tree } from "./plain-tree.ts";
import { decodeReferences } from "./text.ts";

/** Longest text that is taken from one field, in UTF-16 units. */
const MAX_TEXT = 256;
/** Most error words that are listed for one GPU. A GPU has about 250 fields. */
const MAX_ERROR_VALUES = 512;
/** Digits that a double holds without loss. */
const INTEGER = /^\d{1,15}$/;
const MEASURE = /^(\d{1,15}(?:\.\d{1,6})?) (\S{1,8})$/;

/** The driver tried and failed, or was not allowed to: worth listing. Newer drivers add a sentence to the third. */
const ERROR_WORD =
  /^\[?(?:Unknown Error|ERR!|GPU is lost(?:\..*)?|Insufficient Permissions|Insufficient Size|Requested functionality has been deprecated)\]?$/;
/** There is nothing to read. */
const NOTHING_WORD = /^\[?(?:N\/A|Not Supported|Not Available|Not Found|Unknown)\]?$/i;

const REPLACEMENT = "\uFFFD";

function child(tree: Tree | undefined, tag: string): Tree | undefined {
  if (tree === undefined || typeof tree === "string" || Array.isArray(tree)) return undefined;
  return Object.hasOwn(tree, tag) ? (tree as { readonly [tag: string]: Tree })[tag] : undefined;
}

export function elementAt(tree: Tree, path: string): Tree | undefined {
  let at: Tree | undefined = tree;
  for (const tag of path.split("/")) at = child(at, tag);
  return at;
}

/** All elements at `path`, of which the last tag may stand several times. */
export function elementsAt(tree: Tree, path: string): readonly Tree[] {
  const found = elementAt(tree, path);
  if (found === undefined) return [];
  return Array.isArray(found) ? found : [found as Tree];
}

/** All elements of this tag, wherever they stand. */
export function elementsNamed(tree: Tree, tag: string): readonly Tree[] {
  const found: Tree[] = [];
  gather(tree, tag, found);
  return found;
}

/** Nothing is made for the hundreds of elements that are none of them: this is done for each GPU at each reading. */
function gather(tree: Tree, tag: string, found: Tree[]): void {
  if (typeof tree === "string") return;
  if (Array.isArray(tree)) {
    for (const element of tree) gather(element, tag, found);
    return;
  }
  const children = tree as { readonly [tag: string]: Tree };
  for (const name of Object.keys(children)) {
    const element = children[name] as Tree;
    if (name !== tag) gather(element, tag, found);
    else if (Array.isArray(element)) found.push(...element);
    else found.push(element);
  }
}

/** What stands at `path`, words for "no reading" included; `null` when it is absent, or not one single text. */
export function wordAt(tree: Tree, path: string): string | null {
  const found = elementAt(tree, path);
  return typeof found === "string" ? decodeReferences(found.trim()).slice(0, MAX_TEXT) : null;
}

/** Whether the driver says itself that it has nothing to say; damage does not look like that. */
export function isNoReading(word: string): boolean {
  return NOTHING_WORD.test(word) || ERROR_WORD.test(word);
}

export function textAt(tree: Tree, path: string): string | null {
  const word = wordAt(tree, path);
  if (word === null || word === "" || word.includes(REPLACEMENT)) return null;
  return isNoReading(word) ? null : word;
}

/** A process name: any text is one, blanks at its ends included; `null` when absent or when its bytes were not UTF-8. */
export function nameAt(tree: Tree, path: string): string | null {
  const found = elementAt(tree, path);
  return typeof found !== "string" || found.includes(REPLACEMENT) ? null : decodeReferences(found);
}

export function integerAt(tree: Tree, path: string): number | null {
  const word = wordAt(tree, path);
  return word !== null && INTEGER.test(word) ? Number(word) : null;
}

/** A number that stands with one of `units`; a bare number, or one with another unit, is no reading. */
function measureAt(tree: Tree, path: string, units: readonly string[]): number | null {
  const found = MEASURE.exec(wordAt(tree, path) ?? "");
  return found !== null && units.includes(found[2] as string) ? Number(found[1]) : null;
}

/** Drivers before 346 print MB and mean MiB. */
export const mibAt = (tree: Tree, path: string) => measureAt(tree, path, ["MiB", "MB"]);
export const percentAt = (tree: Tree, path: string) => measureAt(tree, path, ["%"]);
export const celsiusAt = (tree: Tree, path: string) => measureAt(tree, path, ["C"]);
export const wattsAt = (tree: Tree, path: string) => measureAt(tree, path, ["W"]);

/** True when one of the words is `yes`, false when one is `no` and none is `yes`; `null`: neither was said. */
export function anyOf(words: readonly (string | null)[], yes: string, no: string): boolean | null {
  if (words.includes(yes)) return true;
  return words.includes(no) ? false : null;
}

/**
 * Every field that holds an error word, by path. Tags that repeat get their position, as in `mig_device[1]`.
 * What stands below `process_info` is left out: a process may call itself `GPU is lost`.
 */
export function errorValues(tree: Tree): { readonly [path: string]: string } {
  const found: [string, string][] = [];
  collect(tree, "", found);
  return Object.fromEntries(found);
}

function collect(tree: Tree, path: string, found: [string, string][]): void {
  if (typeof tree === "string") {
    const word = tree.trim();
    if (ERROR_WORD.test(word) && found.length < MAX_ERROR_VALUES) found.push([path, word.slice(0, MAX_TEXT)]);
    return;
  }
  if (Array.isArray(tree)) {
    for (const [position, element] of tree.entries()) collect(element, `${path}[${position}]`, found);
    return;
  }
  const children = tree as { readonly [tag: string]: Tree };
  for (const tag of Object.keys(children)) {
    if (tag !== "process_info") collect(children[tag] as Tree, path === "" ? tag : `${path}/${tag}`, found);
  }
}
