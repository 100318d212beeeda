"""Prediction on images and videos: pictures, and what was found as JSON beside them."""

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

from torch import Tensor
from torchvision.transforms.v2.functional import to_pil_image

from nas.folders import full_disk_told, make_writable
from nas.predicting.sources import Frame, Source, opened, video_library
from nas.predicting.trained import load
from nas.searching.display import Display
from search_spaces import InputError
from search_spaces.files import write_whole

__all__ = ["IMAGES", "Predicted", "predict"]

FILE, IMAGES = "predictions.json", "images.json"


@dataclass(frozen=True)
class Predicted:
    """What a prediction came to.

    Args:
        frames: how many images were looked at.
        seconds: inside the network, resizing included; decoding, drawing and writing not.
        places: what was written.
    """

    frames: int
    seconds: float
    places: list[Path]


def predict(what: str, source: str, out: str | Path, device: str = "auto") -> Predicted:
    """Runs a trained network on images; draws what it finds into ``out``, and writes JSON there.

    An image gives a PNG of its name, a video or camera an MP4. ``predictions.json`` is a COCO results file;
    ``images.json`` has the images that its ids are of, and the classes. Where an image cannot be decoded, what was
    found in those before it is kept.

    Args:
        what: see `nas.predicting.trained.load`.
        source: see `nas.predicting.sources.opened`.
        out: a folder, made where it is missing.
        device: ``auto``, ``cpu`` or ``cuda``.

    Raises:
        InputError: there is nothing trained, or nothing to look at, or it cannot be decoded or written.
    """
    predictor, folder = load(what, device), Path(out)
    _refuse_own_place(Path(source), folder)
    make_writable(folder)
    found = _Found(folder, predictor.classes)
    with Display() as display, full_disk_told(folder, "start again"), opened(source) as frames, found.written():
        with _pictures(folder, frames) as pictures, _stopped_camera(frames):
            for number, frame in enumerate(frames.frames, start=1):
                begun = time.perf_counter()
                things = predictor.predict(frame.image)
                found.seconds += time.perf_counter() - begun
                pictures.add(frame.name, predictor.drawn(frame.image, things))
                found.add(frame, predictor.rows(number, things))
                display.preparing("predicting", number, frames.count or number)
        if not found.images:
            raise InputError(f"{source} has not one picture that can be decoded")
    return Predicted(len(found.images), found.seconds, [*pictures.places, folder / FILE])


class _Found:
    """What is found, image by image, and its two files."""

    def __init__(self, folder: Path, classes: Sequence[str]):
        self.folder, self.classes, self.seconds = folder, classes, 0.0
        self.images, self.rows = list[dict[str, Any]](), list[dict[str, Any]]()

    def add(self, frame: Frame, rows: list[dict[str, Any]]) -> None:
        height, width = frame.image.shape[-2:]
        self.images.append({"id": len(self.images) + 1, "file_name": frame.name, "width": width, "height": height})
        self.rows += rows

    @contextmanager
    def written(self) -> Iterator[None]:
        """In place of the files of a former prediction; of an image that cannot be decoded, of all before it."""
        for name in (FILE, IMAGES):
            (self.folder / name).unlink(missing_ok=True)
        try:
            yield
        finally:
            if self.images:
                categories = [{"id": number, "name": name} for number, name in enumerate(self.classes, start=1)]
                write_whole(self.folder / FILE, json.dumps(self.rows))
                write_whole(self.folder / IMAGES, json.dumps({"images": self.images, "categories": categories}))


def _refuse_own_place(source: Path, folder: Path) -> None:
    """Raises `InputError` where pictures could be written over what they are of."""
    place = source if source.is_dir() else source.parent
    if source.exists() and place.resolve() == folder.resolve():
        raise InputError(
            f"--out {folder} is where the input lies, whose files it could write over; choose another folder"
        )


@contextmanager
def _stopped_camera(source: Source) -> Iterator[None]:
    """Ctrl-C is how a camera's pictures end; of anything else it is an interruption."""
    try:
        yield
    except KeyboardInterrupt:
        if source.count is not None:
            raise


class _Images:
    """A PNG for each image."""

    def __init__(self, folder: Path):
        self.folder, self.places = folder, list[Path]()

    def add(self, name: str, picture: Tensor) -> None:
        place = self.folder / f"{Path(name).stem}.png"
        if place in self.places:  # of two images that differ in their suffix alone
            place = self.folder / f"{name}.png"
        to_pil_image(picture).save(place)
        self.places.append(place)


class _Video:
    """An MP4 of all frames, begun with the first."""

    def __init__(self, place: Path, rate: Fraction):
        self.rate, self.places = rate, [place]
        self._container, self._stream = video_library().open(str(place), "w"), cast(Any, None)

    def add(self, name: str, picture: Tensor) -> None:
        height, width = picture.shape[-2:]
        if self._stream is None:
            self._stream = self._container.add_stream("libx264", rate=self.rate)
            self._stream.width, self._stream.height = width - width % 2, height - height % 2  # as its colours need
            self._stream.pix_fmt = "yuv420p"
        pixels = picture.permute(1, 2, 0).contiguous().numpy()
        frame = video_library().VideoFrame.from_ndarray(pixels, format="rgb24")
        self._container.mux(self._stream.encode(frame.reformat(self._stream.width, self._stream.height)))

    def close(self) -> None:
        """Writes what the encoder still holds back."""
        if self._stream is not None:
            self._container.mux(self._stream.encode())
        self._container.close()


@contextmanager
def _pictures(folder: Path, source: Source) -> Iterator[_Images | _Video]:
    if source.rate is None:
        yield _Images(folder)
        return
    video = _Video(folder / f"{source.name}.mp4", source.rate)
    try:
        yield video
    finally:
        video.close()
