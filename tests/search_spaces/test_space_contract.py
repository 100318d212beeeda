"""One suite for every registered space."""

import itertools
import pickle
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare
from torch._subclasses import FakeTensorMode

import search_spaces
from search_spaces import Architecture, Choice, InputError, SearchSpace

NAMES = search_spaces.names()
every_space = pytest.mark.parametrize("name", NAMES)


def architectures(name):
    space = search_spaces.get(name)
    return st.tuples(*[st.integers(0, len(c.options) - 1) for c in space.choices]).map(space.architecture)


def drawn(name, seed):
    torch.manual_seed(seed)
    return search_spaces.get(name).sample(np.random.default_rng(seed))


@pytest.fixture
def network(name, sizes, features, previous, locations, rois):
    """Of the space ``name``: its builder's sizes, its inputs, the shapes of its outputs, what it holds but skips."""
    if name.startswith("video_cell"):
        widths = {"in_channels": sizes["in_channels"], "width": 4}
        return Network(widths, (features, previous), {"dec": (4, 12, 20)}, lambda m: set(m.adapters) - m.used)
    if name == "arch2":
        widths = {"in_channels": sizes["in_channels"], "num_classes": 3, "width": 4}
        return Network(widths, (features,), {"dec": (4, 12, 20), "logits": (3, 12, 20)}, lambda m: {"C2"})
    if name.startswith("mask_head"):
        count = 1 if name == "mask_head_single" else 3
        masks = {f"mask{stage}": (3, 28, 28) for stage in range(1, count + 1)}
        return Network({"in_channels": 6, "num_classes": 3, "width": 8}, (rois,), masks, lambda m: ())
    shapes = {"cls_logits": (locations, 3), "bbox_regression": (locations, 4), "bbox_ctrness": (locations, 1)}
    if name == "fpn_retinanet":  # nine anchors at a location
        shapes = {"cls_logits": (9 * locations, 3), "bbox_regression": (9 * locations, 4)}
    return Network(
        sizes, (features,), shapes, lambda m: set(getattr(m.fpn, "adapters", ())) - getattr(m.fpn, "used", set())
    )


@dataclass
class Network:
    sizes: dict
    inputs: tuple[dict, ...]
    shapes: dict
    unused: Callable

    def outputs(self, module, change=lambda x: x):
        """The module's outputs by name, for inputs changed by ``change``."""
        out = module(*({key: change(x) for key, x in maps.items()} for maps in self.inputs))
        return {"dec": out} if isinstance(out, torch.Tensor) else out


@every_space
def test_registered_under_its_own_name(name):
    assert search_spaces.get(name).name == name


@every_space
@settings(deadline=None)
@given(data=st.data())
def test_json_round_trip(name, data):
    architecture = data.draw(architectures(name))
    back = Architecture.from_json(architecture.to_json(source="a test"))
    assert back == architecture
    assert back.key == architecture.key
    assert search_spaces.get(name).from_named(architecture.named) == architecture


@every_space
@settings(deadline=None)
@given(data=st.data())
def test_canonical_form_is_idempotent_and_keeps_the_key(name, data):
    architecture = data.draw(architectures(name))
    canonical = architecture.canonical
    assert canonical.canonical == canonical
    assert canonical.key == architecture.key


@every_space
def test_keys_of_different_canonical_forms_differ(name):
    rng = np.random.default_rng(0)
    drawn = [search_spaces.get(name).sample(rng) for _ in range(200)]
    assert len({a.key for a in drawn}) == len({a.canonical.tokens for a in drawn})


@every_space
def test_bad_tokens_name_the_choice(name):
    space = search_spaces.get(name)
    with pytest.raises(InputError, match=f"search space '{name}' takes {len(space)} tokens, got {len(space) + 1}"):
        space.architecture([0] * (len(space) + 1))
    for i, choice in enumerate(space.choices):
        for bad in (len(choice.options), -1, 0.0, None, True):
            tokens = [0] * len(space)
            tokens[i] = bad
            with pytest.raises(InputError, match=f"'{choice.name}' has {len(choice.options)} options, got token {bad}"):
                space.architecture(tokens)


@every_space
def test_options_mean_the_same_within_a_kind(name):
    for kind, choices in itertools.groupby(
        sorted(search_spaces.get(name).choices, key=lambda c: c.kind), lambda c: c.kind
    ):
        options = [c.options for c in choices]
        longest = max(options, key=len)
        assert all(o == longest[: len(o)] for o in options), kind


