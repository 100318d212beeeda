"""One candidate's whole evaluation against the plain PyTorch implementation of the same.

    python benchmarks/candidate.py
    python benchmarks/candidate.py --crop 384 --batch-size 8 --iterations 2 --width 64-128 --backbone resnet50

The candidate is the published NAS-FCOS decoder. Plain is what one writes first: in every step the images are read from
their files, resized and cropped, the frozen backbone runs on them, targets are found image by image, tensors are
contiguous and the deformable convolution is torchvision's. Ours reads cached features and targets, channels last, with
the deformable convolution for CPUs. Both train from the same weights on the same batches, then score meta-val; the
losses are printed, and differ by the rounding of the cache to float16. Each has trained halfway once before the
clock starts: what a process loads is loaded once, for all of its candidates.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from proxy_step import torchvision_kernel
from torch import Tensor, nn
from torchvision.io import write_jpeg

import proxy_tasks
import search_spaces
from experiments import published
from proxy_tasks.crops import crop_image, mirrored_boxes
from proxy_tasks.data import DetectionDataset, open_dataset
from proxy_tasks.fcos.targets import DenseTargets, assign, pad_boxes
from proxy_tasks.fcos.task import FCOSTask
from proxy_tasks.features import CachedFeatures
from proxy_tasks.images import detector_input
from proxy_tasks.rows import Numbers
from proxy_tasks.training import Schedule, train_averaged
from search_spaces.parts import deform_conv

SIDES = (480, 640)  # of the photographs that are written, as most of COCO's


class PlainInputs:
    """The cache's interface over files, a backbone and boxes, computed anew for every batch."""

    names = ("C2", "C3", "C4", "C5")

    def __init__(self, task: FCOSTask, dataset: DetectionDataset):
        self._task, self._dataset, prepared = task, dataset, task.prepared
        self._body, self._count = prepared.body, len(prepared.crops)
        self._mirrors = prepared.meta_train[prepared.meta_train < self._count]
        self._read: tuple[bytes, list[tuple[Tensor, dict[str, Tensor]]]] = (b"", [])
        self._targets: tuple[bytes, list[DenseTargets]] = (b"", [])

    def _crop(self, index: int) -> tuple[Tensor, dict[str, Tensor]]:
        """The crop of one image, read from its file, mirrored where the number is beyond the images'."""
        mirrored, crop = index >= self._count, self._task.settings.crop
        image = int(self._mirrors[index - self._count]) if mirrored else index
        rng = np.random.default_rng([self._task.options.seed, image])
        pixels, target = crop_image(*self._dataset[image], crop, rng)
        if mirrored:
            return pixels.flip(-1), {**target, "boxes": mirrored_boxes(target["boxes"], crop)}
        return pixels, target

    def features(self, indices: Numbers) -> dict[str, Tensor]:
        """The backbone's maps."""
        images = torch.stack([image for image, _ in self._crops(np.asarray(indices))])
        with torch.no_grad():
            maps = self._body(detector_input(images).contiguous())
        return {name: value.contiguous() for name, value in maps.items()}

    def rows(self, name: str, numbers: Numbers) -> Tensor:
        """The dense targets, one image after the other."""
        indices = np.asarray(numbers)
        if self._targets[0] != indices.tobytes():
            found = [assign(*pad_boxes([target]), self._task.locations) for _, target in self._crops(indices)]
            self._targets = indices.tobytes(), found
        return torch.cat([getattr(one, name) for one in self._targets[1]])

    def _crops(self, indices: np.ndarray) -> list[tuple[Tensor, dict[str, Tensor]]]:
        """The crops of a batch, each read once, for its pixels and for its targets."""
        if self._read[0] != indices.tobytes():
            self._read = indices.tobytes(), [self._crop(int(index)) for index in indices]
        return self._read[1]


