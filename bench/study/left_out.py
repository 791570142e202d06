"""What the write-ups list as missing, and where it is in this repository: looked up, so that it stays true."""

import pkgutil
from collections.abc import Iterable
from dataclasses import dataclass

import attention


@dataclass(frozen=True)
class LeftOut:
    """Something a write-up left out. It is here if a registered name or a file of ``attention/`` has one of the words.

    ``seen`` says where it shows; ``nothing`` stands where no name matches.
    """

    what: str
    words: tuple[str, ...]
    seen: str
    nothing: str = "not in this version"


LEFT_OUT = (
    LeftOut("multi-head attention", ("mha", "multihead"), "tables B1 to B3"),
    LeftOut("a standard block", ("transformer", "block_", "encoder", "decoder"), "forward and backward, modules"),
    LeftOut(
        "FlashAttention kernels",
        ("flash",),
        "every kernel",
        "no kernel of its own; PyTorch's is what sdpa runs where it can, as every fingerprint shows",
    ),
    LeftOut("several GPUs, several nodes", ("ring", "distributed", "parallel"), "the modules themselves"),
    LeftOut("tensor parallelism", ("tensor_parallel", "tensorparallel", "parallel"), "the modules themselves"),
    LeftOut("sparse attention", ("sparse", "sliding", "window", "flex"), "every kernel"),
    LeftOut(
        "long context (more than 32k)",
        ("blockwise", "ring", "flash"),
        "long context",
        "no kernel of its own; sdpa's memory does not grow with T^2",
    ),
    LeftOut("the compiled version as a kernel", ("compiled",), "tables A2 and A3"),
)


def names() -> list[str]:
    """Every kernel, module and file of the package."""
    files = [f"attention/{module.name}.py" for module in pkgutil.iter_modules(attention.__path__)]
    return [*attention.KERNELS, *attention.MODULES, *files]


def rows(present: Iterable[str], backward: Iterable[str]) -> list[tuple[str, str, str]]:
    """Say for each thing left out what is here of it, and where it shows; ``backward`` names kernels that have one."""
    present = list(present)
    found = []
    for each in LEFT_OUT:
        here = [name for name in present if any(_is_word(word, name) for word in each.words)]
        found.append((each.what, ", ".join(here) or each.nothing, each.seen if here else "-"))
    found.append(("the backward pass", ", ".join(backward) or "not in this version", "forward and backward"))
    return found


def _is_word(word: str, name: str) -> bool:
    """Whether the word is part of the name, and not only of a longer word where it is as short as "ring"."""
    stem = name.removeprefix("attention/").removesuffix(".py")
    return word in stem.split("_") if len(word) <= 4 else word in stem


def with_backward() -> list[str]:
    return [name for name, kernel in attention.KERNELS.items() if kernel.capabilities.backward]
