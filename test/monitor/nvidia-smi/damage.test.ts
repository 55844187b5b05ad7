/**
 * What damaged output may lead to: a typed error, or the truth. Never fewer GPUs than the document holds, never a
 * figure that does not stand there, never a zero where there was no reading.
 */
import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import type { GpuReading, HostReading } from "../../../src/core/model.ts";
import { parseNvidiaSmi } from "../../../src/monitor/nvidia-smi/parse.ts";
import { smiDocument } from "../../fixtures/nvidia-smi-document.ts";
import { captures } from "./captures.ts";

/** Damaged variants that are tried. Raise it for a longer search; the seed of a failure is in its message. */
const VARIANTS = Number(process.env.FUZZ_VARIANTS ?? 2_000);
const FIRST_SEED = Number(process.env.FUZZ_SEED ?? 1);
/** Between two cuts, besides those at every end of a tag. */
const STRIDE = 97;

const END = "</nvidia_smi_log>";

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

const documents: readonly { readonly name: string; readonly text: string }[] = [
  ...SELF_MADE.map((text, index) => ({ name: `self-made ${index}`, text })),
  ...captures.map(({ name, path }) => ({ name, text: readFileSync(path, "utf8") })),
];

function readingOf(output: string | Uint8Array): HostReading | null {
  const result = parseNvidiaSmi(output);
  if (!result.ok && result.error.message === "") throw new Error("an error that says nothing");
  return result.ok ? result.document.reading : null;
}

function cuts(text: string): Set<number> {
  const offsets = new Set([0, text.length]);
  for (let offset = 0; offset < text.length; offset += STRIDE) offsets.add(offset);
  for (let at = text.indexOf(">"); at >= 0; at = text.indexOf(">", at + 1)) {
    for (const offset of [at - 1, at, at + 1]) offsets.add(offset);
  }
  return offsets;
}

