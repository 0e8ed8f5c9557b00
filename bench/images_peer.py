"""torchvision's data loading, timed when asked to: python images_peer.py FOLDER SIZE BATCH WORKERS

Each line of input is a number of passes over the folder; the answer is a line of JSON with their seconds and, without
further processes, the least processor time of one. torchvision's
wheel for CUDA does with a PyTorch for CPUs, since no operation of its own is needed: they are not registered.
"""
import json
import sys
import time

import torch

register = torch.library.register_fake


def register_fake(name, *args, **options):
    own = isinstance(name, str) and name.startswith("torchvision::")
    return (lambda function: function) if own else register(name, *args, **options)


torch.library.register_fake = register_fake
from torchvision import datasets, transforms  # noqa: E402

folder, size, batch, workers = sys.argv[1], *map(int, sys.argv[2:])
steps = [transforms.RandomResizedCrop(size), transforms.RandomHorizontalFlip(), transforms.PILToTensor()]
images = datasets.ImageFolder(folder, transforms.Compose(steps))
loader = torch.utils.data.DataLoader(
    images, batch_size=batch, shuffle=True, drop_last=True, num_workers=workers, persistent_workers=workers > 0
)
for line in sys.stdin:
    seconds, cpu = [], []
    for _ in range(int(line)):
        start, used = time.perf_counter(), time.process_time()
        for _ in loader:
            pass
        seconds.append(time.perf_counter() - start)
        cpu.append(time.process_time() - used)
    print(json.dumps({"seconds": seconds, "cpu": min(cpu)}), flush=True)
