"""The official PyTorch code, pretrained on Fashion-MNIST as bench/learning.ts pretrains this library.

    python learning_peer.py CHECKOUT DATA FOLDER OPTIONS

DATA holds train-images-idx3-ubyte.gz. OPTIONS is JSON: {"config": the official configuration, "seed": …, "training": {"steps", "batchSize",
"learningRate", "weightDecay", "betas", "warmupRatio", "clipNorm", "flip"}}. The official model, loss and choice of what decays; its
trainer is replaced by the loop below. Writes the model to FOLDER and prints {"losses": […], "torch": version}.
"""
import gzip
import json
import logging
import math
import os
import sys

checkout, data, folder, options = sys.argv[1], sys.argv[2], sys.argv[3], json.loads(sys.argv[4])
sys.path.insert(0, checkout)
answers = os.fdopen(os.dup(1), "w")  # the official code prints warnings to the standard output
os.dup2(2, 1)
import numpy as np  # noqa: E402
import torch  # noqa: E402

logging.disable(logging.WARNING)
from models.vit_nepa import ViTNepaConfig, ViTNepaForPreTraining  # noqa: E402

torch.set_num_threads(len(os.sched_getaffinity(0)))
torch.manual_seed(options["seed"])
training, steps = options["training"], options["training"]["steps"]
config = ViTNepaConfig(**options["config"])
config._attn_implementation = "sdpa"
model = ViTNepaForPreTraining(config).train()
size = config.image_size
packed = gzip.open(os.path.join(data, "train-images-idx3-ubyte.gz")).read()
images = torch.from_numpy(np.frombuffer(packed, np.uint8, offset=16).reshape(-1, 1, size, size).copy())
optimizer = torch.optim.AdamW(
    [
        {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": training["weightDecay"]},
        {"params": [p for p in model.parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ],
    lr=training["learningRate"],
    betas=training["betas"],
    fused=True,
)
warmup = math.ceil(steps * training["warmupRatio"])


def rate(step):
    """The factor of the learning rate: linear from 0, then half a cosine."""
    if step < warmup:
        return step / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
chance = torch.Generator().manual_seed(options["seed"])


def batches(count):
    """Shuffled by epoch; what does not fill a batch is left out."""
    while True:
        order = torch.randperm(len(images), generator=chance)
        for start in range(0, len(images) - count + 1, count):
            pixels = (images[order[start:start + count]] / 255 - 0.5) / 0.5
            mirrored = torch.rand(count, generator=chance) < training["flip"]
            yield torch.where(mirrored[:, None, None, None], pixels.flip(-1), pixels)


losses = []
for _, pixels in zip(range(steps), batches(training["batchSize"])):
    loss = model(pixels).loss
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), training["clipNorm"])
    optimizer.step()
    scheduler.step()
    optimizer.zero_grad()
    losses.append(loss.item())
    if len(losses) % 500 == 0:
        print(f"  {len(losses)} of {steps} steps, loss {losses[-1]:.4f}", file=sys.stderr, flush=True)
model.save_pretrained(folder)
print(json.dumps({"losses": losses, "torch": torch.__version__}), file=answers, flush=True)
