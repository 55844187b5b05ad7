import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { idsIn, MAX_LISTING_BYTES, parseListing } from "../../../src/monitor/nvidia-smi/listing.ts";
import fc from "../../fc.ts";

const FOLDER = join(import.meta.dirname, "../../../../shared/fixtures/nvidia-smi/text");
const hasTexts = existsSync(FOLDER);
const texts = hasTexts ? readdirSync(FOLDER).filter((file) => file.endsWith("-L.txt")) : [];
const textOf = (file: string) => readFileSync(join(FOLDER, file), "utf8");

const GPU = "GPU-00000000-0000-0000-0000-000000000000";
const uuid = (n: number) => `MIG-0000000${n}-0000-0000-0000-00000000000${n}`;
const listed = (...profiles: string[]) => profiles.map((profile, index) => ({ index, uuid: uuid(index), profile }));

/** What an eye reads in each of the texts. */
const EXPECTED: { readonly [file: string]: ReturnType<typeof listed> } = {
  "h100-590-capabilities-L.txt": [],
  "h100-mig-590-capabilities-L.txt": listed("3g.40gb", "2g.20gb", "1g.10gb", "1g.10gb"),
  "h200-mig-590-capabilities-L.txt": listed("1c.3g.71gb", "2c.3g.71gb", "2g.35gb", "1g.18gb", "1g.18gb"),
};

describe.skipIf(!hasTexts)("captured output of nvidia-smi -L", () => {
  test("every text of the kind is known here", () => {
    expect(texts.sort()).toEqual(Object.keys(EXPECTED).sort());
  });

  test.each(texts)("%s is read", (file) => {
    expect(parseListing(textOf(file))).toEqual([{ index: 0, uuid: GPU, instances: EXPECTED[file] }]);
  });

  test.each(texts)("%s cut anywhere never gives an instance that is not in it", (file) => {
    const text = textOf(file);
    const whole = parseListing(text).flatMap(({ instances }) => instances);
    for (let length = 0; length <= text.length; length++) {
      for (const instance of parseListing(text.slice(0, length)).flatMap(({ instances }) => instances)) {
        expect(whole).toContainEqual(instance);
      }
    }
  });
});

test.runIf(!hasTexts)("without the captures beside the repository only self-made listings are read", () => {
  expect(texts).toEqual([]);
});

test("several GPUs, some of them cut, as drivers 450 and 460 name the instances", () => {
  const listing = parseListing(
    [
      "GPU 0: A100-SXM4-40GB (UUID: GPU-e86cb44c-6756-fd30-cd4a-1e6da3caf9b0)",
      "  MIG 3g.20gb Device 0: (UUID: MIG-GPU-e86cb44c-6756-fd30-cd4a-1e6da3caf9b0/1/0)",
      "  MIG 1g.5gb+me Device 1: (UUID: MIG-GPU-e86cb44c-6756-fd30-cd4a-1e6da3caf9b0/13/0)",
      "GPU 1: Tesla (weird) T4 (UUID: GPU-b)",
      "WARNING: infoROM is corrupted at gpu 0008:00:00.0",
      "",
    ].join("\r\n"),
  );
  expect(listing).toEqual([
    {
      index: 0,
      uuid: "GPU-e86cb44c-6756-fd30-cd4a-1e6da3caf9b0",
      instances: [
        { index: 0, uuid: "MIG-GPU-e86cb44c-6756-fd30-cd4a-1e6da3caf9b0/1/0", profile: "3g.20gb" },
        { index: 1, uuid: "MIG-GPU-e86cb44c-6756-fd30-cd4a-1e6da3caf9b0/13/0", profile: "1g.5gb+me" },
      ],
    },
    { index: 1, uuid: "GPU-b", instances: [] },
  ]);
  expect(idsIn("MIG-GPU-e86cb44c-6756-fd30-cd4a-1e6da3caf9b0/13/1")).toEqual({
    gpuInstanceId: 13,
    computeInstanceId: 1,
  });
  expect(idsIn(uuid(1))).toBeNull();
});

test("an instance before any GPU belongs to none, and words in place of a list list nothing", () => {
  expect(parseListing("  MIG 1g.10gb     Device  0: (UUID: MIG-a)\n")).toEqual([]);
  expect(parseListing("No devices were found\n")).toEqual([]);
  expect(parseListing(Buffer.from([0xff, 0x00, 0x47]))).toEqual([]);
});

test("whatever is printed is read, and never throws", () => {
  const line = fc.oneof(
    fc.string({ unit: "binary", maxLength: 80 }),
    fc.constantFrom("GPU 0: x (UUID: GPU-a)", "  MIG 1g.10gb  Device 0: (UUID: MIG-a)", "GPU 1: (UUID: (UUID: "),
  );
  fc.assert(
    fc.property(fc.array(line, { maxLength: 50 }), (lines) => {
      for (const { uuid: name, instances } of parseListing(lines.join("\n"))) {
        expect(name).not.toMatch(/[()\s]/);
        for (const instance of instances) expect(instance.uuid).toMatch(/^MIG-[^()\s]+$/);
      }
    }),
    { numRuns: 500 },
  );
});

test.each(["GPU 0: ", "  MIG 1g.10gb Device 0: ", ""])(
  "a line without end that begins with %j is read in time",
  (start) => {
    const began = performance.now();
    for (const word of ["(UUID: ", " ", "a", "(UUID: MIG-a"]) {
      expect(parseListing(start + word.repeat(MAX_LISTING_BYTES / word.length))).toEqual([]);
    }
    expect(performance.now() - began).toBeLessThan(2_000);
  },
);
