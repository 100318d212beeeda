"""Algorithms 1 to 4 of the thesis, written down line by line for one stage t and the RoIs of that stage.

`attended` is every tensor that the spatial attention module is given, by the name that the algorithms have for it.
"""

import torch
import torch.nn.functional as F


def sam(x, module):
    """Eq. 2.9 and 2.10, position by position."""
    weight, out = module.conv.weight, torch.empty_like(x)
    mean, most = x.mean(dim=1), x.max(dim=1).values
    n, _, height, width = x.shape
    for i in range(n):
        for row in range(height):
            for column in range(width):
                total = 0.0
                for dy in (-1, 0, 1):
                    for dx in (-1, 0, 1):
                        y, z = row + dy, column + dx
                        if 0 <= y < height and 0 <= z < width:
                            total += weight[0, 0, dy + 1, dx + 1] * mean[i, y, z]
                            total += weight[0, 1, dy + 1, dx + 1] * most[i, y, z]
                out[i, :, row, column] = torch.sigmoid(total) * x[i, :, row, column]
    return out


def four_convolutions(stage, x):
    for layer in stage.convs:
        x = F.relu(F.conv2d(x, layer[0].weight, layer[0].bias, padding=1))
    return x


def deconvolution_and_prediction(stage, x):
    x = F.relu(F.conv_transpose2d(x, stage.deconv.weight, stage.deconv.bias, stride=2))
    return F.conv2d(x, stage.predict.weight, stage.predict.bias)


def algorithm(number, branch, t, pyramid, semantic):
    """m_t by algorithm ``number`` (1 HTC, 2 HTCA-IF, 3 HTCA-C, 4 HTCA-D), and what attention touched."""
    attended = {}

    def attention(name, place, stage, x):
        attended[name] = x
        return sam(x, stage.attention[place])

    x_mask = pyramid + semantic
    flowing = None
    for i in range(t + 1):
        stage = branch.stages[i]
        x = x_mask
        if i > 0:
            if number == 2:
                flowing = attention(f"m-{i - 1}", "flow", stage, flowing)
            x = x + F.conv2d(flowing, stage.flow.weight, stage.flow.bias)
        split = four_convolutions(stage, x)
        if number == 3:
            split = attention(f"m-{i}", "convs", stage, split)
        flowing = split
    if number == 4:
        split = attention(f"m-{t}", "deconv", branch.stages[t], split)
    return deconvolution_and_prediction(branch.stages[t], split), attended
