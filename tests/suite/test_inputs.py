"""The tensors that a case's words ask for: layouts of memory, sizes of scores, what masks hide."""

import pytest
import torch
from torch import Tensor

import attention
from bench.suite.cases import DTYPES, LAYOUTS, Case, Shape
from bench.suite.side import Side
from bench.suite.workload import Workload, build, parameter_sizes

HEAD = Side.of("head", attention)


def work(shape: str, mask: str = "full", dtype: str = "fp32", subject: str = "masked") -> Workload:
    module = subject in HEAD.modules
    case = Case(subject, module, Shape.parse(shape), mask, dtype, "cpu", "fwdbwd")
    return build(case, parameter_sizes(case, HEAD))


def scores(made: Workload) -> Tensor:
    q, k = (made.inputs[name].detach().double() for name in "qk")
    return q @ k.transpose(-2, -1)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_tensor_of_a_layout_lies_otherwise_than_a_contiguous_one(layout: str, dtype: str) -> None:
    made = work(f"b2h4t6d8{layout}", dtype=dtype)
    assert not any(t.is_contiguous() for t in (*made.inputs.values(), made.upstream))
    assert {t.shape for t in made.inputs.values()} == {(2, 4, 6, 8)}
    assert all(t.is_leaf and t.requires_grad for t in made.inputs.values())


def test_a_layout_is_the_one_that_it_is_named_after() -> None:
    transposed, fused, sliced, expanded, columns = (
        work(f"b2h4kv2t6d8{layout}").inputs for layout in ("transposed", "fused", "sliced", "expanded", "columns")
    )
    assert all(t.transpose(1, 2).is_contiguous() for t in transposed.values())
    assert all(t.stride() == (6 * 8 * 8, 8, 8 * 8, 1) for t in fused.values())  # one (B, T, (H + 2 Hkv) D)
    assert len({t.untyped_storage().data_ptr() for t in fused.values()}) == 1
    assert all(t.stride(3) == 1 and t.stride(2) == 11 and t.storage_offset() for t in sliced.values())
    assert (expanded["q"].stride(0), expanded["k"].stride(1), expanded["v"].stride(1)) == (0, 0, 0)
    assert all(t.transpose(2, 3).is_contiguous() for t in columns.values())


def test_the_upstream_gradient_of_expanded_inputs_is_that_of_a_sum() -> None:
    upstream = work("b2h4t6d8expanded").upstream
    assert upstream.stride() == (0, 0, 0, 0)
    assert torch.equal(upstream, torch.ones(2, 4, 6, 8))


def test_the_input_of_a_module_has_tokens_before_items_where_it_is_transposed() -> None:
    made = work("b2h4t6d8transposed", subject="mha")
    assert made.inputs["x"].transpose(0, 1).is_contiguous()
    assert made.upstream.transpose(0, 1).is_contiguous()


@pytest.mark.parametrize(("dtype", "largest"), [("fp32", 88.8), ("bf16", 88.8), ("fp16", 11.1)])
def test_large_scores_are_beyond_exp_on_both_sides_of_zero(dtype: str, largest: float) -> None:
    rows = scores(work("b2h4t6k9d16large", dtype=dtype)) / 4
    assert rows[..., 0::2, :].min() > largest
    assert rows[..., 1::2, :].max() < -1.2 * largest  # where exp is zero, with the numbers that are not normal
    assert rows.std(dim=-1).max() < 4  # the softmax is no more than usual of one key


def test_peaked_scores_overflow_before_they_are_scaled_and_not_after() -> None:
    rows = scores(work("b2h4t6k9d64peaked", dtype="fp16"))
    highest, second = rows.topk(2, dim=-1).values.unbind(dim=-1)
    assert highest.min() > torch.finfo(torch.float16).max > highest.max() / 8
    assert (highest - second).min() > 1000
    assert torch.equal(rows.argmax(dim=-1)[0, 0], torch.arange(3, 9))  # what causal shows of each


def test_masks_hold_what_their_words_say() -> None:
    masks = {word: work("b2h4t6k9d8", word).mask for word in ("boolmaskbhqk", "boolmaskbk", "truemask", "lowmask")}
    assert all(mask is not None for mask in masks.values())
    every, item, true, low = (mask for mask in masks.values() if mask is not None)
    assert len({tuple(map(bool, one.flatten())) for one in every.flatten(0, 1)}) == 8  # unlike in each item and head
    assert not every[:, :, 0].any()
    assert item[0].any()
    assert not item[-1].any()
    assert true.all()
    assert set(low.unique().tolist()) == {0.0, torch.finfo(torch.float32).min}
    assert (low[:, :, 0] < 0).all()


@pytest.mark.parametrize(("shape", "word"), [("b2h4t1k60d8", "boolmaskbhqk"), ("b1h4t6k60d8", "boolmaskbk")])
def test_a_mask_leaves_the_only_query_and_the_only_item_something_to_see(shape: str, word: str) -> None:
    mask = work(shape, word).mask
    assert mask is not None
    assert mask.any(dim=-1).all()
    assert not mask.all()


def test_a_padding_mask_gives_each_item_a_length_of_its_own() -> None:
    mask = work("b3h2t4k8d8", "paddingmask").mask
    assert mask is not None
    assert mask.shape == (3, 1, 1, 8)
    assert mask.flatten(1).sum(dim=1).tolist() == [6, 4, 2]
    assert mask.flatten(1).int().diff(dim=1).max() == 0


def test_a_mask_of_expanded_inputs_is_expanded_too() -> None:
    mask = work("b2h4t6d8expanded", "floatmask").mask
    assert mask is not None
    assert mask.shape == (2, 4, 6, 6)
    assert mask.stride(0) == 0


def test_a_learned_mask_of_its_own_for_each_item_has_the_gradient_of_each() -> None:
    made = work("b2h4t6k9d8", "learnedmaskbhqk")
    assert made.inputs["mask"].shape == (2, 4, 6, 9)
    assert made.inputs["mask"].requires_grad
