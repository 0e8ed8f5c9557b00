"""The official PyTorch code, asked for training steps and for features line by line.

    python torch_peer.py CHECKOUT

Reads lines of JSON and answers each with one; the rounds asked for are timed one by one:
    {"config": …, "batch": B, "mode": "eager" | "compile" | "bf16"}   makes a model; a round is a training step
    {"model": FOLDER, "images": FILE, "batch": B}                     loads a model; a round is the features of all images
    {"rounds": n}                                                     runs n rounds: {"seconds": [n numbers], "value": …}
    {"follow": FOLDER}                                                loads a model to train
    {"images": FILE, "rate": …, "rescale": …}                         one update of it, with the factor of its coordinates
    {"apart": FOLDER}                                                 how far its weights lie from that model's, which it then takes
"value" is the last step's loss, or the features of the last image, or the median over the weights of |difference| / |weight|.
Both sides are timed by turns on one machine.
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
import numpy as np  # noqa: E402
import torch  # noqa: E402

logging.disable(logging.WARNING)
from models.vit_nepa import ViTNepaConfig, ViTNepaForPreTraining  # noqa: E402
from models.vit_nepa import modeling_vit_nepa as modeling  # noqa: E402

torch.set_num_threads(len(os.sched_getaffinity(0)))


def groups(model):
    """The official trainer's: no weight decay for biases, norms, layer scale."""
    decays = [p for p in model.parameters() if p.ndim > 1]
    return [
        {"params": decays, "weight_decay": 0.05},
        {"params": [p for p in model.parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ]


def training(config, batch, mode):
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
        self.optimizer = torch.optim.AdamW(groups(self.model), betas=(0.9, 0.95), fused=True)

    def update(self, file, rate, rescale):
        config = self.model.config
        shape = -1, config.num_channels, config.image_size, config.image_size  # one channel: no axis moves
        pixels = torch.from_numpy(np.fromfile(file, np.uint8)).reshape(shape)
        modeling.augment_patches_center_coordinates = lambda coordinates, **_: coordinates * rescale
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        loss = self.model((pixels / 255 - 0.5) / 0.5).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.item()

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
    if "apart" in request:
        value = follower.apart(request["apart"])
    if "model" in request:
        work = features(request["model"], request["images"], request["batch"])
    for _ in range(request.get("rounds", 0)):
        start = time.perf_counter()
        value = work()
        seconds.append(time.perf_counter() - start)
    print(json.dumps({"seconds": seconds, "value": value}), file=answers, flush=True)
