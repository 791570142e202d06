"""Checks the inputs of kernels and modules; a ValueError quotes the shapes, dtypes or devices that do not match."""

import sys
from numbers import Real
from typing import Any

import torch
from torch import Tensor
from torch.masked import MaskedTensor


def check_inputs(  # noqa: C901, PLR0912  # one line a rule
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    *,
    causal: bool,
    window: int | None = None,
    softcap: float | None = None,
    sinks: Tensor | None = None,
) -> tuple[bool, bool]:
    """Raise ValueError unless q (B, Hq, Tq, D), k (B, Hkv, Tk, D), v (B, Hkv, Tk, Dv) and the options go together.

    Returns two flags: whether queries are grouped (Hq != Hkv), and whether values have another head size (Dv != D).
    """
    if not type(q) is type(k) is type(v) is Tensor or not q.layout is k.layout is v.layout is torch.strided:
        check_dense(q=q, k=k, v=v)
    try:
        q_shape, k_shape, v_shape = q.shape, k.shape, v.shape  # each read is a call into torch
    except (
        RuntimeError
    ):  # a nested tensor has no shape; asking each tensor whether it is nested would cost more than this
        check_dense(q=q, k=k, v=v)
        raise
    if not len(q_shape) == len(k_shape) == len(v_shape) == 4:
        raise ValueError(f"q, k and v must have four dimensions (batch, heads, tokens, head size); {_seen(q, k, v)}")
    batch, n_heads, n_queries, head_size = q_shape
    kv_batch, n_kv_heads, n_keys, key_size = k_shape
    if v_shape != k_shape and v_shape[:3] != k_shape[:3]:
        raise ValueError(f"k and v must agree in batch, heads and tokens; {_seen(q, k, v)}")
    if batch != kv_batch or head_size != key_size:
        raise ValueError(f"q and k must agree in batch and head size; {_seen(q, k, v)}")
    if head_size == 0:
        raise ValueError(f"q and k must have a head size of at least 1; {_seen(q, k, v)}")
    if n_heads != n_kv_heads and (0 in (n_heads, n_kv_heads) or n_heads % n_kv_heads):
        raise ValueError(f"q's heads must be a multiple of k's heads; {_seen(q, k, v)}")
    if not q.dtype == k.dtype == v.dtype or not q.is_floating_point():
        raise ValueError(f"q, k and v must have one floating dtype; saw {q.dtype}, {k.dtype}, {v.dtype}")
    device = q.device
    if k.device != device or v.device != device:
        raise ValueError(f"q, k and v must be on one device; saw {q.device}, {k.device}, {v.device}")
    if causal is not True and causal is not False:
        check_causal(causal)
    if causal and n_queries > n_keys:
        raise ValueError(f"causal attention needs at least as many keys as queries; {_seen(q, k, v)}")
    if window is not None:
        _check_window(window)
    if softcap is not None and not (isinstance(softcap, int | float) and 0 < softcap <= sys.float_info.max):
        raise ValueError(f"softcap must be a number above zero, or None for no cap; saw {softcap!r}")
    if sinks is not None:
        _check_sinks(sinks, n_heads, device)
    if mask is not None:
        check_mask(mask, (batch, n_heads, n_queries, n_keys), device)
    return n_heads != n_kv_heads, v_shape[3] != head_size


def check_mask(mask: Tensor, scores_shape: tuple[int, int, int, int], device: torch.device) -> None:
    """Raise ValueError unless the mask is bool or floating, on the device, and broadcastable to (B, Hq, Tq, Tk)."""
    if type(mask) is not Tensor or mask.layout is not torch.strided or mask.is_nested:
        check_dense(mask=mask)
    if mask.dtype != torch.bool and not mask.is_floating_point():
        raise ValueError(f"mask must be bool (True = attend) or floating (added to the scores); saw {mask.dtype}")
    if mask.device != device:
        raise ValueError(f"mask must be on q's device {device}; saw {mask.device}")
    # By index: older torch cannot compile zip() of two lengths.
    fits = mask.dim() <= 4 and all(mask.shape[-i] in (1, scores_shape[-i]) for i in range(1, mask.dim() + 1))
    if not fits:
        raise ValueError(f"mask must broadcast to (B, Hq, Tq, Tk) = {scores_shape}; saw {tuple(mask.shape)}")


