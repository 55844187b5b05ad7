"""Proximal policy optimisation of a causal language model, on torch and transformers.

    ppo.py --task task.json --out DIR [--trust-remote-code]

Each step samples a response to ``batch_size`` prompts, scores it with the reward model, and improves the policy for
``ppo_epochs`` passes over mini-batches: the clipped objective of Schulman et al. (2017), with a value head, advantages by
GAE, and a penalty for leaving the model that it started from. Under torch's launcher each process takes its share of the
prompts, and gradients are averaged.
"""
import argparse
import json
import math
import os
import random
import sys
from pathlib import Path

DEFAULTS = {
    "learning_rate": 1.41e-5,
    "batch_size": 4,
    "mini_batch_size": None,
    "gradient_accumulation_steps": 1,
    "steps": 50,
    "ppo_epochs": 4,
    "target_kl": None,
    "early_stopping": False,
    "seed": 0,
    "save_model": True,
    "save_freq": None,
    "optimize_cuda_cache": False,
    "log_with": None,
    "tracker_project_name": None,
    "backend": "own",
}
CLIP = 0.2
VALUE_CLIP = 0.2
VALUE_WEIGHT = 0.1
GAMMA = 1.0
LAMBDA = 0.95
KL_WEIGHT = 0.05


class TaskError(Exception):
    """Something that whoever sent the task can change."""


def save_json(path, payload):
    draft = path.with_name(path.name + ".new")
    draft.write_text(json.dumps(payload), encoding="utf-8")
    os.replace(draft, path)


def read_task(path):
    spec = json.loads(Path(path).read_text(encoding="utf-8")).get("spec", {})
    settings = {**DEFAULTS, **{k: v for k, v in spec.get("training", {}).items() if v is not None}}
    unknown = sorted(set(settings) - set(DEFAULTS))
    if unknown:
        raise TaskError(f"training has keys that are not known: {', '.join(unknown)}")
    if settings["backend"] not in ("own", "trl"):
        raise TaskError(f"training.backend: expected own or trl, got {settings['backend']}")
    if settings["batch_size"] % settings["gradient_accumulation_steps"]:
        raise TaskError("training.gradient_accumulation_steps must divide training.batch_size")
    settings["mini_batch_size"] = settings["mini_batch_size"] or max(
        1, settings["batch_size"] // settings["gradient_accumulation_steps"]
    )
    return spec, settings


def prompts_of(spec):
    data = spec.get("data", {})
    prompts = data.get("prompts") or data.get("items") or spec.get("inference", {}).get("prompts")
    if prompts:
        return list(prompts)
    from dataset import DatasetError
    from dataset import prompts_of as prompts_in

    try:
        return prompts_in(data)
    except DatasetError as error:
        raise TaskError(str(error)) from error


class Reward:
    """Scores texts: by a classifier's positive class, or, for the type ``length``, by how long they are."""

    def __init__(self, spec, device, remote):
        model = spec.get("reward_model", {})
        self.kind = model.get("type", "sentiment")
        self.device = device
        if self.kind in ("length", "distinct"):
            return
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        if not model.get("identifier"):
            raise TaskError("reward_model.identifier is missing")
        self.tokenizer = AutoTokenizer.from_pretrained(model["identifier"], trust_remote_code=remote)
        self.model = AutoModelForSequenceClassification.from_pretrained(model["identifier"], trust_remote_code=remote)
        self.model.to(device).eval()

    def __call__(self, texts, responses):
        import torch

        if self.kind == "length":
            return torch.tensor([float(len(response)) for response in responses])
        if self.kind == "distinct":
            return torch.tensor([len(set(response)) / max(1, len(response)) for response in responses])
        with torch.no_grad():
            batch = self.tokenizer(texts, return_tensors="pt", padding=True, truncation=True).to(self.device)
            logits = self.model(**batch).logits.float()
        # One output is a score; of several, the last is the best class of a sentiment model.
        return (logits[:, 0] if logits.shape[1] == 1 else logits.log_softmax(-1)[:, -1]).cpu()


def advantages_of(rewards, values, mask):
    """GAE over the tokens of the response; both are [batch, tokens]."""
    import torch

    advantages, last = torch.zeros_like(rewards), torch.zeros(rewards.shape[0], device=rewards.device)
    for t in reversed(range(rewards.shape[1])):
        following = values[:, t + 1] * mask[:, t + 1] if t + 1 < rewards.shape[1] else 0.0
        delta = rewards[:, t] + GAMMA * following - values[:, t]
        last = (delta + GAMMA * LAMBDA * last) * mask[:, t]
        advantages[:, t] = last
    returns = advantages + values
    count = mask.sum().clamp(min=1)
    mean = (advantages * mask).sum() / count
    deviation = (((advantages - mean) ** 2 * mask).sum() / count).sqrt()
    # Where all responses are as good as each other there is nothing to learn: noise is not blown up to a signal.
    return (advantages - mean) / deviation.clamp(min=0.1) * mask, returns


