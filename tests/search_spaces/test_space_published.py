import re

import pytest

import search_spaces
from experiments import published
from search_spaces import Architecture, InputError
from search_spaces.fcos.choices import join, split

SPACES = {
    "nas_fcos": "fcos_decoder_c2",
    "nas_fcos_fpn": "fcos_fpn_c2",
    "nas_fcos_head": "fcos_head",
    "fpn_fcos": "fpn_fcos",
    "deform_fpn_fcos": "deform_fpn_fcos",
    "fpn_retinanet": "fpn_retinanet",
    "arch2": "arch2",
    "fpn_like": "fcos_decoder",
    "fpn_like_fpn": "fcos_fpn",
    "fpn_like_head": "fcos_head",
    "fpn_linear": "fcos_decoder_linear",
    "fpn_linear_fpn": "fcos_fpn_linear",
    "htc": "mask_head",
    "htca_if": "mask_head",
    "htca_c": "mask_head",
    "htca_d": "mask_head",
    "mask_rcnn": "mask_head_single",
    "centermask": "mask_head_single",
}


def test_names_and_spaces():
    assert {name: published.load(name).space.name for name in published.names()} == SPACES


def test_the_whole_is_its_parts():
    fpn, head = published.load("nas_fcos_fpn"), published.load("nas_fcos_head")
    assert split(published.load("nas_fcos")) == (fpn, head)
    assert join(fpn, head) == published.load("nas_fcos")
    head = published.load("fpn_like_head")
    assert split(published.load("fpn_like")) == (published.load("fpn_like_fpn"), head)
    assert split(published.load("fpn_linear")) == (published.load("fpn_linear_fpn"), head)


def test_published_head():
    named = published.load("nas_fcos_head").named
    assert list(named.values()) == ["dconv3x3", "conv3x3", "dconv3x3", "conv1x1", "skip", "skip", "0"]


def test_unknown_name():
    with pytest.raises(
        InputError,
        match=re.escape("'nas_fco'; known: arch2, centermask, deform_fpn_fcos, fpn_fcos, fpn_like, fpn_like_fpn, "),
    ):
        published.load("nas_fco")


@pytest.mark.parametrize("decoder", ["fcos_decoder", "fcos_decoder_c2"])
def test_split_and_join_are_inverse(decoder):
    space = search_spaces.get(decoder)
    architecture = space.architecture([len(c.options) - 1 for c in space.choices])
    fpn, head = split(architecture)
    assert fpn.space.name == decoder.replace("decoder", "fpn")
    assert fpn.named | head.named == architecture.named
    assert join(fpn, head) == architecture


def test_split_and_join_refuse_other_spaces():
    fpn, head = published.load("nas_fcos_fpn"), published.load("nas_fcos_head")
    with pytest.raises(
        InputError, match=r"architectures of fcos_decoder, fcos_decoder_c2, .* can be split, got one of 'fcos_head'"
    ):
        split(head)
    for parts in ((head, fpn), (fpn, fpn), (Architecture.of("fpn_fcos", ()), head)):
        with pytest.raises(
            InputError, match=r"a decoder is joined of one of fcos_fpn, fcos_fpn_c2, .* and fcos_head, got"
        ):
            join(*parts)
