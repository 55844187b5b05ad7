"""A program on a GPU that does as it is told, a word and a number a line: `hold MIB`, `work SECONDS`."""

import sys
import time

import torch

held = []
# Nothing is on the GPU yet: who starts this can name its pid to the daemon first.
print("ready", flush=True)
for line in sys.stdin:
    word, number = line.split()
    if word == "hold":
        held.append(torch.empty(int(number) * 2**20, dtype=torch.uint8, device="cuda"))
        torch.cuda.synchronize()
    elif word == "work":
        matrix = torch.randn(8192, 8192, dtype=torch.float16, device="cuda")
        until = time.monotonic() + float(number)
        while time.monotonic() < until:
            for _ in range(8):
                product = matrix @ matrix
            torch.cuda.synchronize()
    print("done", flush=True)
