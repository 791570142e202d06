"""The work that a case asks for by its formula: floating-point operations, and the least bytes moved."""

from math import prod

from ..plain.execution import Cost
from .cases import DTYPES, Case

# The backward pass has five matrix products (Dao 2023, "FlashAttention-2", section 4): the scores anew, dQ and dK, of
# length D, and dV and dP, of Dv. A projection's backward pass has two (dX, dW) to its one.
FORWARD_PRODUCTS, BACKWARD_PRODUCTS = (1, 1), (3, 2)
PROJECTION_BACKWARD = 2


def cost_of(case: Case, d_feedforward: int = 0) -> Cost:
    """Return the operations and bytes of one call, backward pass included where the case has one.

    Attention forward: ``2 B H pairs (D + Dv)``, which is ``4 B H Tq Tk D`` where Dv = D and every query sees every key
    (Dao 2023, section 4, which halves it under causal; here the pairs that causal and windows show are counted). A mask
    given as a tensor counts as full: what it hides is data. Softmax, scaling and masking are left out, as they are
    there. A module adds its projections of E = H D features, ``2 B T E (E + 2 Hkv D)`` and ``2 B T E E``, a Transformer
    block also its feed-forward layer of that width F, ``4 B T E F``.

    Bytes: inputs, mask and output once each, and with a backward pass the gradient that comes in and those that go out.
    """
    shape = case.shape
    pairs = visible_pairs(shape.queries, shape.keys, causal=case.hiding.causal, window=case.hiding.window)
    passes = [FORWARD_PRODUCTS, BACKWARD_PRODUCTS][: 1 + case.backward]
    lengths = sum(of_d * shape.head_size + of_dv * shape.value_size for of_d, of_dv in passes)
    attention = 2 * shape.batch * shape.heads * pairs * lengths
    width = shape.heads * shape.head_size
    kv_width = shape.kv_heads * shape.head_size
    rows = shape.batch * shape.queries
    projections = 2 * rows * width * (2 * width + 2 * kv_width + 2 * d_feedforward) if case.module else 0
    if case.backward:
        projections *= 1 + PROJECTION_BACKWARD
    out = rows * shape.heads * shape.value_size
    if case.module:
        inputs = rows * width + (width + 2 * kv_width) * (width + 1) + width * (width + 1)  # x, weights and biases
    else:
        inputs = rows * width + shape.batch * shape.keys * shape.kv_heads * (shape.head_size + shape.value_size)
    if d_feedforward:
        inputs += d_feedforward * (2 * width + 1) + width  # two layers with biases
    if case.mask_shape is not None and case.hiding.learned:
        inputs += prod(case.mask_shape)
    elements = inputs + out
    elements *= 2 if case.backward else 1  # a gradient for each of them
    elements += 4 * width if d_feedforward else 0  # two norms, whose gradients are not taken
    moved_bytes = elements * DTYPES[case.dtype].itemsize + _mask_bytes(case)
    return Cost(attention + projections, moved_bytes, case.dtype, case.device)


def visible_pairs(queries: int, keys: int, *, causal: bool, window: int | None = None) -> int:
    """Count the pairs of a query and a key that it sees; aligned bottom-right, so that the last may see every key."""
    reach = max(queries, keys) if window is None else window - 1  # keys that a query sees to either side
    positions = range(keys - queries, keys)
    return sum(min(keys - 1, p if causal else p + reach) - max(0, p - reach) + 1 for p in positions)


def _mask_bytes(case: Case) -> int:
    """Return the bytes of a mask, if it is not learned: a learned mask is counted among the inputs."""
    if case.mask_shape is None or case.hiding.learned:
        return 0
    return prod(case.mask_shape) * (1 if case.hiding.kind == "bool" else DTYPES[case.dtype].itemsize)
