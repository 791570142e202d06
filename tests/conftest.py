"""What every test needs: one thread each, so that parallel workers do not fight for the cores."""

import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)
