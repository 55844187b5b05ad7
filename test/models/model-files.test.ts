import { mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeEach, describe, expect, onTestFinished, test } from "vitest";
import type { Architecture } from "../../src/core/analyzer/architecture.ts";
import { isReadable, readConfig } from "../../src/core/analyzer/read-config.ts";
import { modelFiles } from "../../src/models/model-files.ts";
import { ManualClock } from "../../src/platform/clock.ts";
import fc from "../fc.ts";

const CONFIG = {
  model_type: "llama",
  hidden_size: 8,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  intermediate_size: 16,
  vocab_size: 10,
};

let base = "";
let allowed = "";

beforeEach(() => {
  base = realpathSync(mkdtempSync(join(tmpdir(), "models-")));
  allowed = join(base, "allowed");
  mkdirSync(allowed);
  onTestFinished(() => rmSync(base, { recursive: true }));
});

const read = (path: string, dirs: readonly string[] = [allowed]) =>
  modelFiles(() => dirs, new ManualClock()).read(path);

/** A folder with a configuration and safetensors files of so many bytes of tensors. */
function model(name: string, tensors: readonly number[] = [100], under = allowed): string {
  const path = join(under, name);
  mkdirSync(path);
  writeFileSync(join(path, "config.json"), JSON.stringify(CONFIG));
  for (const [index, bytes] of tensors.entries()) {
    writeFileSync(join(path, `model-${index}.safetensors`), safetensors(bytes));
  }
  return path;
}

function safetensors(bytes: number): Buffer {
  const header = Buffer.from('{"w":{"dtype":"BF16","shape":[1],"data_offsets":[0,2]}}');
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(header.length));
  return Buffer.concat([length, header, Buffer.alloc(bytes)]);
}

const u32 = (value: number) => Buffer.from(new Uint32Array([value]).buffer);
const u64 = (value: number) => Buffer.from(new BigUint64Array([BigInt(value)]).buffer);
const text = (value: string) => Buffer.concat([u64(value.length), Buffer.from(value)]);

/** A GGUF file of version 3 with numbers, a name, a vocabulary and two tensors. */
function gguf(bytes = 1_000, arch = "llama", more: Readonly<Record<string, number>> = {}): Buffer {
  const numbers = { embedding_length: 8, block_count: 2, feed_forward_length: 16 };
  const heads = { "attention.head_count": 4, "attention.head_count_kv": 2 };
  const pairs = Object.entries({ ...numbers, ...heads, ...more }).map(([key, value]) =>
    Buffer.concat([text(`${arch}.${key}`), u32(4), u32(value)]),
  );
  const words = Array.from({ length: 10 }, (_, index) => text(`word ${index}`));
  const head = [
    ...[u32(0x46554747), u32(3), u64(2), u64(pairs.length + 3)],
    ...[text("general.architecture"), u32(8), text(arch), ...pairs],
    ...[text("llama.rope.freq_base"), u32(6), Buffer.alloc(4)],
    ...[text("tokenizer.ggml.tokens"), u32(9), u32(8), u64(words.length), ...words],
    ...["token_embd.weight", "output.weight"].flatMap((name) => [text(name), u32(1), u64(8), u32(0), u64(0)]),
  ];
  return Buffer.concat([...head, Buffer.alloc(bytes)]);
}

