/** Output that breaks off, and output that is out of all proportion. See also fuzz.test.ts. */
import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import type { HostReading } from "../../../src/core/model/reading.ts";
import { parseNvidiaSmi } from "../../../src/monitor/nvidia-smi/parse.ts";
import { smiDocument } from "../../fixtures/nvidia-smi-document.ts";
import { captures } from "./captures.ts";
import { timed } from "./cpu-time.ts";

/** `all`: whole captures are cut at every place too, which takes minutes. */
const CUTS = process.env.CUTS;
/** Otherwise between two cuts. */
const STRIDE = 199;
/** For one document. */
const MAX_MS = 50;
/** Garbage may be collected in one, or the machine be busy: the least of at most so many tries counts. */
const MOST_TRIES = 20;

const END = "</nvidia_smi_log>";
const CLOCKS = /<supported_clocks>[\s\S]*?(?=<\/supported_clocks>)/g;

const SELF_MADE = [
  smiDocument({ gpus: [{}, { memoryUsedMib: 1024, utilizationPercent: 93 }, { temperatureC: "N/A" }] }),
  smiDocument({
    gpus: [
      { processes: [{ pid: 12, name: "a </gpu> & <b>", usedMemoryMib: 512 }], memoryUsedMib: "GPU is lost" },
      { migMode: "Enabled", migDevices: [{ index: 0, gpuInstanceId: 1, computeInstanceId: 0 }] },
    ],
  }),
  smiDocument({ gpus: [{ name: "first" }] }) + smiDocument({ gpus: [{ name: "second" }, {}] }),
];

interface Document {
  readonly name: string;
  readonly text: string;
}

const selfMade: readonly Document[] = SELF_MADE.map((text, index) => ({ name: `self-made ${index}`, text }));
const whole: readonly Document[] = captures.map(({ name, path }) => ({ name, text: readFileSync(path, "utf8") }));
/** Without the clocks, which are three quarters of it all and which nobody reads, a capture can be cut everywhere. */
const withoutClocks = whole.map(({ name, text }) => ({ name, text: text.replaceAll(CLOCKS, "<supported_clocks>") }));

function readingOf(output: string | Uint8Array): HostReading | null {
  const result = parseNvidiaSmi(output);
  if (!result.ok && result.error.message === "") throw new Error("an error that says nothing");
  return result.ok ? result.document.reading : null;
}

function expectNothingBeforeTheEnd(text: string, stride: number): void {
  const ends: { readonly offset: number; readonly reading: string }[] = [];
  for (let at = text.indexOf(END); at >= 0; at = text.indexOf(END, at + 1)) {
    const offset = at + END.length;
    ends.push({ offset, reading: JSON.stringify(readingOf(text.slice(0, offset))) });
  }
  expect(ends.length).toBeGreaterThan(0);

  for (let cut = 0; cut <= text.length; cut += stride) {
    const last = ends.findLast(({ offset }) => offset <= cut)?.reading ?? "null";
    // Beyond the first document nothing new is parsed, so it is enough to look there now and then.
    if (last !== "null" && cut % 7 !== 0 && !ends.some(({ offset }) => Math.abs(offset - cut) < 3)) continue;
    const reading = JSON.stringify(readingOf(text.slice(0, cut)));
    if (reading !== last) expect.fail(`cut at ${cut} of ${text.length}: ${reading.slice(0, 200)}`);
  }
}