class Scale:
    """Makes scores comparable, whatever their unit: by how far they are from the batch's mean, in deviations seen so far."""

    def __init__(self):
        self.count, self.mean, self.squares = 0, 0.0, 0.0

    def __call__(self, scores):
        for score in scores.tolist():
            self.count += 1
            change = score - self.mean
            self.mean += change / self.count
            self.squares += change * (score - self.mean)
        deviation = math.sqrt(self.squares / self.count) if self.count > 1 else 1.0
        baseline = scores.mean() if len(scores) > 1 else self.mean
        return ((scores - baseline) / max(deviation, 1e-6)).clamp(-5, 5)


def model_of(spec):
    name = spec.get("model", {}).get("source", {}).get("identifier") or os.environ.get("PPO_MODEL")
    if not name:
        raise TaskError("model.source.identifier is missing")
    return name


def train(task_path, out, remote):
    spec, settings = read_task(task_path)
    if settings["backend"] == "trl":
        import ppo_trl

        result = ppo_trl.train(spec, settings, prompts_of(spec), model_of(spec), out, remote, TaskError)
        if result is not None:
            save_json(out / "responses.json", result)
        return
    try:
        import torch
        from torch import nn
        from transformers import AutoModelForCausalLM, AutoTokenizer
    except ImportError as error:
        raise TaskError(f"PPO needs torch and transformers in this executor's Python: {error}") from error

    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    local = int(os.environ.get("LOCAL_RANK", 0))
    cuda = torch.cuda.is_available()
    device = torch.device(f"cuda:{local}" if cuda else "cpu")
    if world > 1:
        torch.distributed.init_process_group("nccl" if cuda else "gloo")
    random.seed(settings["seed"] + rank)
    torch.manual_seed(settings["seed"] + rank)

    model_spec = spec.get("model", {})
    name = model_of(spec)
    dtype = torch.float16 if model_spec.get("config", {}).get("fp16") and cuda else torch.float32
    tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=remote, padding_side="left")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    load = lambda: AutoModelForCausalLM.from_pretrained(name, torch_dtype=dtype, trust_remote_code=remote).to(device)  # noqa: E731
    policy, reference = load(), load().eval()
    # Without dropout, while it learns too: the ratio to what was sampled would be noise.
    policy.eval()
    # In 32 bits, whatever the model is in: a half-precision optimiser step would vanish.
    policy.float()
    head = nn.Linear(policy.config.hidden_size, 1).to(device)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    parameters = [*policy.parameters(), *head.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=settings["learning_rate"])
    reward_of, scale = Reward(spec, device, remote), Scale()
    prompts = prompts_of(spec)[rank::world] or prompts_of(spec)
    generation = spec.get("generation", {})
    length = generation.get("max_new_tokens", 64)
    temperature = max(1e-3, generation.get("temperature", 0.7))

    def score(model, sequences, attention, prompt_length, with_values):
        output = model(sequences, attention_mask=attention, output_hidden_states=with_values)
        logits = output.logits[:, prompt_length - 1 : -1].float() / temperature
        tokens = sequences[:, prompt_length:]
        logprobs = logits.log_softmax(-1).gather(-1, tokens.unsqueeze(-1)).squeeze(-1)
        if not with_values:
            return logprobs, None
        return logprobs, head(output.hidden_states[-1][:, prompt_length - 1 : -1].float()).squeeze(-1)

    logs, results = [], []
    tracker = tracker_of(settings, out) if rank == 0 else None
    for step in range(settings["steps"]):
        chosen = [prompts[(step * settings["batch_size"] + i) % len(prompts)] for i in range(settings["batch_size"])]
        batch = tokenizer(chosen, return_tensors="pt", padding=True).to(device)
        prompt_length = batch["input_ids"].shape[1]
        with torch.no_grad():
            sequences = policy.generate(
                **batch,
                max_new_tokens=length,
                do_sample=generation.get("do_sample", True),
                temperature=temperature,
                pad_token_id=tokenizer.pad_token_id,
            )
            tokens = sequences[:, prompt_length:]
            ended = (tokens == tokenizer.eos_token_id).cumsum(-1)
            mask = ((ended == 0) | ((ended == 1) & (tokens == tokenizer.eos_token_id))).float()
            attention = torch.cat([batch["attention_mask"], mask.long()], dim=1)
            old, values = score(policy, sequences, attention, prompt_length, True)
            base, _ = score(reference, sequences, attention, prompt_length, False)
        responses = [tokenizer.decode(row[m.bool()], skip_special_tokens=True) for row, m in zip(tokens, mask)]
        scores = reward_of([p + r for p, r in zip(chosen, responses)], responses).to(device)
        rewards = -KL_WEIGHT * (old - base) * mask
        last = (mask.sum(-1).long() - 1).clamp(min=0)
        rewards[torch.arange(len(chosen)), last] += scale(scores.float())
        advantages, returns = advantages_of(rewards, values * mask, mask)

        kl, stopped = 0.0, False
        for _ in range(settings["ppo_epochs"]):
            order = torch.randperm(len(chosen))
            optimiser.zero_grad()
            for at, part in enumerate(order.split(settings["mini_batch_size"])):
                now, value = score(policy, sequences[part], attention[part], prompt_length, True)
                m, count = mask[part], mask[part].sum().clamp(min=1)
                ratio = ((now - old[part]) * m).exp()
                gain = torch.min(ratio * advantages[part], ratio.clamp(1 - CLIP, 1 + CLIP) * advantages[part])
                near = values[part] + (value - values[part]).clamp(-VALUE_CLIP, VALUE_CLIP)
                error = torch.max((value - returns[part]) ** 2, (near - returns[part]) ** 2)
                loss = ((-gain + VALUE_WEIGHT * 0.5 * error) * m).sum() / count
                (loss / settings["gradient_accumulation_steps"]).backward()
                kl = float(((old[part] - now) * m).sum() / count)
                if (at + 1) % settings["gradient_accumulation_steps"] == 0:
                    apply(optimiser, parameters, world)
            apply(optimiser, parameters, world)
            if settings["early_stopping"] and settings["target_kl"] and abs(kl) > 1.5 * settings["target_kl"]:
                stopped = True
            if agreed(stopped, world, device):
                break
        mean = float(scores.float().mean())
        entry = {"step": step, "mean_reward": mean, "kl": kl, "stopped_early": stopped}
        logs.append(entry)
        if rank == 0:
            print(f"PPO Step {step}/{settings['steps']}: mean_reward={mean:.4f}", flush=True)
            if tracker:
                tracker(entry)
        if settings["optimize_cuda_cache"] and cuda:
            torch.cuda.empty_cache()
        if step == settings["steps"] - 1:
            results = [{"prompt": p, "response": r, "reward": float(s)} for p, r, s in zip(chosen, responses, scores)]
        if rank == 0 and settings["save_freq"] and (step + 1) % settings["save_freq"] == 0:
            policy.save_pretrained(out / f"checkpoint-{step + 1}")
    if rank != 0:
        return
    if settings["save_model"]:
        policy.save_pretrained(out / "final_model")
        tokenizer.save_pretrained(out / "final_model")
    if any(not math.isfinite(entry["mean_reward"]) for entry in logs):
        raise TaskError("the rewards became infinite: a lower learning_rate may help")
    save_json(
        out / "responses.json",
        {"ok": True, "executor": "ppo", "model": name, "training_config": settings, "results": results, "training_logs": logs},
    )


