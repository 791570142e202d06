"""Attention kernels and multi-head modules: the code that the gate in ``bench/`` measures.

Every module of this package is imported here, so that a kernel registers itself: adding a kernel is adding a file.
"""

import importlib
import pkgutil

from .cache import KVCache
from .multihead import MultiHeadAttention, MultiHeadAttentionLoop
from .oracle import reference
from .parallel import TensorParallelAttention, tensor_parallel
from .registry import KERNELS, MODULES, Capabilities, Kernel, register
from .transformer import TinyTransformer, TransformerBlock

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f".{_module.name}", __name__)
for _name in sorted(KERNELS):  # sorted, so that the order does not depend on what imports what
    KERNELS[_name] = KERNELS.pop(_name)

__all__ = [
    "KERNELS",
    "MODULES",
    "Capabilities",
    "KVCache",
    "Kernel",
    "MultiHeadAttention",
    "MultiHeadAttentionLoop",
    "TensorParallelAttention",
    "TinyTransformer",
    "TransformerBlock",
    "reference",
    "register",
    "tensor_parallel",
]
