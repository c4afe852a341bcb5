"""Which tokens a loss reaches, seen where its gradient enters the last hidden states of a model.

The hidden state of position t after the last block has a gradient only if the token at t + 1 is part of the loss. That
holds for any trainer, masking, packing and kind of loss. So a hook on the trunk (the model without its head) sees what
labels do not tell: TRL's DPO and distillation trainers pass none to the model.
"""

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, final

import torch

from undertow.training.trl import IGNORED


@dataclass(frozen=True, slots=True)
class Sequence:
    """One row as it went through the model; where rows are packed with positions, one of them.

    Attributes:
        tokens: token ids without padding. Empty where the model was given embeddings.
        learnt: for each token, whether it is part of the loss.
    """

    tokens: tuple[int, ...]
    learnt: tuple[bool, ...]


@dataclass(slots=True)
class LabelCounts:
    """Counts of the labels that some passes were given; rows are judged by gradients, and labels only explain.

    Attributes:
        places: how many labels there were in all.
        kept: how many of them were not masked.
        foreign: how many of those kept were another token than the input has at the same place.
    """

    places: int = 0
    kept: int = 0
    foreign: int = 0


@dataclass(slots=True)
class _Pass:
    tokens: torch.Tensor | None
    positions: torch.Tensor | None
    attended: torch.Tensor | None
    reached: torch.Tensor | None = None

    def arrived(self, gradient: torch.Tensor) -> None:
        # A gradient that is not a number reaches nothing.
        found = torch.linalg.vector_norm(gradient.detach(), float("inf"), dim=-1) > 0
        self.reached = found if self.reached is None else self.reached | found

    def sequences(self) -> list[Sequence]:
        assert self.reached is not None
        reached = self.reached.cpu()
        if self.tokens is None:
            return [Sequence((), tuple(row)) for row in reached.tolist()]
        tokens = self.tokens.cpu()
        reached = reached[:, -tokens.shape[1] :]  # adapters that put virtual tokens in front have more positions
        learnt = torch.cat([torch.zeros_like(reached[:, :1]), reached[:, :-1]], 1)
        found: list[Sequence] = []
        for row in range(len(tokens)):
            kept = _of_row(self.attended, row, tokens.shape)
            places = torch.arange(tokens.shape[1]) if kept is None else kept.nonzero().flatten()
            for first, last in _pieces(_of_row(self.positions, row, tokens.shape), places):
                part = places[first:last]
                found.append(Sequence(tuple(tokens[row, part].tolist()), tuple(learnt[row, part].tolist())))
        return found


def _of_row(given: torch.Tensor | None, row: int, shape: torch.Size) -> torch.Tensor | None:
    """Return what belongs to one row of a batch, or None where a tensor is missing or has another shape.

    A tensor with a single row stands for all rows. Masks of other shapes say nothing of padding.
    """
    if given is None or given.ndim != 2 or given.shape[1] != shape[1]:
        return None
    return given[row if len(given) > 1 else 0].cpu()


def _pieces(positions: torch.Tensor | None, places: torch.Tensor) -> list[tuple[int, int]]:
    """Cut a packed row where positions start at 0 again; pieces shorter than two tokens have nothing to learn."""
    starts = [0] if positions is None else [0, *(positions[places] == 0).nonzero().flatten().tolist()]
    cuts = sorted({*starts, len(places)})
    return [(first, last) for first, last in pairwise(cuts) if last - first > 1]


@final
@dataclass
class Passes:
    """Watches the forward and backward passes of a training until `close`; weights, gradients and losses are unchanged.

    Args:
        network: a model of transformers, without the wrapper of adapters.
        labels: counts of the labels that the passes were given, to explain what the gradients show.
    """

    network: Any
    labels: LabelCounts = field(default_factory=LabelCounts)
    _seen: list[_Pass] = field(default_factory=list[_Pass])
    _given: list[torch.Tensor] = field(default_factory=list[torch.Tensor])
    _handles: list[Any] = field(default_factory=list[Any])

    def __post_init__(self) -> None:
        self._handles = [
            self.network.base_model.register_forward_hook(self._through, with_kwargs=True),
            self.network.register_forward_pre_hook(self._called, with_kwargs=True),
        ]

    def close(self) -> None:
        """Remove the hooks from the model."""
        for handle in self._handles:
            handle.remove()
        self._handles, self._seen, self._given = [], [], []

    def take(self) -> list[Sequence]:
        """Return the rows whose gradients have arrived since the last call."""
        rows = [row for one in self._seen if one.reached is not None for row in one.sequences()]
        for counts in self._given:
            places, kept, foreign = counts.tolist()
            self.labels.places += places
            self.labels.kept += kept
            self.labels.foreign += foreign
        self._seen, self._given = [], []
        return rows

    def _through(self, module: Any, args: Any, kwargs: dict[str, Any], output: Any) -> None:
        del module
        hidden = getattr(output, "last_hidden_state", output[0] if isinstance(output, tuple) else output)
        # A pass without gradients is generation, evaluation or a reference.
        if not torch.is_grad_enabled() or not isinstance(hidden, torch.Tensor):
            return
        if not hidden.requires_grad:
            hidden.requires_grad_()  # nothing below is trained; whether anything above is, the weights show
        ids = kwargs.get("input_ids", args[0] if args else None)
        one = _Pass(ids, kwargs.get("position_ids"), kwargs.get("attention_mask"))
        hidden.register_hook(one.arrived)
        self._seen.append(one)

    def _called(self, module: Any, args: Any, kwargs: dict[str, Any]) -> None:
        del module
        labels, ids = kwargs.get("labels"), kwargs.get("input_ids", args[0] if args else None)
        if not torch.is_grad_enabled() or not isinstance(labels, torch.Tensor):
            return
        kept = labels != IGNORED
        same = isinstance(ids, torch.Tensor) and ids.shape == labels.shape
        foreign = (kept & (labels != ids)).sum() if same else torch.zeros_like(kept.sum())
        self._given.append(torch.stack([torch.full_like(foreign, labels.numel()), kept.sum(), foreign]))
