"""The samples of a deformable convolution and their gradients, as machine code for CPUs.

Notation as in `search_spaces.parts.deform_conv`: T = k·k taps, c = C/G channels in a group, H'×W' output positions. A
table is a batch of maps with a border of zeros one pixel wide, (N, H + 2, W + 2, G, c); a corner of a sample further
out than the border is moved onto it, so that it counts for nothing. Columns are the samples, (N, H', W', G, T, c).

Numba compiles a kernel for each dtype when it is first used, which takes some seconds, and keeps the code on disk. The
kernels run in one thread: more would wait for those of PyTorch's products, which spin, and took longer (2 cores).
"""

import math
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numba
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["Sampling"]

POSITIONS_AT_ONCE = 1024
"""Positions that are sampled before the matrix product: their columns (C·T floats each) stay in the cache."""
# sums may be taken in any order, which lets the compiler use vectors; infinities and what is no number stay as they are
OPTIONS = {"nogil": True, "error_model": "numpy", "fastmath": {"contract", "nsz", "reassoc"}}


class Sampling:
    """The samples of a batch as the rows of a matrix product, taken portion by portion in memory that is used again.

    Args:
        x: (N, C, H, W).
        offset: (N, 2·G·T, H', W'), pixels.
        mask: (N, G·T, H', W').
        k: the number of taps along each side.
        padding: zeros on each side, in pixels.
        dilation: spacing of the taps, in pixels.
    """

    def __init__(self, x: Tensor, offset: Tensor, mask: Tensor, k: int, padding: int, dilation: int):
        n, _, height, width = mask.shape
        groups, channels = mask.shape[1] // (k * k), x.shape[1]
        self._grid = _grid(k, padding, dilation)
        table = F.pad(x.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1)).contiguous()
        offsets, masks = (value.permute(0, 2, 3, 1).contiguous() for value in (offset, mask))
        self._inputs = table, offsets, masks
        self._shapes = (groups, channels // groups), (groups, k * k, 2), (groups, k * k)
        self._sample = height, width, groups, k * k, channels // groups
        self._at_once = max(1, min(n, POSITIONS_AT_ONCE // (height * width)))

    def product(self, matrix: Tensor, bias: Tensor, y: Tensor) -> None:
        """Samples times the transpose of a matrix, plus a bias.

        Args:
            matrix: (O, C·T), its columns by group, tap and channel of the group.
            bias: (O,).
            y: (N, H', W', O), overwritten.
        """
        columns, by_tap = self._columns(matrix)
        inputs = self._arrays(self._inputs)
        for images in self._portions():
            rows = y[images].flatten(0, 2)
            _sample(*self._grid, *(value[images] for value in inputs), by_tap, None)
            torch.addmm(bias, columns[: len(rows)], matrix.t(), out=rows)

    def backward(self, gradient: Tensor, matrix: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The gradients of ``x``, ``offset``, the matrix and ``mask`` from that of the product.

        The samples are taken once more: to keep nine values for each of the map's would cost more memory and time.
        """
        table, offsets, masks = self._inputs
        found = torch.zeros_like(table), torch.empty_like(offsets), torch.empty_like(masks)
        of_matrix = torch.zeros_like(matrix)
        (columns, by_tap), (of_columns, of_by_tap) = self._columns(matrix), self._columns(matrix)
        inputs, of_inputs = self._arrays(self._inputs), self._arrays(found)
        for images in self._portions():
            rows = gradient[images].flatten(0, 2)
            torch.mm(rows, matrix, out=of_columns[: len(rows)])
            gradients = of_by_tap, *(value[images] for value in of_inputs)
            _sample(*self._grid, *(value[images] for value in inputs), by_tap, gradients)
            of_matrix.addmm_(rows.t(), columns[: len(rows)])
        of_x, of_offset, of_mask = (value.permute(0, 3, 1, 2) for value in (found[0][:, 1:-1, 1:-1], *found[1:]))
        return of_x.contiguous(memory_format=torch.channels_last), of_offset, of_matrix, of_mask

    def _portions(self) -> Iterator[slice]:
        """Images that are taken together."""
        n = len(self._inputs[0])
        return (slice(start, min(n, start + self._at_once)) for start in range(0, n, self._at_once))

    def _columns(self, like: Tensor) -> tuple[Tensor, np.ndarray]:
        """Memory for the samples of a portion: as a matrix (positions, C·T), and as kernels take it."""
        height, width, *rest = self._sample
        columns = like.new_empty(self._at_once * height * width, math.prod(rest))
        return columns, columns.numpy().reshape(-1, *self._sample)

    def _arrays(self, values: tuple[Tensor, ...]) -> list[np.ndarray]:
        """Table, offsets and masks as kernels take them."""
        return [
            value.numpy().reshape(*value.shape[:3], *shape) for value, shape in zip(values, self._shapes, strict=True)
        ]


@cache
def _grid(k: int, padding: int, dilation: int) -> tuple[np.ndarray, np.ndarray]:
    """Where taps are along y and x, from a position without an offset."""
    taps = np.arange(k * k)
    return taps // k * dilation - padding, taps % k * dilation - padding


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function`` compiled when it is called, with its code kept on disk where there is a place for it."""
    try:
        return numba.njit(cache=True, **OPTIONS)(function)
    except RuntimeError:  # neither this file's folder nor the user's own can be written
        return numba.njit(**OPTIONS)(function)


@numba.njit(inline="always")
def _bordered(place: float, size: int) -> int:
    """The row or column of the table for the whole number ``place`` on the map; the border's for one further out.

    Compared as a float: an integer has no place for what is too large, or no number.
    """
    inside = place if place > -1 else -1
    return int(inside if inside < size else size) + 1


@numba.njit(inline="always")
def _bilinear(offset: np.ndarray, i: int, j: int, mask: float, height: int, width: int) -> tuple[Any, ...]:
    """Rows above and below, columns left and right of (i, j) + offset, how far it is from the first, four shares."""
    number = offset.dtype.type
    y, x = offset[0] + number(i), offset[1] + number(j)
    top, left = np.floor(y), np.floor(x)
    down, right = y - top, x - left
    lower = mask * down
    upper = mask - lower
    upper_right, lower_right = upper * right, lower * right
    rows = _bordered(top, height), _bordered(top + 1, height)
    columns = _bordered(left, width), _bordered(left + 1, width)
    return rows, columns, (down, right), (upper - upper_right, upper_right, lower - lower_right, lower_right)


@_compiled
def _sample(
    grid_y: np.ndarray,
    grid_x: np.ndarray,
    table: np.ndarray,
    offset: np.ndarray,
    mask: np.ndarray,
    columns: np.ndarray,
    gradients: tuple[np.ndarray, ...] | None,
) -> None:
    """Writes what is sampled, times the mask, to ``columns``, and where they are asked for the gradients.

    Args:
        grid_y: int64 (T,), where the taps are from a position without an offset.
        grid_x: the same along x.
        table: see above.
        offset: (n, H', W', G, T, 2), pixels along y and x.
        mask: (n, H', W', G, T).
        columns: see above; overwritten.
        gradients: that of the columns, and those of the table, which is added to, of the offset and of the mask, which
            are overwritten; None compiles a kernel without them.
    """
    number, height, width = table.dtype.type, table.shape[1] - 2, table.shape[2] - 2
    images, out_height, out_width, groups, taps = mask.shape
    for n in range(images):
        for i in range(out_height):
            for j in range(out_width):
                for g in range(groups):
                    for t in range(taps):
                        at, m = offset[n, i, j, g, t], mask[n, i, j, g, t]
                        rows, cols, far, shares = _bilinear(at, i + grid_y[t], j + grid_x[t], m, height, width)
                        a, b = table[n, rows[0], cols[0], g], table[n, rows[0], cols[1], g]
                        c, d = table[n, rows[1], cols[0], g], table[n, rows[1], cols[1], g]
                        column = columns[n, i, j, g, t]
                        for z in range(len(column)):
                            column[z] = shares[0] * a[z] + shares[1] * b[z] + shares[2] * c[z] + shares[3] * d[z]
                        if gradients is not None:
                            of_columns, of_table, of_offset, of_mask = gradients
                            of_column, (down, right) = of_columns[n, i, j, g, t], far
                            of_a = of_b = of_c = of_d = number(0)  # the gradients of the shares
                            for z in range(len(column)):
                                of_a += of_column[z] * a[z]
                                of_b += of_column[z] * b[z]
                                of_c += of_column[z] * c[z]
                                of_d += of_column[z] * d[z]
                            for corner in range(4):  # one after the other: on the border they may be one
                                to = of_table[n, rows[corner // 2], cols[corner % 2], g]
                                for z in range(len(column)):
                                    to[z] += shares[corner] * of_column[z]
                            upper, lower = of_a + right * (of_b - of_a), of_c + right * (of_d - of_c)
                            before, behind = of_a + down * (of_c - of_a), of_b + down * (of_d - of_b)
                            of_mask[n, i, j, g, t] = upper + down * (lower - upper)
                            of_offset[n, i, j, g, t, 0] = m * (lower - upper)
                            of_offset[n, i, j, g, t, 1] = m * (behind - before)