describe("a document that breaks off", () => {
  test.each(documents)("$name gives no reading before its end, and the whole one from there", ({ text }) => {
    const ends: { readonly offset: number; readonly reading: string }[] = [];
    for (let at = text.indexOf(END); at >= 0; at = text.indexOf(END, at + 1)) {
      const offset = at + END.length;
      ends.push({ offset, reading: JSON.stringify(readingOf(text.slice(0, offset))) });
    }
    expect(ends.length).toBeGreaterThan(0);

    for (const cut of cuts(text)) {
      const last = ends.findLast(({ offset }) => offset <= cut)?.reading ?? "null";
      // Beyond the first document nothing new is parsed, so it is enough to look there now and then.
      if (last !== "null" && cut % 7 !== 0 && !ends.some(({ offset }) => Math.abs(offset - cut) < 3)) continue;
      const reading = JSON.stringify(readingOf(text.slice(0, cut)));
      if (reading !== last) expect.fail(`cut at ${cut} of ${text.length}: ${reading.slice(0, 200)}`);
    }
  });

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

type Random = (below: number) => number;

/** Mulberry32: small, and the same on every machine. */
function seeded(seed: number): Random {
  let state = seed | 0;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
  };
}

const SCRAPS = [
  "<",
  ">",
  "</",
  "/>",
  "&",
  "\uFFFD",
  "\0",
  "<gpu>",
  "</gpu>",
  '<gpu id="00000000:99:00.0">',
  "<nvidia_smi_log>",
  END,
  "<!--",
  "-->",
  "<![CDATA[",
  "]]>",
  "<process_name>",
  "</process_name>",
  "<supported_clocks>",
  "</supported_clocks>",
  "<fb_memory_usage><used>0 MiB</used></fb_memory_usage>",
  "<uuid>GPU-scrap</uuid>",
  "<__proto__>",
  "N/A",
  "0",
  "999999999999999999999 MiB",
] as const;

/** Damage where a value stands: what a driver prints when it has none. */
const NO_VALUES = ["N/A", "[Not Supported]", "Unknown Error", "ERR!", "GPU is lost", "", "nan", "- MiB"] as const;
const VALUE = />([^<>]*[0-9][^<>]*)<\//g;

type Damage = (text: string, random: Random) => string;

const DAMAGES: readonly Damage[] = [
  function flip(text, random) {
    const at = random(text.length);
    return text.slice(0, at) + String.fromCharCode(text.charCodeAt(at) ^ (1 << random(7))) + text.slice(at + 1);
  },
  function lose(text, random) {
    const at = random(text.length);
    return text.slice(0, at) + text.slice(at + 1 + random(random(2) === 0 ? 40 : 5000));
  },
  function repeat(text, random) {
    const at = random(text.length);
    const end = at + 1 + random(random(2) === 0 ? 40 : 5000);
    return text.slice(0, end) + text.slice(at);
  },
  function insert(text, random) {
    const at = random(text.length);
    return text.slice(0, at) + SCRAPS[random(SCRAPS.length)] + text.slice(at);
  },
  function move(text, random) {
    const [a, b, c] = [random(text.length), random(text.length), random(text.length)].sort((x, y) => x - y);
    return text.slice(0, a) + text.slice(b, c) + text.slice(a, b) + text.slice(c);
  },
  function breakOffAndStartAgain(text, random) {
    return text.slice(0, random(text.length)) + text;
  },
  function unread(text, random) {
    const values = [...text.matchAll(VALUE)];
    const value = values[random(values.length)];
    if (value === undefined) return text;
    const at = value.index + 1;
    return text.slice(0, at) + NO_VALUES[random(NO_VALUES.length)] + text.slice(at + (value[1] ?? "").length);
  },
];

/** The last document as a reader without a parser sees it: process names and comments taken out. */
function bareDocument(text: string): string {
  const end = text.lastIndexOf(END);
  return text
    .slice(text.lastIndexOf("<nvidia_smi_log", end), end)
    .replaceAll(/<process_name>[\s\S]*?<\/process_name>/g, "")
    .replaceAll(/<!--[\s\S]*?-->/g, "")
    .replaceAll(/<supported_clocks>[\s\S]*?<\/supported_clocks>/g, "");
}

/** The figures that stand in `tag` anywhere in a GPU's XML. */
function figuresIn(xml: string, tag: string): number[] {
  const pattern = new RegExp(`<${tag}(?:\\s[^<>]*)?>\\s*(\\d+(?:\\.\\d+)?)(?: \\S+)?\\s*</${tag}\\s*>`, "g");
  return [...xml.matchAll(pattern)].map((found) => Number(found[1]));
}

const FIGURES: readonly [keyof GpuReading, readonly string[]][] = [
  ["memoryTotalMib", ["total"]],
  ["memoryUsedMib", ["used"]],
  ["memoryFreeMib", ["free"]],
  ["utilizationPercent", ["gpu_util"]],
  ["temperatureC", ["gpu_temp"]],
  ["powerDrawW", ["power_draw", "instant_power_draw"]],
  ["powerLimitW", ["power_limit", "current_power_limit"]],
  ["minorNumber", ["minor_number"]],
];

/** What is wrong with a reading of this text; `null`: nothing. */
function lie(text: string, reading: HostReading): string | null {
  const slices = bareDocument(text)
    .split(/<gpu(?=[\s>])/)
    .slice(1);
  if (reading.gpus.length !== slices.length) return `${reading.gpus.length} GPUs of ${slices.length}`;
  if (new Set(reading.gpus.map((gpu) => gpu.uuid)).size !== slices.length) return "two GPUs of one name";
  for (const [index, gpu] of reading.gpus.entries()) {
    const xml = slices[index] ?? "";
    for (const [field, tags] of FIGURES) {
      const value = gpu[field];
      if (value === null) continue;
      if (!tags.some((tag) => figuresIn(xml, tag).includes(value as number))) {
        return `GPU ${index}: ${field} is ${String(value)}, which stands nowhere`;
      }
    }
    const processes = (xml.match(/<process_info(?=[\s>])/g) ?? []).length;
    if (gpu.processes.length !== processes) return `GPU ${index}: ${gpu.processes.length} processes of ${processes}`;
  }
  return null;
}

describe("damaged documents", () => {
  test(`${VARIANTS} variants give a typed error or the truth`, { timeout: 60_000 + VARIANTS * 10 }, () => {
    let read = 0;
    for (let seed = FIRST_SEED; seed < FIRST_SEED + VARIANTS; seed++) {
      const random = seeded(seed);
      let text = documents[random(documents.length)]?.text ?? "";
      for (let times = 1 + random(3); times > 0; times--) {
        text = DAMAGES[random(DAMAGES.length)]?.(text, random) ?? text;
      }
      const reading = readingOf(random(2) === 0 ? text : Buffer.from(text, "utf8"));
      if (reading === null) continue;
      read++;
      const problem = lie(text, reading);
      if (problem !== null) expect.fail(`seed ${seed}: ${problem}`);
    }
    // Most damage strikes words that do not matter; if nothing were read, nothing would have been tested.
    expect(read).toBeGreaterThan(VARIANTS / 10);
    expect(read).toBeLessThan(VARIANTS * 0.9);
  });

  test("bytes that are nothing are never more than an error", () => {
    for (let seed = 1; seed <= 200; seed++) {
      const random = seeded(seed);
      const bytes = Uint8Array.from({ length: random(2000) }, () => random(256));
      expect(readingOf(bytes)).toBeNull();
    }
  });

  test("the check itself finds a lost GPU, an invented zero and a lost process", () => {
    const text = smiDocument({ gpus: [{ memoryUsedMib: 7, processes: [{ pid: 1 }] }, {}] });
    const reading = readingOf(text);
    const [first, second] = reading?.gpus ?? [];
    if (reading === null || first === undefined || second === undefined) throw new Error("not read");
    expect(lie(text, reading)).toBeNull();
    expect(lie(text, { ...reading, gpus: [first] })).toBe("1 GPUs of 2");
    expect(lie(text, { ...reading, gpus: [{ ...first, memoryUsedMib: 8 }, second] })).toMatch(/memoryUsedMib is 8/);
    expect(lie(text, { ...reading, gpus: [{ ...first, processes: [] }, second] })).toMatch(/0 processes of 1/);
  });
});
