import { spawnSync } from "node:child_process";
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeEach, expect, onTestFinished, test, vi } from "vitest";
import { measure, POINTS, type Point, predictedMib, rowOf } from "../../bench/memory/points.ts";

const hasPython = spawnSync("python3", ["--version"]).status === 0;

let base = "";

beforeEach(() => {
  base = mkdtempSync(join(tmpdir(), "points-"));
  onTestFinished(() => {
    rmSync(base, { recursive: true });
    vi.unstubAllEnvs();
  });
});

function write(path: string, lines: readonly string[]): void {
  writeFileSync(join(base, path), `${lines.join("\n")}\n`);
}

test("there are eight points or more over three architectures, and the model has a figure for each", () => {
  expect(POINTS.length).toBeGreaterThanOrEqual(8);
  expect(new Set(POINTS.map(({ config }) => config.model_type)).size).toBe(3);
  for (const point of POINTS) expect(predictedMib(point)).toBeGreaterThan(1_000);
});

test.skipIf(!hasPython)(
  "a point is measured by what nvidia-smi shows beyond what it showed before (needs python3)",
  () => {
    vi.stubEnv("PATH", `${base}:${process.env.PATH}`);
    vi.stubEnv("PYTHONPATH", base);
    vi.stubEnv("CUDA_VISIBLE_DEVICES", "GPU-7,GPU-8");
    write("nvidia-smi", [
      "#!/bin/sh",
      `echo "$*" >> ${base}/asked`,
      `if [ -e ${base}/loaded ]; then echo 3500; else echo 300; fi`,
    ]);
    chmodSync(join(base, "nvidia-smi"), 0o755);
    mkdirSync(join(base, "torch"));
    write("torch/__init__.py", [
      ...["from contextlib import nullcontext", "bfloat16 = 'bf16'"],
      ...["def device(name): return nullcontext()", "def inference_mode(): return nullcontext()"],
      ...["def randint(low, high, shape, device): return shape", "class cuda:"],
      ...["  is_available = staticmethod(lambda: True)", "  synchronize = staticmethod(lambda: None)"],
      "  max_memory_reserved = staticmethod(lambda: 3000 * 2**20)",
    ]);
    write("transformers.py", [
      ...["class AutoConfig:", "  @staticmethod", "  def for_model(kind, **fields): return (kind, fields)"],
      ...["class Model:", "  def generate(self, prompt, **settings):"],
      `    open(${JSON.stringify(join(base, "loaded"))}, 'w').write(repr((self.config, prompt, settings)))`,
      ...["class AutoModelForCausalLM:", "  @staticmethod", "  def from_config(config, dtype):"],
      ...["    model = Model(); model.config = (config, dtype); return model"],
    ]);
    const point = POINTS[0] as Point;
    const measured = measure(point, "python3");
    expect(measured).toEqual({ peak_mib: 3_200, torch_mib: 3_000 });
    expect(rowOf(point, measured)).toMatch(
      /^\| Llama 1\.2B \| serve, 1 x 2048 tokens \| \d+ \| 3200 \| 3000 \| [+-]\d+\.\d\d % \|$/,
    );
  },
);

test.skipIf(!hasPython)("a Python without PyTorch is said to be one (needs python3)", () => {
  vi.stubEnv("PYTHONPATH", base);
  write("torch.py", ["raise ImportError('no torch here')"]);
  expect(() => measure(POINTS[0] as Point, "python3")).toThrow("PyTorch and transformers are needed: no torch here");
});
