"""Tensor-parallel multi-head attention: whole heads shared out among processes, by DTensor's column and row plan."""

import copy
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from .cache import KVCache, check_cache
from .multihead import MultiHeadAttention, attend_projected
from .shapes import under_jit_trace
from .validation import cast_dtype, check_mask, check_tokens

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh


@torch.inference_mode(mode=False)
def tensor_parallel(module: MultiHeadAttention, mesh: "DeviceMesh") -> "TensorParallelAttention":
    """Share out the heads of a module among the processes of a mesh; every process calls it, and has the same module.

    The weights are those of the mesh's first process. The module itself is left as it is.

    Raises:
        ValueError: a mesh of more than one dimension, or a size that does not divide the query heads and the key heads.
        NotImplementedError: something is attached to the module (hooks, an adapter, a parametrization, pruning,
            quantized weights), or this build of torch has no ``torch.distributed``.

    """
    if not torch.distributed.is_available():
        raise NotImplementedError("tensor_parallel needs torch.distributed, which this build of torch does not have")
    if mesh.ndim != 1:
        raise ValueError(f"the mesh must have one dimension, such as mesh['tp']; saw {mesh.ndim}")
    if module.n_heads % mesh.size() or module.n_kv_heads % mesh.size():
        raise ValueError(
            f"n_heads and n_kv_heads must be multiples of the mesh's size, for each process to hold whole heads; "
            f"saw {module.n_heads}, {module.n_kv_heads} and {mesh.size()}"
        )
    if attached := _attached(module):
        raise NotImplementedError(
            "tensor_parallel does not share out what is attached to a module: merge or remove it, or attach it to what "
            f"is returned; saw {', '.join(attached)}"
        )
    # Imported here: most users of the package have no need of it, and some builds of torch lack it.
    from torch.distributed.tensor.parallel import (  # noqa: PLC0415
        ColwiseParallel,
        RowwiseParallel,
        parallelize_module,
    )

    share = TensorParallelAttention(module, mesh.size(), mesh.get_local_rank())
    parallelize_module(share, mesh, {"in_proj": ColwiseParallel(), "out_proj": RowwiseParallel()})
    return share


def _attached(module: MultiHeadAttention) -> list[str]:
    """Name what the module holds besides its own weights: hooks, and parameters that something added or renamed."""
    own = {"in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias"}
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    hooked = [
        f"a hook on {name or 'the module'}"
        for name, part in module.named_modules()
        if any(getattr(part, kind) for kind in hooks)
    ]
    return hooked + sorted(set(module.state_dict()) - own)


class TensorParallelAttention(nn.Module):
    """One process's share of a ``MultiHeadAttention``; made by ``tensor_parallel``, and called like that module.

    Every process is given the same x and mask, and returns the same result. A step communicates once forward (the sum
    of the heads' outputs) and once backward (the gradient of x). Source: Shoeybi et al. 2019, Megatron-LM, section 3.
    """

    def __init__(self, module: MultiHeadAttention, ranks: int, rank: int) -> None:
        super().__init__()
        self.d_model, self.n_heads, self.head_size = module.d_model, module.n_heads, module.head_size
        self.kernel, self.rank = module.kernel, rank
        self.local_heads = (module.n_heads // ranks, module.n_kv_heads // ranks, module.head_size)
        # The fused rows of each process lie together, so that its part is one block: its queries, keys and values.
        parts = torch.arange(module.n_heads + 2 * module.n_kv_heads).split(
            (module.n_heads, module.n_kv_heads, module.n_kv_heads)
        )
        heads = torch.cat([part.view(ranks, -1) for part in parts], dim=1).flatten()  # (H + 2 Hkv)
        self.rows = (heads[:, None] * self.head_size + torch.arange(self.head_size)).flatten()  # in the module
        weight, bias = module.in_proj_weight.detach(), module.in_proj_bias
        self.in_proj = nn.Linear(self.d_model, len(self.rows), bias=bias is not None, device="meta")
        self.in_proj.weight = nn.Parameter(weight[self.rows])
        if bias is not None:
            self.in_proj.bias = nn.Parameter(bias.detach()[self.rows])
        self.out_proj = copy.deepcopy(module.out_proj)

    def forward(
        self, x: Tensor, mask: Tensor | None = None, causal: bool = False, cache: KVCache | None = None
    ) -> Tensor:
        """Attend among the tokens of x (B, T, E) -> (B, T, E); mask, causal and cache as ``MultiHeadAttention``'s."""
        check_tokens(x, self.d_model)
        if under_jit_trace():
            raise NotImplementedError(
                "TensorParallelAttention does not support torch.jit.trace: trace the module that it was made from"
            )
        if cache is not None:
            check_cache(cache)
        if mask is not None:
            mask = self._own_part(mask, x, 0 if cache is None else cache.length)
        qkv = self.in_proj(x)  # (B, T, E + 2 Hkv D, divided by the processes)
        out: Tensor = self.out_proj(
            attend_projected(self.kernel, qkv, self.local_heads, mask, causal=causal, cache=cache)
        )
        return out

    def make_cache(self, batch: int, capacity: int) -> KVCache:
        """Make an empty cache for this process's heads; as ``MultiHeadAttention.make_cache``."""
        weight = self.in_proj.weight
        _, n_kv_heads, head_size = self.local_heads
        return KVCache(batch, n_kv_heads, capacity, head_size, dtype=cast_dtype(weight), device=weight.device)

    def gather(self, *, gradients: bool = False) -> dict[str, Tensor]:
        """Put the parameters together, or their gradients, as the module's state dict; every process calls it."""
        whole = {}
        for name, parameter in self.named_parameters():
            tensor = parameter.grad if gradients else parameter.detach()
            assert tensor is not None  # whoever asks for gradients has called backward
            full: Tensor = tensor.full_tensor()  # type: ignore[attr-defined]  # a DTensor, since parallelize_module
            whole[name] = full[self.rows.argsort()] if name.startswith("in_proj.") else full
        return {name.replace("in_proj.", "in_proj_"): tensor for name, tensor in whole.items()}

    def _own_part(self, mask: Tensor, x: Tensor, cached: int) -> Tensor:
        """Cut a mask to this process's heads where it has one for each."""
        batch, tokens, _ = x.shape
        check_mask(mask, (batch, self.n_heads, tokens, cached + tokens), x.device)
        if mask.requires_grad:
            raise NotImplementedError("TensorParallelAttention does not support a mask that requires a gradient")
        if mask.dim() < 3 or mask.shape[-3] == 1:
            return mask
        n_heads = self.local_heads[0]
        return mask.narrow(-3, self.rank * n_heads, n_heads)
