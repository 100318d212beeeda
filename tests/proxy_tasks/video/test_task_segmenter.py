"""The whole segmentation network: its published size, and a clip carried frame by frame."""

import pytest
import safetensors.torch
import torch
from torchvision.ops import FrozenBatchNorm2d
from video_sets import apart, chain, shaken

import proxy_tasks
from proxy_tasks.video.network import Following, StaticSegmenter, VideoSegmenter, build_segmenter, upsample
from proxy_tasks.weights import load_weights
from search_spaces import Architecture, InputError
from search_spaces.parts.complexity import count

ARCH2 = Architecture.of("arch2", ())
EXPANSION = 1_088  # of the encoder's first block, which the published network has and torchvision's has not


@pytest.mark.parametrize(
    ("classes", "auxiliary", "published"), [(11, False, 2_847_371), (19, False, 2_851_987), (11, True, 2_866_412)]
)
def test_arch2_has_the_published_parameters(classes, auxiliary, published):
    with torch.device("meta"):
        network = build_segmenter(ARCH2, num_classes=classes, auxiliary=auxiliary)
    assert sum(parameter.numel() for parameter in network.parameters()) == published - EXPANSION


def test_arch2_has_the_published_macs():
    with torch.device("meta"):
        network = build_segmenter(ARCH2, num_classes=19)
        assert count(network, torch.empty(1, 3, 512, 1024)).macs / 1e9 == pytest.approx(6.60, abs=0.005)


@pytest.mark.parametrize(("space", "classes"), [("video_cell", 11), ("video_cell_4", 19)])
def test_a_cell_adds_its_own_parameters_and_stays_within_the_published_number(space, classes):
    with torch.device("meta"):
        static = build_segmenter(ARCH2, num_classes=classes)
        network = build_segmenter(chain(space), num_classes=classes)
    sizes = [sum(parameter.numel() for parameter in module.parameters()) for module in (static, network, network.cell)]
    assert sizes[1] == sizes[0] + sizes[2] < 3.4e6


@pytest.fixture
def network():
    torch.manual_seed(0)
    network = shaken(build_segmenter(chain(), "tiny", num_classes=4, width=8))
    network(torch.randn(3, 3, 3, 72, 88))  # batch-norm statistics of its own
    return network


def test_the_registry_builds_both_kinds():
    options = {"backbone": "tiny", "num_classes": 4, "width": 8}
    assert isinstance(proxy_tasks.build_network(ARCH2, **options), StaticSegmenter)
    assert isinstance(proxy_tasks.build_network(chain(), **options), VideoSegmenter)


@pytest.mark.parametrize("size", [(72, 88), (33, 100), (32, 32)])
def test_a_clip_at_once_is_a_clip_frame_by_frame(network, size):
    clips = torch.randn(2, 4, 3, *size)
    network.eval()
    with torch.inference_mode():
        whole = network(clips)
        scores, state = network.first(clips[:, 0])
        each = [scores]
        for time in range(1, 4):
            scores, state = network.following(clips[:, time], state)
            each.append(scores)
    assert whole.shape == (2, 4, 4, -(-size[0] // 8), -(-size[1] // 8))
    torch.testing.assert_close(whole, torch.stack(each, dim=1), rtol=1e-3, atol=1e-3)
    assert state[1].shape == (2, 8, *whole.shape[-2:])


def test_the_first_frame_is_the_static_networks_and_the_past_matters_later(network):
    clips = torch.randn(2, 3, 3, 72, 88)
    start, end = clips.clone(), clips.clone()
    start[:, 0], end[:, 2] = 1.0, 1.0
    network.eval()
    with torch.inference_mode():
        scores, start, end = (network(frames) for frames in (clips, start, end))
        static = network.static(clips[:, 0])
    assert apart(scores[:, 0], static) < 1e-3
    assert apart(start[:, 1], scores[:, 1]) > 0.05
    assert apart(start[:, 2], scores[:, 2]) > 0.05
    assert apart(end[:, :2], scores[:, :2]) < 1e-3


def test_a_following_frame_costs_encoder_cell_and_classifier(network):
    images, network = torch.randn(1, 3, 72, 88), network.eval()
    with torch.inference_mode():
        features = network.static.body(images)
        _, (c5, dec) = network.first(images)
        parts = [
            count(network.static.body, images),
            count(network.cell, features, {"C5": c5, "dec": dec}),
            count(network.static.decoder.classifier, dec),
        ]
        whole = count(Following(network), images, c5, dec)
        (scores, state), found = network.following(images, (c5, dec)), Following(network)(images, c5, dec)
    assert whole.macs == sum(part.macs for part in parts)
    for value, expected in zip(found, (scores, *state), strict=True):
        assert torch.equal(value, expected)


def test_the_last_frames_loss_trains_encoder_cell_and_classifier(network):
    network.train().zero_grad()
    network(torch.randn(2, 3, 3, 64, 64))[:, -1].square().mean().backward()
    for part in (network.static.body, network.cell, network.static.decoder.bottleneck):  # the last by the first frame
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in part.parameters() if p.dim() == 4)


def test_auxiliary_scores_are_given_beside_the_own(network):
    static = build_segmenter(ARCH2, "tiny", num_classes=4, width=8, auxiliary=True)
    images = torch.randn(2, 3, 64, 64)
    scores = static.train().training_outputs(images)
    assert [tuple(x.shape) for x in scores[:2]] == [(2, 4, 8, 8)] * 2
    assert len(scores) == 4
    assert len(static.eval().training_outputs(images)) == 1


@pytest.mark.parametrize("architecture", [ARCH2, chain()], ids=["arch2", "cell"])
def test_batch_norm_is_trained_whatever_the_encoder_s_weights(architecture, tmp_path):
    """One network in every job: with the encoder's weights in static training, without where all are loaded later."""
    scratch = build_segmenter(architecture, "resnet50", "none")
    path = tmp_path / "encoder.safetensors"
    encoder = getattr(scratch, "static", scratch).body.state_dict()
    safetensors.torch.save_file({name: value for name, value in encoder.items() if "num_batches" not in name}, path)
    trained = build_segmenter(architecture, "resnet50", str(path))
    assert list(trained.state_dict()) == list(scratch.state_dict())
    assert not any(isinstance(module, FrozenBatchNorm2d) for module in trained.modules())
    assert all(parameter.requires_grad for parameter in trained.parameters())


def test_upsampling_is_bilinear_with_half_pixel_centres():
    scores = torch.tensor([[[[0.0, 8.0]]]])
    assert upsample(scores, (1, 8)).flatten().tolist() == [0, 0, 1, 3, 5, 7, 8, 8]


def test_weights_of_frozen_batch_norm_have_no_counts_and_are_read(tmp_path):
    trained = shaken(build_segmenter(Architecture.of("arch2", ()), "tiny", num_classes=3, width=8))
    state = {name: value for name, value in trained.state_dict().items() if "num_batches_tracked" not in name}
    safetensors.torch.save_file(state, tmp_path / "weights.safetensors")
    other = build_segmenter(Architecture.of("arch2", ()), "tiny", num_classes=3, width=8)
    load_weights(other, tmp_path / "weights.safetensors")
    images = torch.rand(1, 3, 64, 64)
    assert torch.equal(other.eval()(images), trained.eval()(images))
    del state["decoder.classifier.bias"]
    safetensors.torch.save_file(state, tmp_path / "weights.safetensors")
    with pytest.raises(InputError, match=r"the weights of 'decoder.classifier.bias' are missing"):
        load_weights(other, tmp_path / "weights.safetensors")