describe("a document that breaks off", () => {
  test.each(selfMade)("$name gives no reading before its end, and the whole one from there", ({ text }) => {
    expectNothingBeforeTheEnd(text, 1);
  });

  test.each(withoutClocks)("$name, cut at any place, gives no reading before its end", ({ text }) => {
    expectNothingBeforeTheEnd(text, 1);
  });

  test.each(whole)(
    "$name, clocks included, gives no reading before its end, and the whole one from there",
    ({ text }) => {
      expectNothingBeforeTheEnd(text, CUTS === "all" ? 1 : STRIDE);
    },
  );

  test("bytes cut in the middle of a character are no different", () => {
    const text = smiDocument({ gpus: [{ processes: [{ pid: 1, name: "漢字🚀" }] }] });
    const bytes = Buffer.from(text, "utf8");
    const whole = JSON.stringify(readingOf(text));
    for (let cut = 0; cut <= bytes.length; cut++) {
      const expected = cut < bytes.length - 1 ? "null" : whole;
      if (JSON.stringify(readingOf(bytes.subarray(0, cut))) !== expected) expect.fail(`cut at ${cut}`);
    }
  });
});

const many = (count: number, text: string) => text.repeat(count);
const distinct = (count: number) => Array.from({ length: count }, (_, i) => `<a${i}>ERR!</a${i}>`).join("");
const attributes = Array.from({ length: 50_000 }, (_, i) => ` a${i}="1"`).join("");
const bomb = Array.from({ length: 30 }, (_, i) => `<!ENTITY a${i + 1} "${`&a${i};`.repeat(10)}">`).join("");
const processInfo = "<process_info><pid>7</pid><process_name>a</process_name></process_info>";

/** What stands in the first GPU's element. */
const OUT_OF_PROPORTION: readonly [string, string][] = [
  ["nesting", many(100_000, "<a>") + many(100_000, "</a>")],
  ["nesting without end", many(100_000, "<a>")],
  ["an attribute of a megabyte", `<a x="${many(1_000_000, "A")}"/>`],
  ["many attributes", `<a ${attributes}/>`],
  ["an attribute without end", `<a x="${many(300_000, "A ")}`],
  ["blanks in a tag", `<a${many(900_000, " ")}></a>`],
  ["blanks in a text", `<a>${many(900_000, " ")}x</a>`],
  ["beginnings of tags", many(900_000, "<")],
  ["ends of tags", many(900_000, ">")],
  ["ampersands", many(900_000, "&")],
  ["an entity bomb", `<!DOCTYPE x [<!ENTITY a0 "0 MiB">${bomb}]><total>&a30;</total>`],
  ["comments", many(90_000, "<!-- x -->")],
  ["beginnings of comments", many(90_000, "<!--")],
  ["CDATA", many(60_000, "<![CDATA[x]]>")],
  ["beginnings of CDATA", many(90_000, "<![CDATA[")],
  ["processing instructions", many(90_000, "<?x y?>")],
  ["beginnings of processing instructions", many(300_000, "<?")],
  ["elements", many(100_000, "<a>1</a>")],
  ["empty elements", many(200_000, "<a/>")],
  ["elements of different names, with errors", distinct(60_000)],
  ["processes", many(10_000, processInfo)],
  ["names of processes without end", many(60_000, "<process_name>")],
  ["lists of clocks", many(25_000, "<supported_clocks><a></supported_clocks>")],
  ["one list of clocks", `<supported_clocks>${many(400_000, "<a>1</a>")}</supported_clocks>`],
  ["beginnings of GPUs", many(800_000, "<gpu")],
  ["beginnings of documents", many(500_000, "<nvidia_smi_log>")],
  ["ends of documents", many(250_000, "</nvidia_smi_log>")],
];

describe("output out of all proportion", () => {
  test.each(OUT_OF_PROPORTION)(`%s: a typed error or the truth, within ${MAX_MS} ms`, (_what, xml) => {
    const text = smiDocument({ gpus: [{ extraXml: xml }, {}] });
    let ms = Infinity;
    for (let tries = 0; tries < MOST_TRIES && ms >= MAX_MS; tries++) {
      const { cpuMs, result } = timed(() => readingOf(text));
      ms = Math.min(ms, cpuMs);
      if (result !== null) expect(result.gpus).toHaveLength(2);
    }
    expect(ms).toBeLessThan(MAX_MS);
  });
});
