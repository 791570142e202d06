"""Other contents in the same memory: what changes, what comes back, and what a side wrote stays to be found."""

import pytest
import torch
from torch import Tensor

import attention
from bench.observing.tolerance import distance, same_bits
from bench.suite.cases import Case, Shape
from bench.suite.contents import OtherContents, first_item, longer, other, resized
from bench.suite.side import Side
from bench.suite.workload import Workload, build, parameter_sizes

HEAD = Side.of("head", attention)


def workload(mask: str = "causalboolmask", subject: str = "masked", dtype: str = "fp32") -> Workload:
    module = subject in HEAD.modules
    case = Case(subject, module, Shape.parse("b2h4kv2t6d4"), mask, dtype, "cpu", "fwdbwd")
    return build(case, parameter_sizes(case, HEAD))


@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize(
    ("mask", "subject"),
    [
        ("boolmask", "masked"),
        ("floatmask", "masked"),
        ("learnedmask", "masked"),
        ("full", "mha"),
        ("boolmask", "block"),
    ],
)
def test_every_tensor_changes_in_place_and_is_what_it_was_afterwards(mask: str, subject: str, dtype: str) -> None:
    work = workload(mask, subject, dtype)
    tensors, before = work.tensors, work.snapshot()
    versions = [(t.data_ptr(), t._version) for t in tensors]
    others = OtherContents(work)
    for _ in range(2):
        with others:
            assert not any(same_bits(t, copy) for t, (copy, _) in zip(tensors, before, strict=True))
            assert [(t.data_ptr(), t._version) for t in tensors] == versions
        assert not work.differs_from(before)


@pytest.mark.parametrize("inside", [True, False])
def test_what_a_side_writes_is_not_undone(inside: bool) -> None:
    work = workload()
    before = work.snapshot()
    others = OtherContents(work)
    with others:
        if inside:
            work.inputs["v"].data.mul_(2)
    work.inputs["q"].data.mul_(1 if inside else 2)
    with others:
        pass
    assert work.differs_from(before)
    assert same_bits(work.inputs["k"].detach(), before[1][0])


@pytest.mark.parametrize(
    "tensor",
    [
        torch.ones(2, 3, dtype=torch.bool),
        torch.zeros(4),
        torch.ones(1),
        torch.full((3,), -torch.inf).index_fill(0, torch.tensor([1]), 0.0),
        torch.arange(4.0).to(torch.bfloat16),
        torch.ones((), dtype=torch.float16),
    ],
)
def test_other_values_are_other_even_where_they_are_all_the_same(tensor: Tensor) -> None:
    changed = other(tensor)
    assert (changed.shape, changed.dtype) == (tensor.shape, tensor.dtype)
    assert not torch.equal(changed, tensor)


def test_what_is_expanded_changes_once_and_what_is_transposed_keeps_its_strides() -> None:
    work = workload("full")
    upstream = torch.ones(()).expand(work.upstream.shape)
    q = work.inputs["q"].detach().transpose(1, 2).contiguous().transpose(1, 2)
    strided = Workload(work.case, {**work.inputs, "q": q}, None, upstream)
    before, strides = q.clone(), q.stride()
    with OtherContents(strided):
        assert upstream.unique().tolist() == [2.0]
        assert q.stride() == strides
        assert not torch.equal(q, before)
    assert torch.equal(q, before)
    assert upstream.unique().tolist() == [1.0]


def test_sizes_change_in_the_same_tensors() -> None:
    work = workload()
    q, mask = work.inputs["q"], work.mask
    assert mask is not None
    with resized(longer(work, 16), work):
        assert (q.shape[2], work.inputs["k"].shape[2], mask.shape) == (22, 22, (2, 1, 22, 22))
    with resized(first_item(work), work):
        assert (q.shape[0], mask.shape[0]) == (1, 1)
    assert (tuple(q.shape), tuple(mask.shape)) == ((2, 4, 6, 4), (2, 1, 6, 6))


@pytest.mark.parametrize(
    ("mask", "longer_shape"),
    [("boolmaskqk", (22, 22)), ("boolmaskk", (22,)), ("boolmaskq", (22, 1)), ("learnedmaskqk", (22, 22))],
)
def test_a_mask_without_a_batch_has_no_first_item_and_grows_where_it_has_tokens(
    mask: str, longer_shape: tuple[int, ...]
) -> None:
    shape = Shape.parse("b6h2t6d4")  # as many items as queries and keys
    work = build(Case("masked", False, shape, mask, "fp32", "cpu", "fwd"), {})
    made = work.inputs.get("mask", work.mask)
    assert made is not None
    before = made.shape
    with resized(longer(work, 16), work):
        assert made.shape == longer_shape
    with resized(first_item(work), work):
        assert (work.inputs["q"].shape[0], made.shape) == (1, before)


def test_a_single_query_stays_single_when_the_keys_grow() -> None:
    work = build(Case("sdpa", False, Shape.parse("b1h2t1k8d4"), "full", "fp32", "cpu", "fwd"), {})
    with resized(longer(work, 16), work):
        assert (work.inputs["q"].shape[2], work.inputs["k"].shape[2]) == (1, 24)


def test_nan_and_infinity_are_like_themselves_and_far_from_numbers() -> None:
    odd = torch.tensor([float("nan"), float("inf"), -float("inf"), 1.0])
    assert same_bits(odd, odd.clone())
    assert distance(odd, odd.clone()) == 0.0
    assert distance(odd, odd.nan_to_num()) == float("inf")
    assert distance(odd[3:], odd[3:] + 0.5) == 0.5
    assert distance(odd, odd[:2]) == float("inf")
