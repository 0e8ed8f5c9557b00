"""A folder of images in Parquet files as datasets writes them: python images_parquet.py FOLDER OUT ROWS"""
import sys
from pathlib import Path

import datasets

folder, out, rows = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
datasets.disable_progress_bars()
files = sorted(folder.glob("*/*"))
names = sorted({file.parent.name for file in files})
features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=names)})
out.mkdir()
for start in range(0, len(files), rows):
    some = files[start : start + rows]
    images = [{"bytes": file.read_bytes(), "path": file.name} for file in some]
    labels = [names.index(file.parent.name) for file in some]
    part = datasets.Dataset.from_dict({"image": images, "label": labels}, features=features)
    part.to_parquet(out / f"train-{start // rows:05d}.parquet")
