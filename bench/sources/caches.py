"""Where a side keeps what it compiles, so that nothing that one side has built or tuned is found by the other."""

import os
from pathlib import Path

NVIDIA = Path("/dev/nvidiactl")  # where the driver of a GPU is


def own_caches(folder: Path, *, on_gpu: bool) -> None:
    """Have torch and Triton keep in a folder what they compile for this process.

    Built where the other side's are, under the same name, C++ extensions would be built anew after the other's. Triton
    and Inductor keep which variants were fastest beside what they compile for a GPU. What Inductor compiles for a CPU
    depends on its text alone, and stays where every run finds it: it takes a compiler many seconds.
    """
    os.environ["TORCH_EXTENSIONS_DIR"] = str(folder / "extensions")
    if on_gpu:
        os.environ["TRITON_CACHE_DIR"] = str(folder / "triton")
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder / "inductor")
