"""How scaled_dot_product_attention is called: the arguments that decide which backend serves it."""

from collections.abc import Callable, Iterable
from typing import Any

from torch.overrides import TorchFunctionMode

from ..plain.execution import SdpaCall

_ARGUMENTS = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")  # by position


def sdpa_calls(call: Callable[[], object]) -> tuple[SdpaCall, ...]:
    """Run the call and return the different ways in which it calls SDPA, in order.

    It should be a call that nothing else is taken from: torch's modules leave their fast path where a function mode is
    active.
    """
    with _Calls() as mode:
        call()
    return tuple(dict.fromkeys(mode.seen))


class _Calls(TorchFunctionMode):
    """Notes the calls, by whichever name SDPA is reached."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[SdpaCall] = []

    def __torch_function__(
        self, func: Any, types: Iterable[Any], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__name__", "") == "scaled_dot_product_attention":
            self.seen.append(_read(dict(zip(_ARGUMENTS, args, strict=False)) | kwargs))
        return func(*args, **kwargs)


def _read(given: dict[str, Any]) -> SdpaCall:
    q, k, v = (given[name] for name in _ARGUMENTS[:3])
    mask = given.get("attn_mask")
    return SdpaCall(
        tuple(q.shape),
        tuple(k.shape),
        tuple(v.shape),
        last_strides=tuple(tensor.stride(-1) for tensor in (q, k, v)),
        dtype=str(q.dtype).removeprefix("torch."),
        mask=None if mask is None else tuple(mask.shape),
        mask_dtype=None if mask is None else str(mask.dtype).removeprefix("torch."),
        mask_requires_grad=mask is not None and mask.requires_grad,
        dropout=given.get("dropout_p", 0.0),
        causal=given.get("is_causal", False),
        grouped=given.get("enable_gqa", False),
        device=q.device.type,
    )
