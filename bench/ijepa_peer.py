"""The public code of I-JEPA (facebookresearch/ijepa) as a process that trains when it is asked to: bench/step_ijepa.ts.

    python ijepa_peer.py CHECKOUT

Reads lines of JSON: {"config", "batch", "masks"} makes networks and remembers masks, {"rounds": n} makes n steps and answers with
their seconds. The step is that of src/train.py without its processes and without a GPU.
"""
import copy
import json
import os
import sys
import time
from functools import partial

sys.path.insert(0, sys.argv[1])
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from src.masks.utils import apply_masks  # noqa: E402
from src.models.vision_transformer import VisionTransformer, vit_predictor  # noqa: E402

torch.set_num_threads(len(os.sched_getaffinity(0)))
torch.manual_seed(0)


def training(config, batch, masks):
    side = config["imageSize"] // config["patchSize"]
    encoder = VisionTransformer(
        img_size=[config["imageSize"]], patch_size=config["patchSize"], in_chans=config["numChannels"],
        embed_dim=config["hiddenSize"], depth=config["numHiddenLayers"], num_heads=config["numAttentionHeads"],
        mlp_ratio=config["intermediateSize"] / config["hiddenSize"], qkv_bias=True,
        norm_layer=partial(torch.nn.LayerNorm, eps=1e-6))
    predictor = vit_predictor(
        num_patches=side ** 2, embed_dim=config["hiddenSize"], predictor_embed_dim=config["predictorHiddenSize"],
        depth=config["predictorNumHiddenLayers"], num_heads=config["numAttentionHeads"])
    target_encoder = copy.deepcopy(encoder)
    for parameter in target_encoder.parameters():
        parameter.requires_grad = False
    named = [*encoder.named_parameters(), *predictor.named_parameters()]
    plain = [p for n, p in named if "bias" in n or len(p.shape) == 1]
    decayed = [p for n, p in named if not ("bias" in n or len(p.shape) == 1)]
    optimizer = torch.optim.AdamW([{"params": decayed, "weight_decay": 0.04}, {"params": plain, "weight_decay": 0}], lr=1e-4)
    images = torch.randn(batch, config["numChannels"], config["imageSize"], config["imageSize"])
    given = [([torch.tensor(m["context"])], [torch.tensor(t) for t in m["targets"]]) for m in masks]
    done = 0

    def step():
        nonlocal done
        seen, asked = given[done % len(given)]
        done += 1
        with torch.no_grad():
            h = target_encoder(images)
            h = F.layer_norm(h, (h.size(-1),))
            h = apply_masks(h, asked)
        loss = F.smooth_l1_loss(predictor(encoder(images, seen), seen, asked), h)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        with torch.no_grad():
            for q, k in zip(encoder.parameters(), target_encoder.parameters()):
                k.data.mul_(0.996).add_((1.0 - 0.996) * q.detach().data)
        return float(loss)

    return step


work = None
for line in sys.stdin:
    request = json.loads(line)
    if "config" in request:
        work = training(request["config"], request["batch"], request["masks"])
    seconds = []
    for _ in range(request.get("rounds", 0)):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    print(json.dumps({"seconds": seconds}), flush=True)
