"""``backend: trl``: the same task on TRL's PPO trainer, which TRL has up to version 1.9.

What TRL has no setting for is told in ``warnings``. It scores token ids, so the reward model must read the policy's: a
model for the classification of sequences with one label, whose head is called ``score``.
"""
import json
import os

# Where the trainer stands says already that it may change.
os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")


def plan(settings, generation, world):
    """TRL's settings, and what is left out of them."""
    per_device, rest = divmod(settings["batch_size"], settings["gradient_accumulation_steps"] * world)
    if rest or per_device == 0:
        return None, ["training.batch_size must be a multiple of gradient_accumulation_steps times the processes"]
    mini_batches, uneven = divmod(settings["batch_size"], settings["mini_batch_size"])
    if uneven:
        return None, ["training.mini_batch_size must divide training.batch_size"]
    warnings = [
        f"training.{key} is ignored: TRL has nothing like it"
        for key in ("target_kl", "early_stopping", "optimize_cuda_cache")
        if settings[key]
    ]
    if generation.get("do_sample") is False:
        warnings.append("generation.do_sample is ignored: TRL always samples")
    options = {
        "learning_rate": settings["learning_rate"],
        "per_device_train_batch_size": per_device,
        "gradient_accumulation_steps": settings["gradient_accumulation_steps"],
        "num_mini_batches": mini_batches,
        "total_episodes": settings["steps"] * settings["batch_size"],
        "num_ppo_epochs": settings["ppo_epochs"],
        "response_length": generation.get("max_new_tokens", 64),
        "temperature": max(1e-3, generation.get("temperature", 0.7)),
        "seed": settings["seed"],
        "report_to": [settings["log_with"]] if settings["log_with"] else [],
        "logging_steps": 1,
        "num_sample_generations": 0,
        "save_strategy": "steps" if settings["save_freq"] else "no",
        "save_steps": settings["save_freq"] or 500,
    }
    return options, warnings


def load(spec, name, remote, failure):
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

    reward = spec.get("reward_model", {})
    if not reward.get("identifier"):
        raise failure("backend: trl needs reward_model.identifier")
    tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=remote, padding_side="left")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    score = lambda of: AutoModelForSequenceClassification.from_pretrained(of, num_labels=1, trust_remote_code=remote)  # noqa: E731
    policy = lambda: AutoModelForCausalLM.from_pretrained(name, trust_remote_code=remote)  # noqa: E731
    models = {"model": policy(), "ref_model": policy(), "reward_model": score(reward["identifier"]), "value_model": score(name)}
    if not hasattr(models["reward_model"], "score"):
        raise failure("backend: trl needs a reward model whose head is called score; that of others may do with the loop that comes with it")
    if models["reward_model"].config.vocab_size != models["model"].config.vocab_size:
        raise failure("backend: trl needs a reward model that reads the policy's tokens")
    for model in models.values():
        model.config.pad_token_id = tokenizer.pad_token_id
    return tokenizer, models


def train(spec, settings, prompts, name, out, remote, failure):
    """@return what goes into responses.json; ``None`` for every process but the first."""
    try:
        import trl
    except ImportError as error:
        raise failure(f"backend: trl needs TRL in this executor's Python: {error}") from error
    try:
        from trl.experimental.ppo import PPOConfig, PPOTrainer
    except ImportError as error:
        raise failure(
            f"backend: trl needs TRL up to 1.9: {trl.__version__} has no PPO ({error}). "
            "Leave backend out to use the loop that comes with it"
        ) from error
    from datasets import Dataset

    if settings["log_with"] == "wandb" and settings["tracker_project_name"]:
        os.environ["WANDB_PROJECT"] = settings["tracker_project_name"]
    generation = spec.get("generation", {})
    options, warnings = plan(settings, generation, int(os.environ.get("WORLD_SIZE", 1)))
    if options is None:
        raise failure(warnings[0])
    tokenizer, models = load(spec, name, remote, failure)
    rows = Dataset.from_list([{"input_ids": tokenizer(prompt)["input_ids"]} for prompt in prompts])
    if len(rows) < settings["batch_size"]:
        # Its loader leaves an incomplete batch out, and would have none.
        times = -(-settings["batch_size"] // len(rows))
        rows = Dataset.from_list(list(rows) * times)
    fp16 = bool(spec.get("model", {}).get("config", {}).get("fp16")) and cuda()
    config = PPOConfig(output_dir=str(out / "trl"), fp16=fp16, bf16=False, use_cpu=not cuda(), **options)
    trainer = PPOTrainer(
        args=config, processing_class=tokenizer, train_dataset=rows, eval_dataset=rows, **models
    )
    trainer.train()
    logs = []
    for entry in trainer.state.log_history:
        if "objective/scores" not in entry:
            continue
        step = len(logs)
        logs.append({"step": step, "mean_reward": entry["objective/scores"], "kl": entry.get("objective/kl")})
        print(f"PPO Step {step}/{settings['steps']}: mean_reward={entry['objective/scores']:.4f}", flush=True)
    if int(os.environ.get("RANK", 0)) != 0:
        return None
    if settings["save_model"]:
        trainer.save_model(str(out / "final_model"))
        tokenizer.save_pretrained(out / "final_model")
    for warning in warnings:
        print(f"warning: {warning}", flush=True)
    return {
        "ok": True,
        "executor": "ppo",
        "backend": f"trl {trl.__version__}",
        "model": name,
        "training_config": settings,
        "trl_config": json.loads(json.dumps(options)),
        "results": [],
        "training_logs": logs,
        "warnings": warnings,
    }


def cuda():
    import torch

    return torch.cuda.is_available()
