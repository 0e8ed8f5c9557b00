"""Hugging Face's side of bench/interop_ijepa.ts.

    python interop_ijepa.py FOLDER

Each folder of FOLDER/ours is loaded, and what it gives for its images is written there; models of its own are saved in
FOLDER/theirs with images and outputs, and one as the public code's checkpoint. FOLDER/report.json tells what was missing.
"""
import json
import os
import sys

import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import IJepaConfig, IJepaForImageClassification, IJepaModel

transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()
root = sys.argv[1]
torch.manual_seed(1216)


def outputs(model, images):
    with torch.no_grad():
        out = model.eval()(images, output_hidden_states=True)
    base = getattr(model, "ijepa", model)
    last = out.logits if hasattr(out, "logits") else out.last_hidden_state
    hidden = {f"hidden.{i}": x for i, x in enumerate(out.hidden_states[:base.config.num_hidden_layers])}
    return {name: x.float().contiguous().clone() for name, x in {**hidden, "last": last}.items()}


def load(folder):
    with open(f"{folder}/config.json") as file:
        names = json.load(file)["architectures"]
    kind = IJepaForImageClassification if "IJepaForImageClassification" in names else IJepaModel
    model, info = kind.from_pretrained(folder, output_loading_info=True)
    wrong = [str(x) for key in ["missing_keys", "unexpected_keys", "mismatched_keys"] for x in info[key]]
    return model, [x for x in wrong if "pooler" not in x]


report = {"versions": {"torch": torch.__version__, "transformers": transformers.__version__}, "wrong": {}}
for name in sorted(os.listdir(f"{root}/ours")):
    folder = f"{root}/ours/{name}"
    model, report["wrong"][name] = load(folder)
    save_file(outputs(model, load_file(f"{folder}/images.safetensors")["images"]), f"{folder}/outputs.safetensors")

sizes = dict(hidden_size=48, num_hidden_layers=3, num_attention_heads=8, intermediate_size=80, image_size=24, patch_size=4)
for name, kind, more in [
    ("model", IJepaModel, dict(num_channels=3, layer_norm_eps=1e-6)),
    ("model, one channel, epsilon 1e-12", IJepaModel, dict(num_channels=1)),
    ("classifier", IJepaForImageClassification, dict(num_channels=3, num_labels=4, layer_norm_eps=1e-6)),
]:
    model = kind(IJepaConfig(**sizes, **more))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    images = torch.randn(4, more["num_channels"], 24, 24)
    folder = f"{root}/theirs/{name}"
    model.save_pretrained(folder)
    save_file({"images": images}, f"{folder}/images.safetensors")
    save_file(outputs(model, images), f"{folder}/outputs.safetensors")

tensors = load_file(f"{root}/public.safetensors")
networks = {key: {} for key in ["encoder", "predictor", "target_encoder"]}
for name, tensor in tensors.items():
    part, rest = name.split(".", 1)
    networks["target_encoder" if part == "target" else part]["module." + rest] = tensor
optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(2))])
optimizer.param_groups[0]["params"][0].grad = torch.ones(2)
optimizer.step()
others = dict(opt=optimizer.state_dict(), scaler=None, epoch=3, loss=0.5, batch_size=8, world_size=1, lr=1e-3)
torch.save({**networks, **others}, f"{root}/public.pth.tar")
with open(f"{root}/report.json", "w") as file:
    json.dump(report, file)
