"""What every controller keeps to; a new one is tested by adding its name to `NAMES`."""

import io
import math
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import controllers
from controllers import Controller, Proposal
from search_spaces import Choice, InputError, SearchSpace

NAMES = ("lstm-ppo", "evolution", "random", "optuna:tpe", "optuna:cmaes")
OPTIONS = {"lstm-ppo": {"rollouts": 4, "epochs": 2}, "evolution": {"population": 4, "tournament": 2}}
HUGE = sys.float_info.max


def small_space() -> SearchSpace:
    pools = [tuple(f"c{i}" for i in range(3 + block)) for block in range(3)]
    pairs = [
        (Choice(f"{block}.x", "input", pool), Choice(f"{block}.op", "op", ("sep", "skip", "dconv")))
        for block, pool in enumerate(pools)
    ]
    return SearchSpace("small", tuple(choice for pair in pairs for choice in pair))


def tiny_space(*sizes: int) -> SearchSpace:
    return SearchSpace("tiny", tuple(Choice(f"c{i}", "op", tuple("abcdefgh"[:n])) for i, n in enumerate(sizes)))


def make(name: str, space: SearchSpace | None = None, seed: int = 0) -> Controller:
    return controllers.make(name, space or small_space(), seed=seed, **OPTIONS.get(name, {}))


def reward_of(proposal: Proposal) -> float:
    return -1.0 - sum(proposal.tokens) / 7


def through_a_file(state: dict) -> dict:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


def assert_healthy(controller: Controller) -> None:
    """Proposals are valid, and every stored tensor and figure is finite."""
    for _ in range(3):
        proposal = controller.ask()
        assert controller.space.validate(proposal.tokens) == proposal.tokens
        assert math.isfinite(proposal.log_prob)
    assert all(math.isfinite(figure) for figure in controller.diagnostics().values())
    tensors = [t for t in leaves(controller.state_dict()) if isinstance(t, torch.Tensor)]
    assert all(bool(torch.isfinite(tensor).all()) for tensor in tensors)


def leaves(tree):
    if isinstance(tree, dict):
        tree = list(tree.values())
    if isinstance(tree, list | tuple):
        return [leaf for branch in tree for leaf in leaves(branch)]
    return [tree]


