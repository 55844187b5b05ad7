/**
 * The tree of XML as the driver writes it: elements of a name and nothing else, with text or with elements in them. It is
 * made in a tenth of the time that a parser of all XML takes, twice over, to say the same.
 *
 * 1. What is in any way out of the ordinary has no tree here: attributes, references, sections, elements that do not match.
 *    Nothing is forgiven and nothing is refused: the parser of all XML has the word then.
 * 2. What has one here has the same there, but for the blanks between elements, which nobody reads.
 */
/** An element: its text, or its children by tag. Elements of the same tag stand in an array. */
export type Tree = string | readonly Tree[] | { readonly [tag: string]: Tree };

export interface Bounds {
  readonly tags: number;
  readonly depth: number;
}

/** An element that has begun. */
interface Open {
  readonly name: string;
  readonly children: { [tag: string]: Tree };
  isParent: boolean;
}

/** The root may say which GPU it is. */
const ROOT = /^\s*<([a-zA-Z][a-zA-Z0-9_]*)(?: id="[^"<>&]*")?>/;
const NAME = /^[a-zA-Z][a-zA-Z0-9_]*$/;
const BLANK = /^\s*$/;
/** What the parser of all XML reads otherwise than it stands there. */
const UNUSUAL = /[&\r]/;

/** @returns the tree below the root element; `null`: it is not as plain as that, or breaks a bound. */
export function plainTree(xml: string, bounds: Bounds): Tree | null {
  const root = ROOT.exec(xml);
  if (root === null || UNUSUAL.test(xml)) return null;
  const open: Open[] = [{ name: root[1] as string, children: {}, isParent: false }];
  let at = root[0].length;
  for (let tags = 1; tags < bounds.tags; tags++) {
    const element = open.at(-1) as Open;
    const from = xml.indexOf("<", at);
    const end = from < 0 ? -1 : xml.indexOf(">", from);
    if (end < 0) return null;
    const text = xml.slice(at, from);
    at = end + 1;
    if (xml.charAt(from + 1) !== "/") {
      const name = xml.slice(from + 1, end);
      if (!BLANK.test(text) || !NAME.test(name) || name in Object.prototype || open.length === bounds.depth)
        return null;
      element.isParent = true;
      open.push({ name, children: {}, isParent: false });
      continue;
    }
    if (end - from - 2 !== element.name.length || !xml.startsWith(element.name, from + 2)) return null;
    if (element.isParent && !BLANK.test(text)) return null;
    const tree = element.isParent ? element.children : text;
    open.pop();
    const parent = open.at(-1);
    if (parent === undefined) return BLANK.test(xml.slice(at)) ? tree : null;
    put(parent.children, element.name, tree);
  }
  return null;
}

/** Of elements of one name beside each other a list is made. */
function put(children: { [tag: string]: Tree }, name: string, tree: Tree): void {
  const before = children[name];
  if (before === undefined) children[name] = tree;
  else if (Array.isArray(before)) before.push(tree);
  else children[name] = [before, tree];
}
