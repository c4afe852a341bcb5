"""The output head: from hidden states to logits, only at the positions where they are wanted.

With a vocabulary of 150,000 tokens the head is most of the work of a small model.
"""

from dataclasses import dataclass
from typing import Any, cast, final

import torch
from torch import nn
from torch.nn import functional

from undertow.errors import ModelError

# The whole table of a batch leaves the processor's cache, and is allocated anew for each pass over it: with
# 4,700 x 2,041 logits it took 47 ms forward and backward on two cores, against 12 ms in blocks of this size.
BLOCK = 2**20
"""Number of logits that exist at once."""

AGREEMENT = 0.02
"""Largest difference between our logits and the model's own, as a part of the largest logit; bfloat16 rounds that
much."""


@final
@dataclass(frozen=True)
class Head:
    """The output head (vocabulary projection) of a causal language model.

    Attributes:
        linear: the linear layer from hidden states to logits, whose weight may be tied to the embeddings.
        cap: soft limit of the logits, which become cap * tanh(logits / cap), as in Gemma 2; None for no limit.
    """

    linear: nn.Linear
    cap: float | None

    def __call__(self, states: torch.Tensor) -> torch.Tensor:
        """Turn hidden states (..., width) into float32 logits (..., vocabulary)."""
        return self._capped(self.linear(states))

    def _capped(self, logits: torch.Tensor) -> torch.Tensor:
        logits = logits.float()
        return logits if self.cap is None else self.cap * torch.tanh(logits / self.cap)

    @property
    def block(self) -> int:
        """Number of positions whose logits are best computed together."""
        return max(64, BLOCK // self.linear.weight.shape[0])

    def logprobs(self, states: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return log p of each target token in nats, float32 (n,).

        It is meant to be called without a gradient. It takes a part of the vocabulary at a time: blocks of positions
        would be slower, since their logits leave the processor's cache before they are summed.

        Args:
            states: hidden states before each target, (n, width).
            targets: ids of the target tokens, int64 (n,).
        """
        if not len(targets):
            return states.new_zeros(0, dtype=torch.float32)
        weight, size = self.linear.weight, max(64, BLOCK // len(targets))
        bias = cast(torch.Tensor | None, self.linear.bias)
        biases = [None] * -(-len(weight) // size) if bias is None else bias.split(size)
        parts = [
            self._capped(functional.linear(states, some, shift)).logsumexp(dim=-1)
            for some, shift in zip(weight.split(size), biases, strict=True)
        ]
        own = (states.float() * weight[targets].float()).sum(dim=-1)
        own = own if bias is None else own + bias[targets].float()
        # Rounded as the logits of the others are; without that, a probability could be more than 1.
        chosen = self._capped(own.to(states.dtype))
        return (chosen - torch.stack(parts).logsumexp(dim=0)).clamp(max=0.0)


def body_and_head(network: Any) -> tuple[nn.Module, Head]:
    """Return the part of a causal language model below the output head, and the head.

    Raises:
        ModelError: the model has no output head.
    """
    linear = network.get_output_embeddings()
    body = getattr(network, network.base_model_prefix, None)
    if linear is None or body is None or body is network:
        raise ModelError("The model has no output head.", type(network).__name__, "Use a causal language model.")
    return body, Head(linear, getattr(network.config.get_text_config(), "final_logit_softcapping", None))


@torch.no_grad()
def check_head(network: Any) -> None:
    """Refuse a model that changes its logits in a way that `Head` does not reproduce.

    Raises:
        ModelError: the model's own logits differ from those of `Head`.
    """
    body, head = body_and_head(network)
    tokens = torch.arange(4, device=head.linear.weight.device)[None]
    own = network(input_ids=tokens, use_cache=False).logits.float()
    ours = head(body(input_ids=tokens, use_cache=False).last_hidden_state)
    error = float((own - ours).abs().max() / own.abs().max().clamp(min=1e-9))
    if not error < AGREEMENT:
        fix = "Use another model; Undertow reads logits right after the head, or with a final_logit_softcapping."
        raise ModelError(
            "The model changes its logits after the head.", f"{type(network).__name__}: by {error:.0%}", fix
        )
