"""Datasets: images with boxes (`proxy_tasks.data.images`) and video with a class a pixel (`proxy_tasks.data.video`).

What a layout of one's own needs is found here: for images a subclass of `FileDataset` and one call of `register`,
for video of `FileVideoDataset` and of `register_video`.
"""

from proxy_tasks.data.images import (
    DATASETS,
    SUBSETS,
    Annotation,
    DetectionDataset,
    FileDataset,
    ObjectAnnotation,
    Shapes,
    Target,
    held_apart,
    meta_split,
    open_dataset,
    register,
)
from proxy_tasks.data.video import (
    VIDEO_DATASETS,
    VIDEO_SUBSETS,
    VOID,
    FileVideoDataset,
    MovingShapes,
    VideoDataset,
    open_video,
    register_video,
)

__all__ = [
    "DATASETS",
    "SUBSETS",
    "VIDEO_DATASETS",
    "VIDEO_SUBSETS",
    "VOID",
    "Annotation",
    "DetectionDataset",
    "FileDataset",
    "FileVideoDataset",
    "MovingShapes",
    "ObjectAnnotation",
    "Shapes",
    "Target",
    "VideoDataset",
    "held_apart",
    "meta_split",
    "open_dataset",
    "open_video",
    "register",
    "register_video",
]
