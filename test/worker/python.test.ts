/** The executors in Python, with a Python that has what each needs; those without are skipped by name. */
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";

const FOLDER = new URL("../../executors/python", import.meta.url).pathname;
/** One with torch and transformers may be named: CI's machine has neither. */
const PYTHON = process.env.PPO_PYTHON ?? "python3";
/** On a machine that has much else to do torch alone takes minutes to load. */
const LONG_MS = 900_000;
const dir = mkdtempSync(join(tmpdir(), "gpuo-python-"));
afterAll(() => rmSync(dir, { recursive: true, force: true }));

const has = (code: string) => spawnSync(PYTHON, ["-c", code], { timeout: LONG_MS }).status === 0;
const hasPython = has("import json");
const hasTorch = hasPython && has("import torch, transformers, tokenizers");
const hasTrl = hasTorch && has("from trl.experimental.ppo import PPOTrainer");

function run(args: readonly string[], out: string, task: object, env: Record<string, string> = {}) {
  mkdirSync(out, { recursive: true });
  const file = join(out, "task.json");
  writeFileSync(file, JSON.stringify(task));
  const ran = spawnSync(
    PYTHON,
    args.map((arg) => (arg === "TASK" ? file : arg)),
    {
      encoding: "utf8",
      timeout: LONG_MS,
      env: { PATH: process.env.PATH, TASK_FILE: file, OUT_DIR: out, PYTHONPATH: `${FOLDER}:${dir}`, ...env },
    },
  );
  return { ...ran, result: JSON.parse(readFileSync(join(out, "responses.json"), "utf8")) };
}

describe.skipIf(!hasPython)("a custom executor as MLOC has them (needs python3)", { timeout: LONG_MS }, () => {
  writeFileSync(
    join(dir, "custom.py"),
    `from pathlib import Path
from worker.executors.base_executor import Executor, ExecutionError

class MyCustomExecutor(Executor):
    name = "my-executor"

    def run(self, task: dict, out_dir: Path) -> dict:
        if task["spec"].get("fails"):
            raise ExecutionError("no such model")
        result = {"ok": True, "message": "Task completed"}
        self.save_json(out_dir / "responses.json", result)
        return result
`,
  );
  const args = [join(FOLDER, "run_executor.py"), "custom", "MyCustomExecutor"];

  test("its document's example runs unchanged", () => {
    const { status, result } = run(args, join(dir, "good"), { spec: {} });
    expect([status, result]).toEqual([0, { ok: true, message: "Task completed" }]);
  });

  test("what it refuses is in the result, and the run has failed", () => {
    const { status, result, stderr } = run(args, join(dir, "bad"), { spec: { fails: true } });
    expect([status, result, stderr]).toEqual([1, { ok: false, error: "no such model" }, "no such model\n"]);
  });
});

/** A GPT-2 of eight letters with random weights. */
function toyModel(name: string): string {
  const model = join(dir, name);
  writeFileSync(
    join(dir, "toy.py"),
    `import sys, torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast
torch.manual_seed(0)
letters = ["<eos>"] + list("abcdefgh")
tokens = Tokenizer(models.WordLevel({c: i for i, c in enumerate(letters)}, unk_token="<eos>"))
tokens.pre_tokenizer = pre_tokenizers.Split("", "isolated")
tokens.decoder = decoders.Fuse()
PreTrainedTokenizerFast(tokenizer_object=tokens, eos_token="<eos>", pad_token="<eos>").save_pretrained(sys.argv[1])
shape = GPT2Config(vocab_size=9, n_positions=64, n_embd=32, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0)
GPT2LMHeadModel(shape).save_pretrained(sys.argv[1])
`,
  );
  expect(spawnSync(PYTHON, [join(dir, "toy.py"), model], { timeout: LONG_MS }).status).toBe(0);
  return model;
}

describe.skipIf(!hasPython)("the training loop (needs python3)", { timeout: LONG_MS }, () => {
  const ppo = join(FOLDER, "ppo.py");
  const args = (out: string) => [ppo, "--task", "TASK", "--out", out];

  test("says in a line what is wrong with a task", () => {
    for (const [training, words] of [
      [{ stepz: 1 }, "stepz"],
      [{ backend: "other" }, "expected own or trl"],
      [{ batch_size: 3, gradient_accumulation_steps: 2 }, "must divide"],
    ] as const) {
      const { status, result } = run(args(join(dir, words)), join(dir, words), { spec: { training } });
      expect(status).toBe(1);
      expect(result).toMatchObject({ ok: false, error: expect.stringContaining(words) });
    }
  });

  test.skipIf(hasTrl)("on TRL says what it needs where that is not installed", () => {
    const spec = { model: { source: { identifier: "m" } }, data: { prompts: ["a"] }, training: { backend: "trl" } };
    const { status, result } = run(args(join(dir, "no-trl")), join(dir, "no-trl"), { spec });
    expect([status, result.error]).toEqual([1, expect.stringMatching(/^backend: trl needs TRL/)]);
  });

  test.skipIf(!hasTrl)(
    "on TRL takes the task's settings and says which have no meaning there (needs TRL up to 1.9: npm run test:trl)",
    () => {
      const model = toyModel("trl-model");
      const out = join(dir, "trl");
      const training = {
        backend: "trl",
        learning_rate: 0.001,
        batch_size: 4,
        mini_batch_size: 2,
        steps: 3,
        ppo_epochs: 2,
        target_kl: 0.1,
      };
      const { status, result, stderr } = run(args(out), out, {
        spec: {
          model: { source: { identifier: model } },
          reward_model: { identifier: model, type: "score" },
          data: { prompts: ["ab", "cd", "ef", "gh"] },
          training,
          generation: { max_new_tokens: 8, temperature: 1 },
        },
      });
      expect([status, stderr.split("\n").filter((line) => /^\w*Error/.test(line))]).toEqual([0, []]);
      expect(result).toMatchObject({ ok: true, backend: expect.stringMatching(/^trl 1\./), training_config: training });
      expect(result.trl_config).toMatchObject({
        total_episodes: 12,
        num_mini_batches: 2,
        num_ppo_epochs: 2,
        response_length: 8,
      });
      expect(result.training_logs).toHaveLength(3);
      for (const { mean_reward } of result.training_logs) expect(mean_reward).toBeTypeOf("number");
      expect(result.warnings).toEqual(["training.target_kl is ignored: TRL has nothing like it"]);
      expect(existsSync(join(out, "final_model", "config.json"))).toBe(true);
    },
  );

  test.skipIf(!hasTorch)(
    "teaches a toy model with random weights what it is rewarded for (needs PPO_PYTHON with torch and transformers)",
    () => {
      const model = toyModel("model");
      const out = join(dir, "ppo");
      const training = { learning_rate: 0.002, batch_size: 16, mini_batch_size: 16, steps: 20, ppo_epochs: 4, seed: 1 };
      const { status, result } = run(args(out), out, {
        spec: {
          model: { source: { identifier: model } },
          reward_model: { type: "length" },
          data: { prompts: ["ab", "cd", "ef", "gh"] },
          training,
          generation: { max_new_tokens: 16, temperature: 1 },
        },
      });
      expect(status).toBe(0);
      expect(result).toMatchObject({ ok: true, executor: "ppo", training_config: training });
      const rewards = result.training_logs.map(({ mean_reward }: { mean_reward: number }) => mean_reward);
      const mean = (part: number[]) => part.reduce((sum, reward) => sum + reward, 0) / part.length;
      expect(mean(rewards.slice(5, 14))).toBeGreaterThan(rewards[0] * 1.3);
    },
  );
});
