"""The frames on which cells learn, and those on which they are scored."""

import numpy as np

from proxy_tasks.data.video.base import VideoDataset
from proxy_tasks.data.video.part import Part

__all__ = ["split"]

META_VAL_SHARE = 0.1  # thesis 6.4.1: a random 90/10 split
LEAST_SEQUENCES = 2  # the length of the shortest block, in sequences; of two, the windows across their border score too


def split(data: VideoDataset, seed: int) -> tuple[Part, Part]:
    """Meta-train and meta-val, which share no frame.

    Meta-val is made of blocks of consecutive frames, one in a clip, together a tenth of all frames or a little more.
    The clips come in an order drawn by the seed, until the tenth is reached. The block of a clip is a tenth of it, but
    at least as long as two sequences, or all of a clip that is shorter than that. Its place is drawn among those where
    it holds a sequence. Meta-train is all other frames, so that its sequences are those that have no frame of a block.

    Example: CamVid's clips of 62, 101, 68, 120 and 16 frames give blocks of 6, 10, 7, 12 and 6.

    Meta-val is empty where the data have no sequence, and meta-train may then or with few frames be without one.
    """
    rng = np.random.default_rng(seed)
    sequences = data.sequences()
    held_out: list[int] = []
    for number in rng.permutation(len(data.clips)):
        if len(held_out) >= META_VAL_SHARE * len(data):
            break
        clip = np.array(data.clips[number])
        length = min(len(clip), max(LEAST_SEQUENCES * data.sequence_length, round(META_VAL_SHARE * len(clip))))
        blocks = [clip[start : start + length] for start in range(len(clip) - length + 1)]
        scored = [block for block in blocks if np.isin(sequences, block).all(axis=1).any()]
        if scored:
            held_out += scored[rng.integers(len(scored))].tolist()
    kept = sorted(set(range(len(data))) - set(held_out))
    return Part(data, kept), Part(data, held_out)
