"""Ways to make a training step faster that PyTorch offers, beside the step as it is.

    python benchmarks/step_variants.py [--crop 128] [--batch-size 16] [--width 32]

A step is that of ``proxy_step.py`` of two published decoders and of one that is drawn. bfloat16 is automatic mixed
precision; with deformable convolutions, which have no such kernel, it is left out. Compiled is `torch.compile` of the
decoder; its first step, which compiles, is told apart, since every candidate of a search is another network.
"""

import argparse
from functools import partial

import numpy as np
import torch
from proxy_step import built, steps

import search_spaces
from experiments import published
from search_spaces.parts.deform_conv import DeformConv3x3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--backbone", default="mobilenet_v2")
    parser.add_argument("--crop", type=int, default=128)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=10)
    given = parser.parse_args()
    given.head_width = given.width
    candidates = {name: published.load(name) for name in ("fpn_fcos", "nas_fcos")}
    candidates["drawn"] = search_spaces.get("fcos_decoder").sample(np.random.default_rng(0))
    print(f"{given.crop} px, batch {given.batch_size}, width {given.width}, {torch.get_num_threads()} threads")
    print("| decoder | way | first step, s | a step, s | first loss |\n| --- | --- | --- | --- | --- |")

    def row(name: str, way: str, figures: tuple[float, float, float]) -> None:
        first, step, loss = figures
        print(f"| {name} | {way} | {first:.2f} | {step:.4f} | {loss:.5f} |", flush=True)

    for name, architecture in candidates.items():
        decoder = built(architecture, given)
        row(name, "float32", steps(decoder, given))
        if not any(isinstance(module, DeformConv3x3) for module in decoder.modules()):
            bfloat16 = partial(torch.autocast, "cpu", torch.bfloat16)
            row(name, "bfloat16", steps(built(architecture, given), given, precision=bfloat16))
        torch.compiler.reset()
        row(name, "compiled", steps(torch.compile(built(architecture, given)), given))


if __name__ == "__main__":
    main()
