"""The references of the families that are built in, each scored by its proxy task at tiny sizes."""

import math

import pytest
import trees

import proxy_tasks
import search_spaces
from experiments import families, published

SIZES = {
    "fcos_decoder": {"crop": 64, "batch_size": 8, "iterations": 2, "width": "16-32", "pretrain_iterations": 1},
    "video_cell": {
        **{"long_side": 32, "crop_height": 32, "crop_width": 32, "width": 8},
        **{"batch_size": 32, "epochs": 1, "pretrain_iterations": 2, "pretrain_batch_size": 4},
    },
    "mask_head": {
        **{"crop": 64, "rois": 2, "batch_size": 8, "iterations": 2, "width": 8, "mirrored": "false"},
        **{"pretrain_iterations": 1, "pretrain_batch_size": 2},
    },
}


@pytest.mark.parametrize("space", SIZES)
def test_every_reference_is_scored_with_loss_metric_and_cost(space, tmp_path):
    whole = search_spaces.get(space)
    family = families.family_of(whole)
    data = str(trees.write_coco(tmp_path / "data", n=8, size=(80, 64))) if space == "mask_head" else None
    options = proxy_tasks.TaskOptions(
        data=data, cache_dir=str(tmp_path / "cache"), overrides=SIZES[space], all_metrics=True
    )
    task = proxy_tasks.make(None, whole, options)
    task.prepare(lambda what, done, total: None)
    scored = 0
    for name in family.references:
        if name in published.names():
            architecture = published.load(name)
            if not task.takes(architecture):
                continue
            *_, score = task.evaluate(architecture, 1000)
        else:
            score = task.score_reference(name, 1000)
        scored += 1
        assert math.isfinite(score.reward), name
        assert score.reward == -score.metrics["loss"], name
        assert 0 <= score.metrics[family.measure] <= 1, name
        assert score.metrics["params"] > 0, name
        assert score.metrics["macs"] >= 0, name
    assert scored == {"mask_head": 4}.get(space, 2)
    with pytest.raises(KeyError, match="nothing"):
        task.score_reference("nothing")
