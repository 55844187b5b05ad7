"""Loads one model with random weights, serves or trains it, and says how much GPU memory that took.

Reads a point of points.ts as JSON from standard input and writes {"peak_mib": ..., "torch_mib": ...}. What counts is
what nvidia-smi shows of the card beyond what it showed before, so nothing else may run there.
"""

import json
import os
import subprocess
import sys
import threading

SAMPLE_EVERY_S = 0.05
WORDS_AT_ONCE = 16


def card() -> str:
    """The first card that CUDA may use, as nvidia-smi names it."""
    return (os.environ.get("CUDA_VISIBLE_DEVICES") or "0").split(",")[0]


def used_mib() -> int:
    asked = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits", "-i", card()]
    return int(subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip())


class Peak:
    """Looks at the card until it is told to stop."""

    def __init__(self) -> None:
        self.before_mib = used_mib()
        self.peak_mib = self.before_mib
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def _look(self) -> None:
        while not self._done.wait(SAMPLE_EVERY_S):
            self.peak_mib = max(self.peak_mib, used_mib())

    def __enter__(self) -> "Peak":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        self.peak_mib = max(self.peak_mib, used_mib())


def serve(torch, model, point) -> None:
    """Generates until each sequence has as many tokens as the point says."""
    vocabulary = point["config"]["vocab_size"]
    prompt = torch.randint(0, vocabulary, (point["sequences"], point["tokens"] - WORDS_AT_ONCE), device="cuda")
    with torch.inference_mode():
        model.generate(prompt, min_new_tokens=WORDS_AT_ONCE, max_new_tokens=WORDS_AT_ONCE, do_sample=False)


def train(torch, model, point) -> None:
    """Two steps of AdamW with everything in bf16 and activation checkpointing; the second has the moments from the start."""
    model.gradient_checkpointing_enable()
    model.train()
    optimizer = torch.optim.AdamW(model.parameters())
    vocabulary = point["config"]["vocab_size"]
    for _ in range(2):
        tokens = torch.randint(0, vocabulary, (point["sequences"], point["tokens"]), device="cuda")
        model(input_ids=tokens, labels=tokens, use_cache=False).loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


def main() -> int:
    try:
        import torch
        from transformers import AutoConfig, AutoModelForCausalLM
    except ImportError as error:
        print(f"PyTorch and transformers are needed: {error}", file=sys.stderr)
        return 69
    if not torch.cuda.is_available():
        print("PyTorch sees no CUDA device", file=sys.stderr)
        return 69
    point = json.load(sys.stdin)
    config = dict(point["config"])
    with Peak() as peak:
        with torch.device("cuda"):
            made = AutoConfig.for_model(config.pop("model_type"), **config)
            model = AutoModelForCausalLM.from_config(made, dtype=torch.bfloat16)
        (serve if point["what"] == "serve" else train)(torch, model, point)
        torch.cuda.synchronize()
    torch_mib = torch.cuda.max_memory_reserved() / 2**20
    print(json.dumps({"peak_mib": peak.peak_mib - peak.before_mib, "torch_mib": round(torch_mib)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