@pytest.mark.parametrize("name", NAMES)
class TestContract:
    def test_is_registered_and_is_a_controller(self, name):
        assert name.partition(":")[0] in controllers.names()
        assert isinstance(make(name), Controller)
        assert make(name).diagnostics() == {}

    def test_proposals_are_valid_and_counted(self, name):
        controller = make(name)
        for number in range(20):
            proposal = controller.ask()
            assert proposal.id == number
            assert controller.space.validate(proposal.tokens) == proposal.tokens
            assert all(type(token) is int for token in proposal.tokens)
            assert proposal.log_prob <= 0
            controller.tell(proposal, reward_of(proposal))

    def test_the_seed_decides(self, name):
        def sequence(seed: int) -> list[Proposal]:
            controller, asked = make(name, seed=seed), []
            for _ in range(15):
                asked.append(controller.ask())
                controller.tell(asked[-1], reward_of(asked[-1]))
            return asked

        assert sequence(3) == sequence(3)
        assert sequence(3) != sequence(4)

    @settings(deadline=None, max_examples=15, derandomize=True)
    @given(order=st.permutations(range(10)), failed=st.sets(st.integers(0, 9)))
    def test_tells_come_in_any_order(self, name, order, failed):
        controller = make(name)
        asked = [controller.ask() for _ in order]
        for index in order:
            controller.tell(asked[index], None if index in failed else reward_of(asked[index]))
        assert_healthy(controller)

    @pytest.mark.parametrize(
        "reward",
        [-2.5, 0.0, 1e-300, 1e30, -1e30, HUGE, -HUGE, math.nan, math.inf, -math.inf, None, np.float32(0.5)],
        ids=str,
    )
    def test_any_reward_leaves_it_healthy(self, name, reward):
        controller = make(name)
        for _ in range(9):  # the same for all: constant rewards
            controller.tell(controller.ask(), reward)
        for turn in range(9):  # among ordinary rewards
            proposal = controller.ask()
            controller.tell(proposal, reward if turn % 3 == 0 else reward_of(proposal))
        assert_healthy(controller)

    def test_failed_trials_teach_nothing(self, name):
        controller = make(name)
        before = controller.state_dict()
        for reward in (None, math.nan, math.inf, -math.inf) * 3:
            controller.tell(controller.ask(), reward)
        after, unused = controller.state_dict(), {"asked", "seen", "generator"}
        kept = [key for key in before if key not in unused]
        assert kept
        for key in kept:
            for old, new in zip(leaves(before[key]), leaves(after[key]), strict=True):
                assert torch.equal(old, new) if isinstance(old, torch.Tensor) else old == new

    def test_resumes_in_a_fresh_process_with_trials_in_flight(self, name, tmp_path):
        controller = make(name)
        asked = [controller.ask() for _ in range(15)]
        told, in_flight = asked[:10], asked[10:]
        for proposal in told:
            controller.tell(proposal, reward_of(proposal))
        torch.save({"state": controller.state_dict(), "in_flight": [list(p.tokens) for p in in_flight]}, tmp_path / "s")
        script = f"""
import sys, torch, controllers
sys.path.insert(0, {str(__file__.rsplit("/", 1)[0])!r})
from test_controller_contract import Proposal, make, reward_of
saved = torch.load({str(tmp_path / "s")!r}, weights_only=True)
controller = make({name!r}, seed=99)
controller.load_state_dict(saved["state"])
in_flight = {[(p.id, p.tokens, p.log_prob) for p in in_flight]!r}
for proposal in in_flight:
    controller.tell(Proposal(*proposal), reward_of(Proposal(*proposal)))
asked = [controller.ask() for _ in range(5)]
torch.save(controller.state_dict(), {str(tmp_path / "after")!r})
print(repr([(p.id, p.tokens, p.log_prob) for p in asked]))
"""
        run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stderr
        for proposal in in_flight:
            controller.tell(proposal, reward_of(proposal))
        here = [controller.ask() for _ in range(5)]
        assert run.stdout.strip() == repr([(p.id, p.tokens, p.log_prob) for p in here])
        there = torch.load(tmp_path / "after", weights_only=True)
        assert there["generator"] is not None
        for mine, other in zip(leaves(controller.state_dict()), leaves(there), strict=True):
            assert torch.equal(mine, other) if isinstance(mine, torch.Tensor) else mine == other

    def test_state_is_plain_and_a_copy(self, name):
        controller = make(name)
        for _ in range(5):
            proposal = controller.ask()
            controller.tell(proposal, reward_of(proposal))
        state = controller.state_dict()
        kept = through_a_file(state)
        for _ in range(9):
            proposal = controller.ask()
            controller.tell(proposal, reward_of(proposal))
        restored = make(name, seed=1)
        restored.load_state_dict(state)
        for _ in range(9):
            proposal = restored.ask()
            restored.tell(proposal, reward_of(proposal))
        for now, then in zip(leaves(state), leaves(kept), strict=True):
            assert isinstance(now, torch.Tensor | str | int | float | bool | None)
            assert torch.equal(now, then) if isinstance(now, torch.Tensor) else now == then

    def test_the_global_random_states_are_untouched(self, name):
        torch.manual_seed(5)
        before, before_numpy = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
        controller = make(name)
        for _ in range(9):
            proposal = controller.ask()
            controller.tell(proposal, reward_of(proposal))
        controller.load_state_dict(controller.state_dict())
        assert torch.equal(before, torch.get_rng_state())
        assert np.array_equal(before_numpy, np.random.get_state()[1])  # noqa: NPY002

    @pytest.mark.parametrize("sizes", [(1,), (5,), (1, 1, 1), (2, 1, 3), (2, 2)], ids=str)
    def test_an_exhausted_space_goes_on(self, name, sizes):
        controller = make(name, tiny_space(*sizes))
        drawn = set()
        for _ in range(2 * math.prod(sizes) + 6):
            proposal = controller.ask()
            drawn.add(proposal.tokens)
            controller.tell(proposal, reward_of(proposal))
        assert drawn <= set(np.ndindex(*sizes))
        assert_healthy(controller)

    def test_refuses_what_is_not_its_own(self, name):
        controller = make(name)
        with pytest.raises(InputError, match=r"search space 'small' takes 6 tokens, got 1"):
            controller.tell(Proposal(0, (0,)), 1.0)
        with pytest.raises(InputError, match=r"state is of space 'tiny', this space is 'small'"):
            controller.load_state_dict(make(name, tiny_space(2)).state_dict())
        other = NAMES[NAMES.index(name) - 1]
        with pytest.raises(InputError, match=f"state is of controller '{other}', this controller is '{name}'"):
            controller.load_state_dict(make(other).state_dict())

    def test_refuses_unknown_options_and_bad_seeds(self, name):
        with pytest.raises(
            InputError, match=rf"controller '{name}' has no option 'rate'; (its options are|it has none)"
        ):
            controllers.make(name, small_space(), rate=1)
        for seed in (-1, 0.5, True, "1", 2**63):
            with pytest.raises(InputError, match=r"seed must be a whole number of at least 0 and below 2\^63, got"):
                controllers.make(name, small_space(), seed=seed)
        with pytest.raises(InputError, match="search space 'void' has no choices"):
            controllers.make(name, SearchSpace("void", ()))


