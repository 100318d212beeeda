"""What bfloat16, in which trials compute on GPUs that have it, does to rewards, measured on a CPU.

    python benchmarks/bfloat16_rewards.py [--space fcos_decoder] [--architectures 6] [--seeds 3] [--data path/to/bccd]

scores drawn architectures from several seeds twice, in float32 and with `torch.autocast` to bfloat16. Printed are the
difference of the two rewards of the same architecture and seed beside how far rewards spread by the seed alone, and
the rank correlation of the architectures' mean rewards.
"""

import argparse
from unittest import mock

import numpy as np
import torch
from scipy import stats

import proxy_tasks
import search_spaces
from proxy_tasks import ProxyTask, TaskOptions, precision
from search_spaces import Architecture


def reward(task: ProxyTask, architecture: Architecture, seed: int, dtype: torch.dtype | None) -> float:
    with mock.patch.object(precision, "_lower", return_value=dtype):
        *_, score = task.evaluate(architecture, seed)
    return score.reward


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--space", default="fcos_decoder")
    parser.add_argument("--data")
    parser.add_argument("--architectures", type=int, default=6)
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    space, rng = search_spaces.get(given.space), np.random.default_rng(0)
    task = proxy_tasks.make(space.proxy_task, space, TaskOptions(data=given.data))
    task.prepare(lambda what, done, total: None)
    rewards = np.empty((given.architectures, given.seeds, 2))
    for one in range(given.architectures):
        architecture = space.sample(rng)
        for seed in range(given.seeds):
            rewards[one, seed] = [reward(task, architecture, seed, dtype) for dtype in (None, torch.bfloat16)]
            print(f"architecture {one}, seed {seed}: {rewards[one, seed].round(4)}", flush=True)
    apart = rewards[..., 1] - rewards[..., 0]
    half = stats.t.ppf(0.975, apart.size - 1) * apart.std(ddof=1) / np.sqrt(apart.size)
    print("| bfloat16 - float32, mean | largest | spread by the seed | spread of architectures | rank correlation |")
    print("| --- " * 5 + "|")
    by_seed = np.sqrt(rewards[..., 0].var(axis=1, ddof=1).mean())
    means = rewards.mean(axis=1)
    print(
        f"| {apart.mean():.4f} ± {half:.4f} | {np.abs(apart).max():.4f} | {by_seed:.4f} | {means[:, 0].std(ddof=1):.4f}"
        f" | {stats.spearmanr(*means.T).statistic:.2f} |"
    )


if __name__ == "__main__":
    main()
