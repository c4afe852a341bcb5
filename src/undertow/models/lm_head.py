"""From hidden states to logits, only where they are wanted: with 150,000 tokens the head is most of a small model."""

from dataclasses import dataclass
from typing import Any, cast, final

import torch
from torch import nn
from torch.nn import functional

from undertow.errors import ModelError

BLOCK = 2**20
"""Logits that exist at once. The whole table of a batch (4,700 x 2,041) leaves the cache and is allocated anew for each
pass over it: 47 ms forward and backward on two cores, against 12 ms in blocks of this size."""

AGREEMENT = 0.02
"""Part of the largest logit by which ours may differ from the model's own: in bfloat16 the last digits do."""


@final
@dataclass(frozen=True)
class Head:
    """The vocabulary projection of a causal model.

    Attributes:
        linear: the projection, tied to the embeddings or not.
        cap: logits are cap * tanh(logits / cap), as in Gemma 2; None leaves them.
    """

    linear: nn.Linear
    cap: float | None

    def __call__(self, states: torch.Tensor) -> torch.Tensor:
        """Turn hidden states [..., width] into float32 logits [..., vocabulary]."""
        return self._capped(self.linear(states))

    def _capped(self, logits: torch.Tensor) -> torch.Tensor:
        logits = logits.float()
        return logits if self.cap is None else self.cap * torch.tanh(logits / self.cap)

    @property
    def block(self) -> int:
        """Positions whose logits are best computed together."""
        return max(64, BLOCK // self.linear.weight.shape[0])

    def logprobs(self, states: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return log p of each target, float32 [n], after states [n, width]; meant to be called without a gradient.

        A part of the vocabulary at a time: 1,216 positions of 896 numbers in bfloat16 against 151,936 tokens take 0.9 s
        on one core, against 3.0 s in blocks of positions, whose logits leave the cache before they are added up.
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
    """Return the part of a causal model below the vocabulary projection, and the projection.

    Raises:
        ModelError: the model has no output projection.
    """
    linear = network.get_output_embeddings()
    body = getattr(network, network.base_model_prefix, None)
    if linear is None or body is None or body is network:
        raise ModelError("The model has no output head.", type(network).__name__, "Use a causal language model.")
    return body, Head(linear, getattr(network.config.get_text_config(), "final_logit_softcapping", None))


@torch.no_grad()
def check_head(network: Any) -> None:
    """Refuse a model that changes its logits in a way that `Head` does not know.

    Raises:
        ModelError: the logits of the model itself are others.
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
