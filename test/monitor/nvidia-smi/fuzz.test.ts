/**
 * Damaged and deceitful output gives a typed error or the truth, soon:
 *
 *  1. as many GPUs as a reader without a parser counts in the document, and as many processes on each;
 *  2. no figure, and so no zero, that does not stand there;
 *  3. a GPU whose element is whole says what it said before the damage to its surroundings;
 *  4. in {@link MAX_MS}.
 */
import { readFileSync } from "node:fs";
import { afterAll, describe, expect, test } from "vitest";
import type { HostReading } from "../../../src/core/model/reading.ts";
import { parseNvidiaSmi } from "../../../src/monitor/nvidia-smi/parse.ts";
import { smiDocument } from "../../fixtures/nvidia-smi-document.ts";
import { captures } from "./captures.ts";
import { timed } from "./cpu-time.ts";
import { DAMAGES, damageBytes, type Random, seeded } from "./damages.ts";
import { gpuElements, lie, ownWords } from "./truth.ts";

/** Damaged variants that are tried. Raise it for a longer search; the seed of a failure is in its message. */
const VARIANTS = Number(process.env.FUZZ_VARIANTS ?? 100_000);
const FIRST_SEED = Number(process.env.FUZZ_SEED ?? 1);
/** Tests, so that a report comes now and then. */
const PARTS = 10;
/** For one variant, of processor time. */
const MAX_MS = 50;
/** A variant that took longer is tried again: a collection of garbage may have fallen into it. */
const SUSPECT_MS = 20;
const TRIES = 3;
/** One variant of so many is of a whole capture; the others are of short documents, to try more of them. */
const WHOLE_EACH = 100;

const SELF_MADE = [
  smiDocument({ gpus: [{}] }),
  smiDocument({ gpus: [{ uuid: null }, { memoryUsedMib: 1024, utilizationPercent: 93 }, { temperatureC: "N/A" }] }),
  smiDocument({
    gpus: [
      { processes: [{ pid: 12, name: "a </gpu> & <b>", usedMemoryMib: 512 }], memoryUsedMib: "GPU is lost" },
      { migMode: "Enabled", migDevices: [{ index: 0, gpuInstanceId: 1, computeInstanceId: 0 }] },
    ],
  }),
  smiDocument({ gpus: [{ processes: [{ pid: 3 }, { pid: 4, usedMemoryMib: "N/A", name: null }] }], attachedGpus: 4 }),
  smiDocument({ gpus: [{ name: "first" }] }) + smiDocument({ gpus: [{ name: "second" }, {}] }),
];

const CLOCKS = /<supported_clocks>[\s\S]*?<\/supported_clocks>/g;
/** Longest of the documents that most variants are of. */
const SHORT = 8_000;

const whole = captures.map(({ path }) => readFileSync(path, "utf8"));
const short = [...SELF_MADE, ...whole.map((text) => text.replaceAll(CLOCKS, "")).filter((text) => text.length < SHORT)];

interface Variant {
  readonly output: string | Buffer;
  /** The output, as text. */
  readonly text: string;
}

function variantOf(seed: number): Variant {
  const random = seeded(seed);
  const pick = (from: readonly string[]) => from[random(from.length)] as string;
  let text = pick(whole.length > 0 && random(WHOLE_EACH) === 0 ? whole : short);
  for (let times = 1 + random(3); times > 0; times--) {
    text = (DAMAGES[random(DAMAGES.length)] as (typeof DAMAGES)[number])(text, random, pick(short));
  }
  return encoded(text, random);
}

/** As text, as bytes, or as bytes that are damaged too. */
function encoded(text: string, random: Random): Variant {
  const form = random(4);
  if (form < 2 || text === "") return { output: text, text };
  const bytes = Buffer.from(text, "utf8");
  const output = form === 2 ? bytes : damageBytes(bytes, random);
  return { output, text: new TextDecoder().decode(output) };
}

/** What each whole element of a GPU says. */
const known = new Map<string, string>();
for (const text of [...short, ...whole]) {
  const result = parseNvidiaSmi(text);
  const gpus = result.ok ? result.document.reading.gpus : [];
  for (const [index, element] of gpuElements(text).entries()) {
    const gpu = gpus[index];
    if (gpu !== undefined && gpus.length === gpuElements(text).length) known.set(element, ownWords(gpu));
  }
}