@every_space
def test_samples_are_uniform(name):
    space = search_spaces.get(name)
    rng = np.random.default_rng(1)
    tokens = np.array([space.sample(rng).tokens for _ in range(1500)])
    for i, choice in enumerate(space.choices):
        counts = np.bincount(tokens[:, i], minlength=len(choice.options))
        assert chisquare(counts).pvalue > 1e-4, choice.name


@pytest.mark.parametrize("sizes", [(2, 3, 1), (4,), (), (3, 3, 3)])
def test_cardinality_is_the_number_of_token_sequences(sizes):
    choices = [Choice(f"c{i}", "c", tuple("abcd"[:n])) for i, n in enumerate(sizes)]
    space = SearchSpace("small", choices)
    valid = 0
    for tokens in itertools.product(range(-1, 5), repeat=len(sizes)):
        try:
            space.validate(tokens)
        except InputError:
            continue
        valid += 1
    assert space.cardinality == valid


@every_space
def test_space_and_architecture_survive_pickling(name):
    architecture = drawn(name, 0)
    assert pickle.loads(pickle.dumps(architecture)).key == architecture.key


@every_space
@pytest.mark.parametrize("seed", range(4))
def test_a_random_architecture_builds_and_every_parameter_learns(name, seed, network):
    module = drawn(name, seed).build(**network.sizes)
    outputs = network.outputs(module)
    assert {key: tuple(x.shape) for key, x in outputs.items()} == {k: (2, *s) for k, s in network.shapes.items()}
    sum(x.square().sum() for x in outputs.values()).backward()
    skipped = tuple(f"adapters.{level}." for level in network.unused(module))
    for parameter_name, parameter in module.named_parameters():
        learns = parameter.grad is not None and bool(parameter.grad.isfinite().all())
        assert learns != parameter_name.removeprefix("fpn.").startswith(skipped), parameter_name


@every_space
@pytest.mark.parametrize("seed", range(3))
def test_channels_last_equals_contiguous(name, seed, network, shake):
    module = shake(drawn(name, seed).build(**network.sizes)).eval()
    expected = network.outputs(module)
    module = module.to(memory_format=torch.channels_last)
    found = network.outputs(module, lambda x: x.contiguous(memory_format=torch.channels_last))
    for key, x in found.items():
        assert x.ndim == 3 or x.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(x, expected[key], rtol=1e-3, atol=1e-3)


@every_space
def test_same_seed_same_weights(name, network):
    one, two = (drawn(name, 5).build(**network.sizes).state_dict() for _ in range(2))
    assert list(one) == list(two)
    assert all(torch.equal(tensor, two[key]) for key, tensor in one.items())


@every_space
@pytest.mark.parametrize("seed", range(3))
def test_one_image_in_training(name, seed, network):
    outputs = network.outputs(drawn(name, seed).build(**network.sizes), lambda x: x[:1])
    assert {key: tuple(x.shape) for key, x in outputs.items()} == {k: (1, *s) for k, s in network.shapes.items()}
    assert all(x.isfinite().all() for x in outputs.values())


@pytest.fixture
def autocast_on_cuda():
    """What CUDA's autocast to bfloat16 makes of types: on tensors without values, for which no GPU is needed."""
    before = torch.get_autocast_dtype("cuda")
    with FakeTensorMode(), torch.device("cuda"):
        torch.set_autocast_dtype("cuda", torch.bfloat16)
        torch.set_autocast_enabled("cuda", True)
        try:
            yield
        finally:
            torch.set_autocast_enabled("cuda", False)
            torch.set_autocast_dtype("cuda", before)


@every_space
@pytest.mark.parametrize("seed", range(4))
def test_all_maps_are_bfloat16_under_cuda_autocast(name, seed, network, autocast_on_cuda):
    """Whatever autocast would compute in float32, and leave so: group norm, resizing, a softmax."""
    module = drawn(name, seed).build(**network.sizes)
    wide = []

    def note(layer, _, y):
        if isinstance(y, torch.Tensor) and y.ndim == 4 and y.dtype != torch.bfloat16:
            wide.append(layer)

    for layer in module.modules():
        layer.register_forward_hook(note)
    network.outputs(module, lambda x: torch.empty(x.shape, dtype=torch.bfloat16))
    assert not wide


@pytest.mark.parametrize("name", ["fcos_decoder", "fpn_fcos"])
def test_box_distances_are_positive_and_pyramids_channels_last(name, network, features):
    decoder = drawn(name, 0).build(**network.sizes).to(memory_format=torch.channels_last)
    maps = decoder.fpn({k: x.contiguous(memory_format=torch.channels_last) for k, x in features.items()})
    assert all(x.is_contiguous(memory_format=torch.channels_last) for x in maps.values())
    assert (network.outputs(decoder)["bbox_regression"] > 0).all()