def check_dense(**tensors: Tensor) -> None:
    """Raise ValueError unless each is a plain, strided tensor: not nested, not sparse, not a MaskedTensor."""
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor) or isinstance(tensor, MaskedTensor):
            seen = type(tensor).__name__
        elif tensor.is_nested or tensor.layout is not torch.strided:
            seen = f"{'nested, ' if tensor.is_nested else ''}{tensor.layout}"
        else:
            continue
        raise ValueError(f"{name} must be a dense tensor; saw {seen}: make it dense, and hide padding by a mask")


def check_counts_known(kernel: str, q: Tensor, k: Tensor) -> None:
    """Raise NotImplementedError where an exporter treats the number of queries or keys as unknown."""
    if isinstance(q.shape[2], torch.SymInt) or isinstance(k.shape[2], torch.SymInt):
        raise NotImplementedError(
            f"kernel {kernel!r} does not support a dynamic number of tokens: fix the number, or export 'sdpa'"
        )


def check_causal(causal: object) -> None:
    """Raise ValueError unless causal is a bool, or an exporter's symbolic bool."""
    if not isinstance(causal, bool | torch.SymBool):
        raise ValueError(  # noqa: TRY004  # as for every other input that is refused
            f"causal must be True or False; saw {_shown(causal)}: give a mask as mask=..."
        )


def real(scale: Any) -> float:
    """Return a scale as a float, an exporter's number as it is; ValueError unless it is a number that a float can hold.

    A tensor is refused: no kernel computes its gradient.
    """
    if isinstance(scale, torch.SymInt | torch.SymFloat):
        return scale  # type: ignore[return-value]  # torch takes it for one
    try:
        if isinstance(scale, Real):  # NumPy's scalars and fractions, too
            return float(scale)
    except OverflowError:
        pass
    raise ValueError(
        f"scale must be a number, or None for 1 / sqrt(D); saw {_shown(scale)}: multiply q by it, and give scale=1.0"
    )


def check_tokens(x: Tensor, d_model: int, weight: Tensor | None = None) -> None:
    """Raise ValueError unless x is (B, T, d_model), floating, and of the dtype and device of the weight that it meets.

    Under autocast, it is enough that both are cast to one dtype; the device ``meta`` has no autocast.
    """
    if type(x) is not Tensor or x.layout is not torch.strided or x.is_nested:
        check_dense(x=x)
    if x.dim() != 3 or x.shape[-1] != d_model:
        raise ValueError(f"x must be (batch, tokens, {d_model}); saw {tuple(x.shape)}")
    if not x.is_floating_point():
        raise ValueError(f"x must be floating; saw {x.dtype}")
    if weight is None or (x.dtype is weight.dtype and x.device == weight.device):
        return
    if x.device != weight.device or (not x.is_meta and cast_dtype(x) != cast_dtype(weight)):
        raise ValueError(
            f"x must be {weight.dtype} on {weight.device}, as the weights are; saw {x.dtype} on {x.device}: "
            "move either with .to(...)"
        )


def cast_dtype(tensor: Tensor) -> torch.dtype:
    """Return the dtype that autocast casts a floating tensor to: its own where autocast is off, and float64 always."""
    device = tensor.device.type
    if tensor.dtype == torch.float64 or tensor.is_meta or not torch.is_autocast_enabled(device):
        return tensor.dtype
    return torch.get_autocast_dtype(device)


def _check_sinks(sinks: Tensor, n_heads: int, device: torch.device) -> None:
    check_dense(sinks=sinks)
    if sinks.shape != (n_heads,) or not sinks.is_floating_point() or sinks.device != device:
        raise ValueError(
            f"sinks must be floating, one for each of q's {n_heads} heads, on {device}; "
            f"saw {tuple(sinks.shape)}, {sinks.dtype}, {sinks.device}"
        )


def _check_window(window: object) -> None:
    if not isinstance(window, int) or isinstance(window, bool) or window < 1:
        raise ValueError(f"window must be a whole number from 1, or None for no window; saw {window!r}")


def _shown(value: object) -> str:
    return f"a tensor {tuple(value.shape)}" if isinstance(value, Tensor) else repr(value)[:80]


def _seen(q: Tensor, k: Tensor, v: Tensor) -> str:
    return f"saw q {tuple(q.shape)}, k {tuple(k.shape)}, v {tuple(v.shape)}"
