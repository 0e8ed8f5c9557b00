"""The official PyTorch code, asked for training steps, whole trainings and features line by line.

    python torch_peer.py CHECKOUT

Reads lines of JSON and answers each with one; the rounds asked for are timed one by one:
    {"config": …, "batch": B, "mode": "eager" | "compile" | "bf16"}   makes a model; a round is a training step
    {"model": FOLDER, "images": FILE, "batch": B}                     loads a model; a round is the features of all images
    {"rounds": n}                                                     runs n rounds: {"seconds": [n numbers], "value": …}
    {"follow": FOLDER}                                                loads a model to train
    {"images": FILE, "rate": …, "rescale": …}                         one update of it, with the factor of its coordinates
    {"apart": FOLDER}                                                 how far its weights lie from that model's, which it then takes
    {"pretrain": {"config", "seed", "training"}, "data": FILE, "save": FOLDER}   trains as `pretrain` does, on the gzipped IDX images
"value" is the last step's loss, or the features of the last image, or the median over the weights of |difference| / |weight|,
or the losses of a whole training, whose "training" has the names of `pretrain`'s options. Both sides are timed by turns on one machine.
"""
import contextlib
import gzip
import json
import logging
import math
import os
import sys
import time

sys.path.insert(0, sys.argv[1])
answers = os.fdopen(os.dup(1), "w")  # the official code prints warnings to the standard output
os.dup2(2, 1)
import numpy as np  # noqa: E402
import torch  # noqa: E402

logging.disable(logging.WARNING)
from models.vit_nepa import ViTNepaConfig, ViTNepaForPreTraining  # noqa: E402
from models.vit_nepa import modeling_vit_nepa as modeling  # noqa: E402

torch.set_num_threads(len(os.sched_getaffinity(0)))


def fresh(config, seed):
    """A model with random weights."""
    torch.manual_seed(seed)
    settings = ViTNepaConfig(**config)
    settings._attn_implementation = "sdpa"
    return ViTNepaForPreTraining(settings).train()


def adamw(model, rate=1e-4, decay=0.05, betas=(0.9, 0.95)):
    """With the official trainer's groups: no weight decay for biases, norms, layer scale."""
    groups = [
        {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": decay},
        {"params": [p for p in model.parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=rate, betas=betas, fused=True)


def update(model, optimizer, loss, norm=1.0):
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), norm)
    optimizer.step()
    optimizer.zero_grad()
    return loss.item()


def training(config, batch, mode):
    model = fresh(config, 0)
    run, optimizer = torch.compile(model) if mode == "compile" else model, adamw(model)
    images = torch.randn(batch, model.config.num_channels, model.config.image_size, model.config.image_size)

    def step():
        cast = torch.autocast("cpu", torch.bfloat16) if mode == "bf16" else contextlib.nullcontext()
        with cast:
            loss = run(images).loss
        return update(model, optimizer, loss)

    return step


def pretrained(config, seed, training, data, save):
    """The losses of a whole training: the official model and loss, its trainer replaced by this loop."""
    model, chance = fresh(config, seed), torch.Generator().manual_seed(seed)
    steps, count, peak = training["steps"], training["batchSize"], training["learningRate"]
    warmup, size = math.ceil(steps * training["warmupRatio"]), model.config.image_size
    pixels = np.frombuffer(gzip.open(data).read(), np.uint8, offset=16)
    images = torch.from_numpy(pixels.reshape(-1, 1, size, size).copy())
    optimizer = adamw(model, peak, training["weightDecay"], training["betas"])

    def factor(step):
        if step < warmup:
            return step / warmup
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))

    def batches():
        while True:  # what does not fill a batch is left out of an epoch
            order = torch.randperm(len(images), generator=chance)
            for start in range(0, len(images) - count + 1, count):
                batch = (images[order[start:start + count]] / 255 - 0.5) / 0.5
                mirrored = torch.rand(count, generator=chance) < training["flip"]
                yield torch.where(mirrored[:, None, None, None], batch.flip(-1), batch)

    scheduler, losses = torch.optim.lr_scheduler.LambdaLR(optimizer, factor), []
    for _, batch in zip(range(steps), batches()):
        losses.append(update(model, optimizer, model(batch).loss, training["clipNorm"]))
        scheduler.step()
    model.save_pretrained(save)
    return losses


def features(folder, file, batch):
    """The mean of the patch tokens after the embedding, each block and the last norm, of every image in a file of uint8."""
    model = ViTNepaForPreTraining.from_pretrained(folder, attn_implementation="sdpa").eval()
    config, backbone, hidden = model.config, model.vit_nepa, []
    for layer in backbone.encoder.layer:
        layer.register_forward_hook(lambda _module, _inputs, outputs: hidden.append(outputs[0]))
    size, channels = config.image_size, config.num_channels
    images = np.fromfile(file, np.uint8).reshape(-1, size, size, channels)

    @torch.inference_mode()
    def everything():
        found = []
        for start in range(0, len(images), batch):
            pixels = torch.from_numpy(images[start:start + batch]).permute(0, 3, 1, 2)
            hidden.clear()
            outputs = backbone((pixels / 255 - 0.5) / 0.5)
            layers = [outputs.input_embedding, *hidden, outputs.last_hidden_state]
            found.append([tokens[:, 1:].mean(1) for tokens in layers])
        whole = [torch.cat(parts).numpy() for parts in zip(*found)]
        return whole[-1][-1].tolist()

    return everything


class Follower:
    """Trains on what it is given, with the random numbers that it is given."""

    def __init__(self, folder):
        self.model = ViTNepaForPreTraining.from_pretrained(folder, attn_implementation="sdpa").train()
        self.optimizer = adamw(self.model)

    def update(self, file, rate, rescale):
        config = self.model.config
        shape = -1, config.num_channels, config.image_size, config.image_size  # one channel: no axis moves
        pixels = torch.from_numpy(np.fromfile(file, np.uint8)).reshape(shape)
        modeling.augment_patches_center_coordinates = lambda coordinates, **_: coordinates * rescale
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        return update(self.model, self.optimizer, self.model((pixels / 255 - 0.5) / 0.5).loss)

    def apart(self, folder):
        other = dict(ViTNepaForPreTraining.from_pretrained(folder).named_parameters())
        pairs = [(p.data, other[name].data) for name, p in self.model.named_parameters()]
        median = np.median([((p - q).norm() / p.norm().clamp(min=1e-12)).item() for p, q in pairs])
        for p, q in pairs:
            p.copy_(q)
        return float(median)


work = follower = None
for line in sys.stdin:
    request = json.loads(line)
    seconds, value = [], None
    if "config" in request:
        work = training(request["config"], request["batch"], request["mode"])
    if "follow" in request:
        follower = Follower(request["follow"])
    if "rate" in request:
        value = follower.update(request["images"], request["rate"], request["rescale"])
    if "pretrain" in request:
        value = pretrained(**request["pretrain"], data=request["data"], save=request["save"])
    if "apart" in request:
        value = follower.apart(request["apart"])
    if "model" in request:
        work = features(request["model"], request["images"], request["batch"])
    for _ in range(request.get("rounds", 0)):
        start = time.perf_counter()
        value = work()
        seconds.append(time.perf_counter() - start)
    print(json.dumps({"seconds": seconds, "value": value}), file=answers, flush=True)
