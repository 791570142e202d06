"""Changes to scores that some models make after scaling: a cap on their size, and a logit that takes weight."""

import torch
from torch import Tensor


def cap(scores: Tensor, softcap: float | None) -> Tensor:
    """``softcap * tanh(scores / softcap)``, which stays within (-softcap, softcap); None leaves the scores alone.

    Source: Gemma Team 2024, "Gemma 2: Improving Open Language Models at a Practical Size", section 2.
    """
    return scores if softcap is None else torch.tanh(scores / softcap) * softcap


def softmax(scores: Tensor, sinks: Tensor | None) -> Tensor:
    """Softmax over the keys of scores (B, Hq, Tq, Tk); ``sinks`` (Hq,) add one logit a head, and no value, to the sum.

    Source: OpenAI 2025, "gpt-oss-120b & gpt-oss-20b Model Card", section 2.2; Xiao et al. 2023, "Efficient Streaming
    Language Models with Attention Sinks", equation 2, with a learned logit for the zero.
    """
    if sinks is None:
        return scores.softmax(dim=-1)
    column = sinks.to(scores.dtype)[:, None, None].expand(*scores.shape[:-1], 1)
    return torch.cat([scores, column], dim=-1).softmax(dim=-1)[..., :-1]
