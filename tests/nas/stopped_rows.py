"""What a store of toys must hold after a search with early stopping, whatever engine ran it."""

import re
import statistics

import numpy as np
from fake_tasks import TOY, reward_of


def assert_stopped_by_rank(store, rule):
    """Replays the decisions in the order in which the interim scores came, by the median instead of by ranks."""
    rows = {row.number: row for row in store.trials()}
    earlier, stopped = [], set()
    for trial, reward in store._db.execute("SELECT trial, reward FROM interim ORDER BY rowid"):
        row = rows.pop(trial)
        final = reward_of(TOY.from_named(row.choices))
        assert store.interim(trial) == [(1, 2, final - 1)]
        low = len(earlier) >= rule.earlier_trials and reward < statistics.median_low(earlier)
        if low and np.random.default_rng([rule.seed, trial]).random() >= rule.chance:
            stopped.add(trial)
            rank = sorted([*earlier, reward], reverse=True).index(reward) + 1
            assert (row.status, row.reward) == ("stopped", reward)
            assert row.reason == f"stopped after step 1 of 2: rank {rank} of {len(earlier) + 1}"
            assert row.metrics == {"params": 1000.0 + final}
            assert row.seconds > 0
        else:
            assert (row.status, row.reward) == ("done", final)
        earlier.append(reward)
    assert stopped
    for row in rows.values():
        assert row.status == "duplicate"
        original = int(re.search(r"\d+", row.reason)[0])
        assert row.reason == f"same network as trial {original}" + ", stopped early" * (original in stopped)
        assert row.reward == reward_of(TOY.from_named(row.choices)) - (original in stopped)
