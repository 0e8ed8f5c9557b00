"""One training step of the official PyTorch code, asked for line by line.

    python torch_peer.py CHECKOUT

Reads lines of JSON: {"config": …, "batch": B, "mode": "eager" | "compile" | "bf16"} makes a model, {"steps": n} runs
n steps and answers with their seconds. Used by bench/step.ts, so that both sides are timed in turn on one machine.
"""
import contextlib
import json
import logging
import os
import sys
import time

sys.path.insert(0, sys.argv[1])
answers = os.fdopen(os.dup(1), "w")  # the official code prints warnings to the standard output
os.dup2(2, 1)
import torch  # noqa: E402

logging.disable(logging.WARNING)
from models.vit_nepa import ViTNepaConfig, ViTNepaForPreTraining  # noqa: E402

torch.set_num_threads(len(os.sched_getaffinity(0)))


def groups(model):
    """The official trainer's: no weight decay for biases, norms, layer scale."""
    decays = [p for p in model.parameters() if p.ndim > 1]
    return [
        {"params": decays, "weight_decay": 0.05},
        {"params": [p for p in model.parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ]


def make(config, batch, mode):
    torch.manual_seed(0)
    settings = ViTNepaConfig(**config)
    settings._attn_implementation = "sdpa"
    model = ViTNepaForPreTraining(settings).train()
    run = torch.compile(model) if mode == "compile" else model
    images = torch.randn(batch, settings.num_channels, settings.image_size, settings.image_size)
    optimizer = torch.optim.AdamW(groups(model), lr=1e-4, betas=(0.9, 0.95), fused=True)

    def step():
        cast = torch.autocast("cpu", torch.bfloat16) if mode == "bf16" else contextlib.nullcontext()
        with cast:
            loss = run(images).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return loss.item()

    return step


step = None
for line in sys.stdin:
    request = json.loads(line)
    seconds = []
    if "config" in request:
        step = make(request["config"], request["batch"], request["mode"])
    for _ in range(request.get("steps", 0)):
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    print(json.dumps({"seconds": seconds}), file=answers, flush=True)
