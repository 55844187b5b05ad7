/** The short way to a tree, beside the parser of all XML: whatever it takes, both say the same of it. */

import { XMLParser, XMLValidator } from "fast-xml-parser";
import { describe, expect, test } from "vitest";
import { sliceDocument, UnreadableDocument } from "../../../src/monitor/nvidia-smi/document.ts";
import { plainTree } from "../../../src/monitor/nvidia-smi/plain-tree.ts";
import fc from "../../fc.ts";
import { smiDocument } from "../../fixtures/nvidia-smi-document.ts";
import { captures, hasCaptures, readCapture } from "./captures.ts";

const BOUNDS = { tags: 16_384, depth: 32 };
const parser = new XMLParser({
  ignoreAttributes: true,
  processEntities: false,
  parseTagValue: false,
  trimValues: false,
  jPath: false,
});

/** What the parser of all XML makes of it, without the blanks between elements; `null`: it is none. */
function reference(xml: string): unknown {
  return XMLValidator.validate(xml) === true ? withoutText(Object.values(parser.parse(xml))[0] ?? "") : null;
}

function withoutText(tree: unknown): unknown {
  if (typeof tree !== "object" || tree === null) return tree;
  if (Array.isArray(tree)) return tree.map(withoutText);
  const children = Object.entries(tree).filter(([name, child]) => name !== "#text" || /\S/.test(String(child)));
  return Object.fromEntries(children.map(([name, child]) => [name, withoutText(child)]));
}

function slicesOf(name: string) {
  try {
    return sliceDocument(readCapture(name)).gpus;
  } catch (error) {
    if (error instanceof UnreadableDocument) return [];
    throw error;
  }
}

describe.skipIf(!hasCaptures)("output of real drivers (skipped where ../shared has none)", () => {
  test.each(captures)("$name: both have the same tree of each GPU", ({ name }) => {
    for (const { xml } of slicesOf(name)) {
      const tree = plainTree(xml, BOUNDS);
      if (tree !== null) expect(tree).toEqual(reference(xml));
    }
  });

  test("nearly all of it is plain", () => {
    const trees = captures.flatMap(({ name }) => slicesOf(name).map(({ xml }) => plainTree(xml, BOUNDS)));
    expect(trees.length).toBeGreaterThan(100);
    expect(trees.filter((tree) => tree !== null).length / trees.length).toBeGreaterThan(0.9);
  });
});

test("what is not plain has no tree here, and nothing is forgiven", () => {
  const odd = [
    "",
    "text",
    "<a>",
    "<a><b></a></b>",
    "<a>1</a>x",
    "<a>1</a><b>2</b>",
    "<a><b/></a>",
    "<a>&amp;</a>",
    "<a>one <b>2</b></a>",
    "<a><b>2</b> one</a>",
    '<a><b id="1">2</b></a>',
    "<a><![CDATA[1]]></a>",
    "<a><!-- 1 --></a>",
    "<a><constructor>1</constructor></a>",
    "<a>1</a >",
    "<a>1\r\n</a>",
  ];
  expect(odd.filter((xml) => plainTree(xml, BOUNDS) !== null)).toEqual([]);
  expect(plainTree("<a><b><c>1</c></b></a>", { tags: 6, depth: 3 })).toEqual({ b: { c: "1" } });
  expect(plainTree("<a><b><c>1</c></b></a>", { tags: 7, depth: 2 })).toBeNull();
  expect(plainTree("<a><b><c>1</c></b></a>", { tags: 5, depth: 3 })).toBeNull();
});

test("whatever is made of pieces of XML, both say the same of what is taken here", () => {
  const pieces = [
    "<a>",
    "</a>",
    "<b>",
    "</b>",
    "<c>",
    "</c>",
    "</d>",
    "<a/>",
    '<a id="1">',
    " ",
    "\n",
    "1",
    "x y",
    "<",
    ">",
  ];
  const more = [
    "&amp;",
    "&",
    "]]>",
    "<![CDATA[",
    "<!--",
    "-->",
    "<?a?>",
    "\r",
    "<constructor>",
    "</constructor>",
    "<__proto__>",
  ];
  const xml = fc.array(fc.constantFrom(...pieces, ...pieces, ...more), { maxLength: 14 });
  let taken = 0;
  fc.assert(
    fc.property(xml, (inner) => {
      const text = `<a>${inner.join("")}</a>`;
      const tree = plainTree(text, BOUNDS);
      if (tree === null) return;
      taken++;
      expect(tree).toEqual(reference(text));
    }),
    { numRuns: 20_000 },
  );
  expect(taken).toBeGreaterThan(100);
});

test("it takes a fraction of the time", () => {
  const { gpus } = sliceDocument(smiDocument({ gpus: Array.from({ length: 64 }, () => ({})) }));
  const cost = (read: (xml: string) => unknown) => {
    const spent = Array.from({ length: 5 }, () => {
      const before = process.cpuUsage();
      for (const { xml } of gpus) read(xml);
      const { user, system } = process.cpuUsage(before);
      return user + system;
    });
    return Math.min(...spent);
  };
  const all = cost((xml) => XMLValidator.validate(xml) === true && parser.parse(xml));
  expect(cost((xml) => plainTree(xml, BOUNDS))).toBeLessThan(all / 4);
});
