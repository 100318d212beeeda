"""Full training of segmentation networks, for single frames and for video, and what the front door knows of them."""

from experiments.families import Family

__all__ = ["FAMILY"]

FAMILY = Family(
    name="video",
    spaces=("video_cell", "video_cell_4", "arch2"),
    reward="metric",  # thesis sec. 6.3.3
    metric="the geometric mean of mIoU, fwIoU and mean accuracy",
    measure="score",
    references=("static", "previous_labels"),
    options=("static",),
    backbone="efficientnet_lite0",
    samples="proxy_tasks.video.samples:samples",
    graphs="experiments.video.graphs:graphs",
    predictor="experiments.video.predicting:load",
    measurement="experiments.video.measuring:CELLS",
    diagram="search_spaces.video.diagram:diagram",
    classifiers=("decoder.classifier.bias", "static.decoder.classifier.bias"),
    plotted=("miou", "macc", "gacc", "tiou"),
)