class PlainTask(FCOSTask):
    """The task with contiguous tensors."""

    def _training(
        self, model: nn.Module, seed: int, meta_train: np.ndarray, cache: CachedFeatures
    ) -> Iterator[tuple[int, nn.Module]]:
        settings, sums = self.settings, self._loss_sums(model, cache)
        schedule = Schedule(settings.batch_size, settings.iterations, settings.learning_rate, seed)
        return train_averaged(model, meta_train, schedule, settings.polyak_decay, lambda batch: sums(batch).total())


def photographs(root: Path, count: int) -> str:
    """The built-in images, enlarged and written as JPEG files with COCO's annotations; returns the folder."""
    shapes, (height, width) = open_dataset(None, "train"), SIDES
    images, annotations = [], []
    (root / "annotations").mkdir(parents=True)
    for split in ("train2017", "val2017"):
        (root / split).mkdir()
    for number in range(count):
        image, target = shapes[number]
        scale = torch.tensor([width / image.shape[2], height / image.shape[1]])
        name = f"{number:012d}.jpg"
        write_jpeg(nn.functional.interpolate(image[None].float(), SIDES)[0].byte(), str(root / "train2017" / name))
        images.append({"id": number, "file_name": name, "height": height, "width": width})
        for box, label in zip(target["boxes"], target["labels"], strict=True):
            (x0, y0), (x1, y1) = (box[:2] * scale).tolist(), (box[2:] * scale).tolist()
            place = {"bbox": [x0, y0, x1 - x0, y1 - y0], "area": (x1 - x0) * (y1 - y0), "iscrowd": 0}
            annotations.append({"id": len(annotations) + 1, "image_id": number, "category_id": int(label) + 1, **place})
    categories = [{"id": i + 1, "name": name} for i, name in enumerate(shapes.classes)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    for split in ("train2017", "val2017"):
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    return str(root)


def evaluated(task: FCOSTask, inputs: CachedFeatures) -> tuple[float, float]:
    """Seconds of training and scoring, and the loss."""
    architecture = published.load("nas_fcos")
    next(task.training(architecture, 0, inputs))
    begin = time.perf_counter()
    model = task.train(architecture, 0, inputs)
    loss = task.losses(model, inputs, task.prepared.meta_val)["loss"]
    return time.perf_counter() - begin, loss


def compared(images: int, backbone: str, **settings: object) -> tuple[tuple[float, float], tuple[float, float]]:
    """Seconds and loss of a candidate, ours and plain."""
    with tempfile.TemporaryDirectory() as name:
        options = proxy_tasks.TaskOptions(
            data=photographs(Path(name) / "data", images),
            cache_dir=str(Path(name) / "cache"),
            backbone=backbone,
            backbone_weights="none",
            overrides={**settings, "pretrain_iterations": 0},
        )
        space = search_spaces.get("fcos_decoder_c2")
        task, plain = FCOSTask(space, options), PlainTask(space, options)
        task.prepare(lambda what, done, total: None)
        plain._prepared = task.prepared
        ours = evaluated(task, task.prepared.cache)
        with mock.patch.object(deform_conv, "deform_conv2d", torchvision_kernel):
            theirs = evaluated(plain, PlainInputs(plain, plain.open_data()))
    return ours, theirs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=48, help="photographs, written for this")
    parser.add_argument("--backbone", default="mobilenet_v2")
    parser.add_argument("--crop", type=int, default=128)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--iterations", type=int, default=10)
    parser.add_argument("--width", default="32")
    given = parser.parse_args()
    (ours, loss), (plain, same) = compared(**vars(given))
    print(f"nas_fcos @{given.width} on {given.backbone}, {given.crop} px, {torch.get_num_threads()} threads")
    print("| ours, s | plain, s | ratio | losses |\n| --- | --- | --- | --- |")
    print(f"| {ours:.2f} | {plain:.2f} | {plain / ours:.1f} | {loss:.4f}, {same:.4f} |")


if __name__ == "__main__":
    main()
