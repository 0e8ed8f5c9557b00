"""The official PyTorch code's side of bench/interop.ts.

    python interop_peer.py CHECKOUT FOLDER

Reads FOLDER/jobs.json. Each model in "ours" is loaded from FOLDER/NAME, and what each layer gives for its images is
written there. Each in "official" is made, trained a little and saved, in several files, in bfloat16 and in PyTorch's own file too,
and so is its average, in the file that the official trainer writes alone, with what each layer gives. FOLDER/report.json tells of missing tensors, of re-saved files and of which broken
files Python's safetensors refuses.
"""
import copy
import json
import logging
import os
import sys

sys.path.insert(0, sys.argv[1])
import safetensors  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402
from safetensors.torch import load, load_file, save, save_file  # noqa: E402

logging.disable(logging.WARNING)
transformers.utils.logging.disable_progress_bar()
from models.vit_nepa import ViTNepaConfig, ViTNepaForImageClassification, ViTNepaForPreTraining  # noqa: E402

torch.set_num_threads(len(os.sched_getaffinity(0)))
root = sys.argv[2]


def class_of(config):
    classifies = "ViTNepaForImageClassification" in config["architectures"]
    return ViTNepaForImageClassification if classifies else ViTNepaForPreTraining


def layers(model, images):
    """What each layer gives, by name."""
    seen = {}

    def keep(name, pick):
        def hook(_module, _inputs, output):
            seen[name] = pick(output).detach().float().contiguous()
        return hook

    base = model.vit_nepa
    hooks = [base.embeddings.register_forward_hook(keep("embedding", lambda out: out[1]))]
    for i, layer in enumerate(base.encoder.layer):
        hooks.append(layer.register_forward_hook(keep(f"block {i + 1}", lambda out: out[0])))
    hooks.append(base.layernorm.register_forward_hook(keep("final norm", lambda out: out)))
    with torch.no_grad():
        out = model.eval()(images)
    for hook in hooks:
        hook.remove()
    last = {"logits": out.logits} if isinstance(model, ViTNepaForImageClassification) else {"loss": out.loss}
    return seen | {name: x.float().contiguous() for name, x in last.items()}


def load_model(folder):
    with open(f"{folder}/config.json") as file:
        kind = class_of(json.load(file))
    model, info = kind.from_pretrained(folder, output_loading_info=True, dtype=torch.float32)
    return model, {key: sorted(map(str, info[key])) for key in ["missing_keys", "unexpected_keys", "mismatched_keys"]}


def run_ours(name):
    folder = f"{root}/{name}"
    model, info = load_model(folder)
    save_file(layers(model, load_file(f"{folder}/images.safetensors")["images"]), f"{folder}/layers.safetensors")
    with open(f"{folder}/model.safetensors", "rb") as file:
        data = file.read()
    return {"loading": info, "resaved": save(load(data), {"format": "pt"}) == data}


def train(model, images, labels, decay):
    """A few updates, and the average that the official trainer keeps: a copy after the first, then decayed."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    average = None
    for _ in range(5):
        given = {"labels": labels} if isinstance(model, ViTNepaForImageClassification) else {}
        model.train()(images, **given).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if average is None:
            average = copy.deepcopy(model).eval()
        for name, value in average.state_dict().items():
            value.mul_(decay).add_(model.state_dict()[name], alpha=1.0 - decay)
    return average


def make(name, config):
    torch.manual_seed(0)
    kind, settings = class_of(config), ViTNepaConfig(**{k: v for k, v in config.items() if k != "model_type"})
    model = kind(settings)
    images = torch.randn(8, settings.num_channels, settings.image_size, settings.image_size)
    average = train(model, images, torch.arange(8) % max(1, settings.num_labels), 0.9)
    halves = copy.deepcopy(model).to(torch.bfloat16)
    folder = f"{root}/{name}"
    os.makedirs(f"{folder}, EMA")
    torch.save(average.state_dict(), f"{folder}, EMA/pytorch_model_ema.bin")  # as the official trainer does
    average = kind(settings)
    average.load_state_dict(torch.load(f"{folder}, EMA/pytorch_model_ema.bin"))
    variants = {"": (model, {}), ", EMA": (average, {}), ", in several files": (model, {"max_shard_size": "50KB"}),
                ", bfloat16": (halves, {}), ", pytorch_model.bin": (model, {"safe_serialization": False})}
    for variant, (saved, options) in variants.items():
        saved.save_pretrained(folder + variant, **options)
        save_file({"images": images}, f"{folder}{variant}/images.safetensors")
        again, _ = load_model(folder + variant)
        save_file(layers(again, images), f"{folder}{variant}/layers.safetensors")
    os.remove(f"{folder}, EMA/model.safetensors")  # beside config.json there is pytorch_model_ema.bin alone now
    return [name + variant for variant in variants]


def accepts(data):
    try:
        safetensors.deserialize(data)
        return True
    except safetensors.SafetensorError:
        return False


def broken(lengths):
    with open(f"{root}/broken.bin", "rb") as file:
        return [accepts(file.read(length)) for length in lengths]


with open(f"{root}/jobs.json") as file:
    jobs = json.load(file)
report = {
    "versions": {"torch": torch.__version__, "transformers": transformers.__version__,
                 "safetensors": safetensors.__version__},
    "ours": {name: run_ours(name) for name in jobs["ours"]},
    "official": [saved for name, config in jobs["official"].items() for saved in make(name, config)],
    "accepted": broken(jobs["lengths"]),
}
with open(f"{root}/report.json", "w") as file:
    json.dump(report, file)
