"""The key-value cache: what decoding remembers of the tokens before, in memory that is set aside once."""

import torch
from torch import Tensor
from torch._C._functorch import is_batchedtensor

from .shapes import under_jit_trace
from .validation import check_dense


class KVCache:
    """Keys (B, Hkv, T, D) and values (B, Hkv, T, Dv) of up to ``capacity`` tokens; appending copies the new ones only.

    It is for decoding and holds no gradients. Without ``dtype`` and ``device`` it takes torch's defaults.

    Args:
        batch: sequences, which grow together.
        n_kv_heads: key and value heads.
        capacity: the most tokens it can hold.
        head_size: D.
        value_size: Dv; None means D.
        dtype: of keys and values alike.
        device: of keys and values alike.

    Raises:
        ValueError: a size below 1.

    """

    def __init__(
        self,
        batch: int,
        n_kv_heads: int,
        capacity: int,
        head_size: int,
        *,
        value_size: int | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        sizes = (batch, n_kv_heads, capacity, head_size)
        value_size = head_size if value_size is None else value_size
        if min(*sizes, value_size) < 1:
            raise ValueError(
                "batch, n_kv_heads, capacity, head_size and value_size must be at least 1; "
                f"saw {', '.join(map(str, (*sizes, value_size)))}"
            )
        # A tensor made in inference mode could never be written to outside of it.
        with torch.inference_mode(False):  # noqa: FBT003  # torch.compile does not know it by name
            self._keys = torch.empty(sizes, dtype=dtype, device=device)
            self._values = torch.empty((*sizes[:3], value_size), dtype=dtype, device=device)
        self._length = 0

    @property
    def capacity(self) -> int:
        """The most tokens it can hold."""
        return self._keys.shape[2]

    @property
    def length(self) -> int:
        """How many tokens it holds."""
        return self._length

    @property
    def keys(self) -> Tensor:
        """The keys so far (B, Hkv, length, D): a view."""
        return self._keys[:, :, : self._length]

    @property
    def values(self) -> Tensor:
        """The values so far (B, Hkv, length, Dv): a view."""
        return self._values[:, :, : self._length]

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Add the keys (B, Hkv, T, D) and values (B, Hkv, T, Dv) of T more tokens; returns views of all so far.

        Raises:
            ValueError: they do not fit, are not dense, or are not of the cache's shape, dtype and device.
            NotImplementedError: they require a gradient, or are torch.func.vmap's or torch.jit.trace's.

        """
        check_dense(k=k, v=v)
        for name, new, own in (("k", k, self._keys), ("v", v, self._values)):
            want = (*own.shape[:2], k.shape[-2] if k.dim() > 1 else 0, own.shape[3])
            if new.shape != want or new.dtype != own.dtype or new.device != own.device:
                raise ValueError(
                    f"{name} must be (B, Hkv, T, size) = ({own.shape[0]}, {own.shape[1]}, T, {own.shape[3]}) in "
                    f"{own.dtype} on {own.device}, with one T for k and v, to join the cache; saw k {tuple(k.shape)}, "
                    f"v {tuple(v.shape)}, {name} in {new.dtype} on {new.device}: make such a cache, as make_cache "
                    "does under the same autocast"
                )
        if torch.is_grad_enabled() and (k.requires_grad or v.requires_grad):
            raise NotImplementedError("KVCache does not support a backward pass: decode under torch.no_grad()")
        if under_jit_trace():
            raise NotImplementedError("KVCache does not support torch.jit.trace, which would keep the example's length")
        if is_batchedtensor(k) or is_batchedtensor(v):
            raise NotImplementedError("KVCache does not support torch.func.vmap: give it a batch of sequences")
        start, end = self._length, self._length + k.shape[2]
        if end > self.capacity:
            raise ValueError(
                f"the cache holds {start} of at most {self.capacity} tokens and {k.shape[2]} more do not fit: "
                "make it with a larger capacity"
            )
        self._keys[:, :, start:end] = k
        self._values[:, :, start:end] = v
        self._length = end
        return self.keys, self.values

    def truncate(self, length: int) -> None:
        """Forget all tokens after the first ``length``; 0 empties it for another sequence.

        Raises:
            ValueError: it does not hold so many.

        """
        if not 0 <= length <= self._length:
            raise ValueError(f"a cache of {self._length} tokens cannot be cut to {length}: give 0 to {self._length}")
        self._length = length


def check_cache(cache: object) -> None:
    """Raise ValueError unless it is a ``KVCache``."""
    if not isinstance(cache, KVCache):
        raise ValueError(  # noqa: TRY004  # as for every other input that is refused
            f"a cache must be a KVCache, as make_cache makes one; saw a {type(cache).__name__}"
        )