def apply(optimiser, parameters, world):
    import torch

    if all(p.grad is None for p in parameters):
        return
    if world > 1:
        for p in parameters:
            if p.grad is None:
                p.grad = torch.zeros_like(p)
            torch.distributed.all_reduce(p.grad)
            p.grad /= world
    torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    optimiser.step()
    optimiser.zero_grad()


def agreed(stopped, world, device):
    """Whether any process wants to stop: they must all do the same number of passes."""
    if world == 1:
        return stopped
    import torch

    flag = torch.tensor(float(stopped), device=device)
    torch.distributed.all_reduce(flag)
    return bool(flag > 0)


def tracker_of(settings, out):
    """What each step is told to, by ``log_with``: tensorboard, or wandb with ``tracker_project_name``."""
    if settings["log_with"] == "tensorboard":
        from torch.utils.tensorboard import SummaryWriter

        writer = SummaryWriter(str(out / "tensorboard"))
        return lambda entry: writer.add_scalar("mean_reward", entry["mean_reward"], entry["step"])
    if settings["log_with"] == "wandb":
        import wandb

        wandb.init(project=settings["tracker_project_name"] or "ppo")
        return wandb.log
    if settings["log_with"]:
        raise TaskError(f"training.log_with: {settings['log_with']} is neither tensorboard nor wandb")
    return None


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--task", required=True)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--trust-remote-code", action="store_true")
    given = parser.parse_args()
    try:
        train(given.task, given.out, given.trust_remote_code)
        return 0
    except TaskError as error:
        print(error, file=sys.stderr)
        save_json(given.out / "responses.json", {"ok": False, "executor": "ppo", "error": str(error)})
        return 1


if __name__ == "__main__":
    sys.exit(main())
