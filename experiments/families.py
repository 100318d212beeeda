"""Families: each kind of dense perception that the toolkit searches for, declared once.

A family has a folder of its own in every room, called as its proxy task is. What the front door must know of it beyond
that stands in one `Family` in its wing of this room (`experiments.fcos`, `experiments.video`, `experiments.masks`), and
here in one line.
Everything heavy is named as ``"module:attribute"`` and imported when it is used: reading a declaration loads no torch.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from search_spaces import Registry, SearchSpace
from search_spaces.registry import import_attribute

__all__ = ["FAMILIES", "Family", "family_of", "names", "options_of_others", "register"]

TRIALS = {"demo": {1: (30,)}, "paper": {1: (2000,)}}


@dataclass(frozen=True)
class Family:
    """What the front door asks of a kind of dense perception.

    Args:
        name: the family's, its proxy task's and that of its network's builder in `proxy_tasks.NETWORKS`.
        spaces: the names of its search spaces; a progressive one names its stages itself (`SearchSpace.stages`).
        trials: by preset, then by the number of a search's stages: how many trials each stage has by default.
        reward: the reward by default, ``"loss"`` or ``"metric"``.
        metric: what the reward ``"metric"`` is, in words.
        measure: the name of that metric among a score's metrics, such as ``"ap"``.
        references: what the winners of a search are held against, best known first: names of published architectures,
            and names that the proxy task scores itself (`proxy_tasks.ProxyTask.score_reference`). Those that a search's
            task does not take (`ProxyTask.takes`) are left out of it.
        options: the settings of a search, and flags of a promotion, that no other family takes, such as ``"static"``.
        backbone: the backbone of searches on real data under ``demo``, where its weights are installed.
        samples: ``"module:function"``; gives images of a dataset to compare two runtimes on, as
            `proxy_tasks.data.images.samples.samples` does. Without it networks are not exported to ONNX.
        graphs: ``"module:function"``; gives a network's ONNX graphs, a list of `experiments.graphs.Graph`.
        predictor: ``"module:function"``; loads what a full training ended with, an `experiments.predicting.Predictor`.
            Without it nothing is predicted.
        measurement: ``"module:attribute"``; an `experiments.measuring.Measurement`: how trained networks are measured
            at other settings than their training's. Without it they are not.
        diagram: ``"module:function"``; draws an architecture as a `search_spaces.diagram.Diagram`. Without it an
            architecture is drawn as a table of its choices.
        classifiers: names of tensors, in any of the family's networks, with as many elements as there are classes.
        plotted: the metrics of full training that are worth a plot of their own.
    """

    name: str
    spaces: tuple[str, ...] = ()
    trials: Mapping[str, Mapping[int, tuple[int, ...]]] = field(default_factory=lambda: TRIALS)
    reward: str = "loss"
    metric: str = ""
    measure: str = ""
    references: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    backbone: str | None = None
    samples: str | None = None
    graphs: str | None = None
    predictor: str | None = None
    measurement: str | None = None
    diagram: str | None = None
    classifiers: tuple[str, ...] = ()
    plotted: tuple[str, ...] = ()

    def function(self, what: str) -> Any:
        """The function that the field ``what`` names; None where it names none."""
        target = getattr(self, what)
        return target and import_attribute(f"{what} of the family {self.name!r}", target, _is_ours(target))

    def default_trials(self, preset: str, stages: int) -> tuple[int, ...]:
        """The trials of each of a search's stages; where the family does not say, those of one stage for each."""
        return self.trials.get(preset, {}).get(stages) or TRIALS[preset][1] * stages


def _is_ours(target: str) -> bool:
    return target.partition(".")[0] in ("experiments", "proxy_tasks", "search_spaces")


FAMILIES = Registry(
    "family",
    {"fcos": "experiments.fcos:FAMILY", "video": "experiments.video:FAMILY", "masks": "experiments.masks:FAMILY"},
)
names = FAMILIES.names


def register(family: Family) -> Family:
    """Makes a family of your own known; refuses a name that is taken."""
    FAMILIES.register(family.name, family)
    return family


def family_of(space: SearchSpace) -> Family:
    """The family whose proxy task scores ``space``; one with the defaults for a space, or a task, of one's own."""
    name = space.stages[0].proxy_task or ""
    family: Family = FAMILIES.get(name) if name in names() else Family(name)
    return family


def options_of_others(own: Family) -> dict[str, str]:
    """The options that other families take and ``own`` does not, each with the family that does."""
    others = (FAMILIES.get(name) for name in names())
    return {option: family.name for family in others for option in family.options if option not in own.options}
