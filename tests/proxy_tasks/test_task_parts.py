"""How a set is cut where it is scored."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from proxy_tasks.training import in_parts


def images_at_once(batch):
    """Of torchvision's deformable convolution: the batch's largest divisor up to 32."""
    return max(divisor for divisor in range(1, 33) if batch % divisor == 0)


@given(count=st.integers(0, 2000), size=st.integers(1, 300))
def test_all_rows_in_order_in_parts_that_deformable_convolution_can_split(count, size):
    indices = np.arange(7, 7 + count)
    parts = in_parts(indices, size)
    assert np.concatenate([np.empty(0, dtype=int), *parts]).tolist() == indices.tolist()
    assert all(0 < len(part) <= size for part in parts)
    assert all(images_at_once(len(part)) == min(len(part), 32) for part in parts)
    assert len(parts) <= -(-count // max(1, size - size % 32 if size > 32 else size)) + 1


def test_the_published_meta_val():
    assert [len(part) for part in in_parts(np.arange(1715), 200)] == [192] * 8 + [160, 19]
