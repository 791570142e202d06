"""A witness from outside: Gemma 2 and gpt-oss of transformers, tiny and random, with our kernels in place of theirs."""

from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

from attention import KERNELS

SIZES: Any = {
    "vocab_size": 50, "hidden_size": 32, "intermediate_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2,
    "head_dim": 8, "num_hidden_layers": 2, "layer_types": ["sliding_attention", "full_attention"], "sliding_window": 4,
}  # fmt: skip
MODELS: dict[str, Any] = {
    "gemma2": lambda: transformers.Gemma2ForCausalLM(
        transformers.Gemma2Config(**SIZES, attn_logit_softcapping=0.5, query_pre_attn_scalar=8)
    ),
    "gpt_oss": lambda: transformers.GptOssForCausalLM(
        transformers.GptOssConfig(**SIZES, num_local_experts=2, num_experts_per_tok=1)
    ),
}
TOKENS = torch.randint(50, (2, 11), generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module", params=MODELS)
def model(request: pytest.FixtureRequest) -> Any:
    """The model as its own code computes it, in float32, with sinks that are not zero."""
    torch.manual_seed(0)
    built = MODELS[request.param]().eval()
    for name, parameter in built.named_parameters():
        if name.endswith("sinks"):
            nn.init.normal_(parameter)
    return built


@pytest.mark.parametrize("name", ["masked", "blockwise"])
def test_a_model_gives_the_same_with_our_kernel_in_its_layers(model: Any, name: str) -> None:
    seen: list[dict[str, Any]] = []

    def attend(  # noqa: PLR0917  # the signature is theirs
        module: nn.Module, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scaling: float, **more: Any
    ) -> tuple[Tensor, None]:
        options: Any = {"softcap": more.get("softcap"), "sinks": more.get("s_aux")}
        seen.append(options | {"window": more.get("sliding_window")})
        if mask is not None:
            mask = mask[..., : k.shape[2]]
        return KERNELS[name](q, k, v, mask=mask, scale=scaling, **options).transpose(1, 2).contiguous(), None

    transformers.AttentionInterface.register("ours", attend)
    transformers.AttentionMaskInterface.register("ours", ALL_MASK_ATTENTION_FUNCTIONS["eager"])
    logits = {}
    for implementation in ("eager", "ours"):
        model.set_attn_implementation(implementation)
        with torch.no_grad():
            logits[implementation] = model(TOKENS, attention_mask=torch.ones_like(TOKENS)).logits
    torch.testing.assert_close(logits["ours"], logits["eager"], rtol=1e-4, atol=1e-5)
    assert len(seen) == 2
    asked = "softcap" if model.config.model_type == "gemma2" else "sinks"
    assert all(one[asked] is not None for one in seen)
    assert sorted(one["window"] or 0 for one in seen) == [0, 4]