describe("a model's files", () => {
  test("in a folder tell its architecture and what all its tensors take", async () => {
    const architecture = readConfig(CONFIG);
    expect(isReadable(architecture)).toBe(true);
    expect(await read(model("tiny", [100, 50]))).toEqual({ name: "tiny", architecture, weightBytes: 150 });
  });

  test("without weights tell the architecture, without a readable configuration the weights", async () => {
    expect(await read(model("bare", []))).toMatchObject({ architecture: { layers: 2 }, weightBytes: null });
    const odd = model("odd");
    writeFileSync(join(odd, "config.json"), '{"model_type": "novel"}');
    expect(await read(odd)).toEqual({ name: "odd", architecture: null, weightBytes: 100 });
  });

  test("of GGUF tell both from their metadata, alone, in a folder, and split", async () => {
    writeFileSync(join(allowed, "tiny.gguf"), gguf());
    const alone = await read(join(allowed, "tiny.gguf"));
    expect(alone).toEqual({
      name: "tiny.gguf",
      architecture: readConfig({ ...CONFIG, tie_word_embeddings: false }),
      weightBytes: 1_000,
    });
    expect(await read(allowed)).toEqual(alone);
    for (const part of [1, 2]) writeFileSync(join(allowed, `big-0000${part}-of-00002.gguf`), gguf(500));
    expect(await read(join(allowed, "big-00001-of-00002.gguf"))).toMatchObject({ weightBytes: 1_000 });
  });

  test("of GGUF tell which layers keep a state instead of tokens", async () => {
    const ssm = { "ssm.time_step_rank": 4, "ssm.inner_size": 12, "ssm.group_count": 2, "ssm.state_size": 5 };
    const delta = { ...ssm, "ssm.conv_kernel": 4, full_attention_interval: 2 };
    writeFileSync(join(allowed, "hybrid.gguf"), gguf(1_000, "qwen35", delta));
    const { architecture } = (await read(join(allowed, "hybrid.gguf"))) as { readonly architecture: Architecture };
    // 4 heads of 5 x 3, and 3 inputs of 2 x 2 x 5 + 12 channels.
    expect(architecture.cache).toMatchObject([
      { layers: 1, heads: 4, valuesPerHead: (4 * 15 + 3 * 32) / 4, fixed: 1 },
      { layers: 1, heads: 2, valuesPerHead: 4, fixed: null },
    ]);
  });

  test("are read again after a while only", async () => {
    const clock = new ManualClock();
    const files = modelFiles(() => [allowed], clock);
    const path = model("tiny");
    expect(await files.read(path)).toMatchObject({ weightBytes: 100 });
    writeFileSync(join(path, "model-0.safetensors"), safetensors(7));
    expect(await files.read(path)).toMatchObject({ weightBytes: 100 });
    clock.advance(60_000);
    expect(await files.read(path)).toMatchObject({ weightBytes: 7 });
  });
});

const NOT_ALLOWED = { problem: "it is not a model under analyzer.model_dirs" };

describe("what is not under an allowed folder", () => {
  test("is refused in the same words whether it is there or not", async () => {
    const outside = model("secret", [100], base);
    for (const path of [outside, join(base, "nowhere"), `${allowed}/../secret`, "/etc/passwd", "secret", ""]) {
      expect(await read(path), path).toEqual(NOT_ALLOWED);
    }
    expect(await read(outside, [])).toEqual(NOT_ALLOWED);
    expect(await read(`${allowed}-more/x`)).toEqual(NOT_ALLOWED);
  });

  test("is not reached by a link: not the folder, not a file in it", async () => {
    symlinkSync(model("secret", [100], base), join(allowed, "link"));
    expect(await read(join(allowed, "link"))).toEqual(NOT_ALLOWED);
    const inside = model("half", []);
    symlinkSync(join(base, "secret", "model-0.safetensors"), join(inside, "model-0.safetensors"));
    expect(await read(inside)).toEqual(NOT_ALLOWED);
    rmSync(join(inside, "model-0.safetensors"));
    symlinkSync("model-1.safetensors", join(inside, "model-0.safetensors"));
    writeFileSync(join(inside, "model-1.safetensors"), safetensors(9));
    expect(await read(inside)).toMatchObject({ weightBytes: 18 });
  });

  test("may be an allowed folder that is a link itself", async () => {
    symlinkSync(allowed, join(base, "alias"));
    model("tiny");
    expect(await read(join(base, "alias", "tiny"), [join(base, "alias")])).toMatchObject({ weightBytes: 100 });
  });
});

test("whatever a file holds, it is read or refused in words", async () => {
  const whole = gguf(10);
  const file = join(allowed, "any.gguf");
  const cut = fc.nat(whole.length - 11).map((length) => whole.subarray(0, length));
  const changed = fc.tuple(fc.nat(whole.length - 11), fc.nat(255)).map(([at, byte]) => {
    const copy = Buffer.from(whole);
    copy[at] = byte;
    return copy;
  });
  await fc.assert(
    fc.asyncProperty(fc.oneof(cut, changed, fc.uint8Array({ maxLength: 200 })), async (bytes) => {
      writeFileSync(file, bytes);
      const answer = await read(file);
      if ("problem" in answer) expect(answer.problem).toMatch(/^it \w/);
      else expect(answer.weightBytes).toBeGreaterThanOrEqual(0);
    }),
    { numRuns: 300 },
  );
  const path = model("broken");
  for (const bytes of ["", "x".repeat(20), Buffer.alloc(100, 255)]) {
    writeFileSync(join(path, "model-0.safetensors"), bytes);
    expect(await read(path)).toMatchObject({ problem: expect.stringMatching(/^it /) });
  }
});
