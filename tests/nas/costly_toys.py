"""The toy space under a task whose architectures cost what their tokens say, and that trains in two steps."""

from dataclasses import replace

from fake_tasks import TOY, ToyTask

from search_spaces import SearchSpace

COSTLY = SearchSpace("costly", TOY.choices, canonical=TOY.canonical, proxy_task="costly_toys:CostlyTask")


def params_of(architecture):
    """100 to 1500, the same for two spellings of one network, and not what the reward follows."""
    return float(100 * (1 + int(architecture.key[8:12], 16) % 15))


class CostlyTask(ToyTask):
    """Gives the cost along the way, too."""

    def evaluate(self, architecture, seed=None):
        for item in super().evaluate(architecture, seed):
            yield replace(item, metrics={**item.metrics, "params": params_of(architecture)})

    def forward_pass(self, architecture):
        return lambda: sum(range(int(params_of(architecture))))
