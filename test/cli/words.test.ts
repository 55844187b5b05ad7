import { describe, expect, test } from "vitest";
import { gpuNamed } from "../../src/cli/names.ts";
import { type Column, table } from "../../src/cli/table.ts";
import type { Terminal } from "../../src/cli/terminal.ts";
import { etaText, spanText } from "../../src/cli/words.ts";
import { parseMemoryMib } from "../../src/client/memory.ts";
import type { Gpu } from "../../src/client/types.ts";

describe("memory", () => {
  test.each([
    ["20G", 20_480],
    ["20GiB", 20_480],
    ["20g", 20_480],
    ["1.5G", 1_536],
    ["20GB", 19_074],
    ["512", 512],
    ["512M", 512],
    ["1T", 1_048_576],
  ])("%s is %i MiB", (text, mib) => {
    expect(parseMemoryMib(text)).toBe(mib);
  });

  test.each(["", "G", "-1G", "20X", "0", "1e3", "20 G B"])("%j is none", (text) => {
    expect(parseMemoryMib(text)).toBeNull();
  });
});

describe("times", () => {
  test.each([
    [0, "0s"],
    [99_000, "99s"],
    [100_000, "2m"],
    [5_940_000, "99m"],
    [11_100_000, "3h05"],
    [187_200_000, "2d4h"],
  ])("%i ms are %s", (ms, text) => {
    expect(spanText(ms)).toBe(text);
  });

  test("an estimate is a range in one unit, and one figure when both ends are the same", () => {
    const at = (minutes: number) => new Date(minutes * 60_000).toISOString();
    expect(etaText({ earliest: at(12), latest: at(25) }, 0)).toBe("about 12 to 25 min");
    expect(etaText({ earliest: at(25), latest: at(25) }, 0)).toBe("about 25 min");
    expect(etaText({ earliest: at(-3), latest: at(150) }, 0)).toBe("about 0 to 2.5 h");
    expect(etaText(null, 0)).toBeNull();
  });
});

describe("a table", () => {
  const columns: Column<{ id: string; why: string }>[] = [
    { head: "ID", cell: ({ id }) => id },
    { head: "NOTE", cell: () => "some note", goes: 1 },
    { head: "WHY", cell: ({ why }) => why, shrinksTo: 10 },
  ];
  const at = (width: number) => ({ width, paint: (text: string) => text }) as unknown as Terminal;
  const rows = [{ id: "an-id-of-24-characters-x", why: "a reason that is longer than there is room for" }];

  test("is as wide as it needs where there is room", () => {
    expect(table(rows, columns, at(200))[1]).toBe(`${rows[0]?.id}  some note  ${rows[0]?.why}`);
  });

  test.each([100, 60, 40])("fits %i columns, and never cuts what must stay whole", (width) => {
    for (const line of table(rows, columns, at(width))) expect([...line].length).toBeLessThanOrEqual(width);
    expect(table(rows, columns, at(width))[1]).toContain("an-id-of-24-characters-x");
  });

  test("cuts texts before it leaves out columns", () => {
    expect(table(rows, columns, at(50))[0]).toContain("NOTE");
    expect(table(rows, columns, at(42))[0]).not.toContain("NOTE");
  });

  test("shows what others wrote without its control characters", () => {
    const hostile = [{ id: "x", why: "\x1b[31mred\u202e\n" }];
    const lines = table(hostile, columns, at(100)).join("|");
    for (const character of ["\x1b", "\u202e", "\n"]) expect(lines).not.toContain(character);
    expect(lines).toContain("\\u{1b}[31mred");
  });
});

describe("a GPU's name", () => {
  const gpu = (id: number, uuid: string) => ({ id, uuid, mig_devices: [] }) as unknown as Gpu;
  const gpus = [gpu(0, "GPU-aaaa1111"), gpu(1, "GPU-aaaa2222"), gpu(2, "GPU-0bbb3333")];

  test("is its index, its UUID, or a beginning that no other has", () => {
    expect(gpuNamed("1", gpus).uuid).toBe("GPU-aaaa2222");
    expect(gpuNamed("GPU-aaaa1111", gpus).uuid).toBe("GPU-aaaa1111");
    expect(gpuNamed("GPU-0", gpus).uuid).toBe("GPU-0bbb3333");
    expect(gpuNamed("0bb", gpus).uuid).toBe("GPU-0bbb3333");
  });

  test("that fits none or several says what there is", () => {
    expect(() => gpuNamed("9", gpus)).toThrow(
      'no GPU "9"; there are 0 (GPU-aaaa1111), 1 (GPU-aaaa2222), 2 (GPU-0bbb3333)',
    );
    // One UUID begins with 0, but what is cordoned by a number is what has that index.
    expect(() => gpuNamed("0", gpus.slice(1))).toThrow('no GPU "0"');
    expect(() => gpuNamed("aaaa", gpus)).toThrow("2 GPUs begin so");
  });
});
