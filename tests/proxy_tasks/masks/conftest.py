import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread():
    """The tensors are tiny: on a busy machine a second thread is waited for longer than it helps."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