@pytest.mark.parametrize(
    ("name", "option", "value", "rule"),
    [
        ("lstm-ppo", "rollouts", 1, "rollouts must be a whole number of at least 2 and below 2^63, got 1"),
        ("lstm-ppo", "epochs", 2.0, "epochs must be a whole number of at least 1 and below 2^63, got 2.0"),
        ("lstm-ppo", "learning_rate", 0, "learning_rate must be a finite number above 0 and at most 1, got 0"),
        ("lstm-ppo", "clip", math.nan, "clip must be a finite number above 0 and at most 1, got nan"),
        ("lstm-ppo", "entropy_weight", -0.1, "entropy_weight must be a finite number of at least 0, got -0.1"),
        ("lstm-ppo", "value_weight", "1", "value_weight must be a finite number of at least 0, got '1'"),
        ("lstm-ppo", "max_grad_norm", math.inf, "max_grad_norm must be a finite number above 0, got inf"),
        ("evolution", "population", 0, "population must be a whole number of at least 1 and below 2^63, got 0"),
        ("evolution", "tournament", True, "tournament must be a whole number of at least 1 and below 2^63, got True"),
    ],
)
def test_option_values_are_checked(name, option, value, rule):
    with pytest.raises(InputError, match=f"^{re.escape(rule)}$"):
        controllers.make(name, small_space(), **{option: value})


@pytest.mark.parametrize("name", ["lstm-ppo", "evolution", "random"])
def test_proposes_each_network_once(name):
    # The two inputs of a sum may be swapped: 6 unordered pairs with repetition, each proposed before any comes again.
    choices = (Choice("x1", "input", ("a", "b", "c")), Choice("x2", "input", ("a", "b", "c")))
    space = SearchSpace("sums", choices, canonical=lambda tokens: tuple(sorted(tokens)))
    controller, keys = make(name, space), []
    for turn in range(6):
        if turn == 3:  # what was proposed is remembered across a restart
            state = through_a_file(controller.state_dict())
            controller = make(name, space, seed=8)
            controller.load_state_dict(state)
        proposal = controller.ask()
        keys.append(space.architecture(proposal.tokens).key)
        controller.tell(proposal, reward_of(proposal))
    assert len(set(keys)) == 6
    assert space.architecture(controller.ask().tokens).key in keys


def test_registry():
    class Own:
        def __init__(self, space, seed=0, *, rate=1.0):
            self.space, self.seed, self.rate = space, seed, rate

    controllers.register("own-controller", Own)
    made = controllers.make("own-controller", small_space(), seed=7, rate=2.0)
    assert (made.seed, made.rate) == (7, 2.0)
    with pytest.raises(InputError, match="its options are rate"):
        controllers.make("own-controller", small_space(), population=3)
    with pytest.raises(InputError, match="the controller 'own-controller' is registered already"):
        controllers.register("own-controller", Own)
    with pytest.raises(InputError, match=r"there is no controller 'lstm-pp'; known: .*did you mean 'lstm-ppo'"):
        controllers.make("lstm-pp", small_space())


def test_importing_the_package_is_light():
    script = "import sys, controllers; print(sorted({'torch', 'gymnasium', 'ray'} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