/** The whole elements that say something else than before. */
function changed(text: string, reading: HostReading): number | null {
  const elements = gpuElements(text);
  if (elements.length !== reading.gpus.length) return null;
  const at = reading.gpus.findIndex((gpu, index) => {
    const before = known.get(elements[index] as string);
    return before !== undefined && before !== ownWords(gpu);
  });
  return at < 0 ? null : at;
}

let worst = { cpuMs: 0, seed: 0 };

/** @returns the reading, and the least time of some tries. */
function read(seed: number, output: string | Buffer): { readonly cpuMs: number; readonly reading: HostReading | null } {
  let { cpuMs, result } = timed(() => parseNvidiaSmi(output));
  for (let tries = 1; tries < TRIES && cpuMs > SUSPECT_MS; tries++) {
    cpuMs = Math.min(cpuMs, timed(() => parseNvidiaSmi(output)).cpuMs);
  }
  if (cpuMs > worst.cpuMs) worst = { cpuMs, seed };
  if (!result.ok && result.error.message === "") throw new Error(`seed ${seed}: an error that says nothing`);
  return { cpuMs, reading: result.ok ? result.document.reading : null };
}

describe("damaged documents", () => {
  const perPart = Math.ceil(VARIANTS / PARTS);
  const parts = Array.from({ length: PARTS }, (_, part) => FIRST_SEED + part * perPart);

  test.each(parts)(
    `${perPart} variants from seed %i on give a typed error or the truth, each within ${MAX_MS} ms`,
    { timeout: 60_000 + perPart * 10 },
    (first) => {
      let readable = 0;
      for (let seed = first; seed < first + perPart; seed++) {
        const { output, text } = variantOf(seed);
        const { cpuMs, reading } = read(seed, output);
        if (cpuMs >= MAX_MS) expect.fail(`seed ${seed}: ${cpuMs.toFixed(1)} ms for ${output.length}`);
        if (reading === null) continue;
        readable++;
        const problem = lie(text, reading);
        if (problem !== null) expect.fail(`seed ${seed}: ${problem}`);
        const other = changed(text, reading);
        if (other !== null) expect.fail(`seed ${seed}: the whole element of GPU ${other} says something else`);
      }
      // Most damage strikes words that do not matter; if nothing were read, nothing would have been tested.
      expect(readable).toBeGreaterThan(perPart / 10);
      expect(readable).toBeLessThan(perPart * 0.9);
    },
  );

  afterAll(() => console.log(`the slowest took ${worst.cpuMs.toFixed(1)} ms: seed ${worst.seed}`));

  test("bytes that are nothing are never more than an error", () => {
    for (let seed = 1; seed <= 200; seed++) {
      const random = seeded(seed);
      const bytes = Uint8Array.from({ length: random(2000) }, () => random(256));
      expect(parseNvidiaSmi(bytes).ok).toBe(false);
    }
  });

  test("the check itself finds a lost GPU, an invented figure, an invented zero and a lost process", () => {
    const text = smiDocument({ gpus: [{ memoryUsedMib: 7, eccVolatile: "N/A", processes: [{ pid: 1 }] }, {}] });
    const result = parseNvidiaSmi(text);
    const reading = result.ok ? result.document.reading : null;
    const [first, second] = reading?.gpus ?? [];
    if (reading === null || first === undefined || second === undefined) throw new Error("not read");
    expect(lie(text, reading)).toBeNull();
    expect(changed(text, reading)).toBeNull();
    expect(lie(text, { ...reading, gpus: [first] })).toBe("1 GPUs of 2");
    expect(lie(text, { ...reading, gpus: [{ ...first, memoryUsedMib: 8 }, second] })).toMatch(/memoryUsedMib is 8/);
    const healthy = { ...first, health: { ...first.health, retiredPages: 0 } };
    expect(lie(text, { ...reading, gpus: [healthy, second] })).toMatch(/retiredPages is a zero/);
    expect(lie(text, { ...reading, gpus: [{ ...first, processes: [] }, second] })).toMatch(/0 processes of 1/);
    known.set(gpuElements(text)[1] as string, ownWords(second));
    expect(changed(text, { ...reading, gpus: [first, { ...second, serial: "7" }] })).toBe(1);
  });
});
