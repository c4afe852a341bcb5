"""The base's probabilities of every token of some rows, computed once for all checks that come before an audit.

For each token: its probability, where it lies in the two orders by which samplers walk through a vocabulary (by token
id, and from the likeliest down), how likely it is at other temperatures, and whether a usual cut-off of samplers would
have kept it away.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from undertow.models.lm_head import body_and_head
from undertow.models.local import LocalModel
from undertow.models.tokens import Encoded
from undertow.stats.checks import Floats
from undertow.types import Row, Sampling

Places = NDArray[np.int64]

TEMPERATURES: Floats = np.exp(np.linspace(np.log(0.2), np.log(3.0), 21))
"""Temperatures at which the likelihood of each row is computed."""

TOP_P = (0.8, 0.9, 0.95, 0.98)
TOP_K = (10, 20, 40, 50, 64, 100)
MIN_P = (0.02, 0.05, 0.1)

CUTS: Mapping[str, tuple[float, ...]] = {"top-p": TOP_P, "top-k": TOP_K, "min-p": MIN_P}
"""Usual cut-offs of samplers, by kind."""

CUT_NAMES = tuple(f"{kind} {value:g}" for kind, values in CUTS.items() for value in values)

STEPS = Sampling().max_new_tokens
"""How many tokens of a completion are read: as many as the base's own answers have at most."""

_BATCH = 16
"""How many rows are read at once."""

_BLOCK = 2**20
"""How many logits exist at once."""


@dataclass(frozen=True, slots=True)
class TokenReading:
    """What the base says of the tokens of some rows; the tokens of all rows stand behind one another.

    Attributes:
        row: index of each token's row, int64 array of shape (tokens,).
        step: index of each token in its completion, int64 array of shape (tokens,).
        token: token ids, int64 array of shape (tokens,).
        logp: log-probability of each token in nats, shape (tokens,).
        by_id: total probability of the tokens with a smaller id, shape (tokens,).
        by_rank: total probability of the likelier tokens, shape (tokens,).
        at_temperature: log-probability of each row in nats at each of `TEMPERATURES`, shape (rows, temperatures).
        outside: number of tokens of each row that each of `CUT_NAMES` would have kept away, shape (rows, cuts).
        rows: how many rows were read.
    """

    row: Places
    step: Places
    token: Places
    logp: Floats
    by_id: Floats
    by_rank: Floats
    at_temperature: Floats
    outside: Floats
    rows: int

    @property
    def tokens(self) -> int:
        """How many tokens all rows have together."""
        return len(self.token)

    def row_logp(self) -> Floats:
        """Return the log-probability of each row in nats, shape (rows,)."""
        found: Floats = np.zeros(self.rows)
        np.add.at(found, self.row, self.logp)
        return found

    def picked(self, places: Sequence[int] | Places) -> "TokenReading":
        """Return the reading of some of the rows, in this order, each once."""
        new = np.full(self.rows, -1, dtype=np.int64)
        new[places] = np.arange(len(places))
        row = new[self.row]
        there = row >= 0
        return TokenReading(
            row=row[there],
            step=self.step[there],
            token=self.token[there],
            logp=self.logp[there],
            by_id=self.by_id[there],
            by_rank=self.by_rank[there],
            at_temperature=self.at_temperature[places],
            outside=self.outside[places],
            rows=len(places),
        )


def encode_completions(base: LocalModel, rows: Sequence[Row]) -> list[Encoded]:
    """Turn rows into token ids; of a completion at most `STEPS`, without the end of turn, as a cut text has none."""
    return [Encoded(one.prompt, one.completion[:-1][:STEPS]) for one in base.encode(rows)]


@torch.no_grad()
def read_tokens(base: LocalModel, rows: Sequence[Row]) -> TokenReading:
    """Compute the base's probabilities of the tokens of some rows.

    It is meant for a few hundred rows, because every logit of every position is computed.

    Raises:
        ModelError: the base has no chat template.
    """
    encoded = encode_completions(base, rows)
    order = sorted((place for place, one in enumerate(encoded) if one.completion), key=lambda at: len(encoded[at]))
    places = [(at, step) for at in order for step in range(len(encoded[at].completion))]
    parts: list[_Batch] = []
    for start in range(0, len(order), _BATCH):
        parts += _read_batch(base, [encoded[at] for at in order[start : start + _BATCH]])
    row = np.array([at for at, _ in places], dtype=np.int64)
    return TokenReading(
        row=row,
        step=np.array([step for _, step in places], dtype=np.int64),
        token=np.array([encoded[at].completion[step] for at, step in places], dtype=np.int64),
        logp=_joined([part.logp for part in parts]),
        by_id=_joined([part.by_id for part in parts]),
        by_rank=_joined([part.by_rank for part in parts]),
        at_temperature=_by_row(row, [part.at_temperature for part in parts], (len(rows), len(TEMPERATURES))),
        outside=_by_row(row, [part.outside for part in parts], (len(rows), len(CUT_NAMES))),
        rows=len(rows),
    )


def _by_row(row: Places, parts: Sequence[Floats], shape: tuple[int, int]) -> Floats:
    """Add up what was read of the tokens of each row."""
    found: Floats = np.zeros(shape)
    if parts:
        np.add.at(found, row, np.concatenate(parts))
    return found


def _joined(parts: Sequence[Floats]) -> Floats:
    return np.concatenate(parts) if parts else np.zeros(0)


@dataclass(frozen=True, slots=True)
class _Batch:
    logp: Floats
    by_id: Floats
    by_rank: Floats
    at_temperature: Floats
    outside: Floats


def _read_batch(base: LocalModel, encoded: Sequence[Encoded]) -> list[_Batch]:
    body, head = body_and_head(base.network)
    longest = max(map(len, encoded))
    # Padding stands behind each row: under causal attention it changes no state that is read, so no mask is needed.
    tokens = torch.zeros(len(encoded), longest, dtype=torch.int64)
    for place, one in enumerate(encoded):
        tokens[place, : len(one)] = torch.tensor(one.prompt + one.completion)
    at = torch.tensor(
        [
            (place, len(one.prompt) - 1 + step)
            for place, one in enumerate(encoded)
            for step in range(len(one.completion))
        ]
    )
    states = body(input_ids=tokens.to(base.device), use_cache=False).last_hidden_state[at[:, 0], at[:, 1]]
    targets = tokens[at[:, 0], at[:, 1] + 1]
    size = max(8, _BLOCK // head.linear.weight.shape[0])
    blocks = zip(states.split(size), targets.split(size), strict=True)
    return [_read_positions(_exact(head(some)), own) for some, own in blocks]


def _exact(logits: torch.Tensor) -> torch.Tensor:
    """Return logits where double precision can be had, which Apple's GPUs do not offer."""
    return logits.cpu() if logits.device.type == "mps" else logits


def _read_positions(logits: torch.Tensor, own: torch.Tensor) -> _Batch:
    """Read positions from their logits (positions, vocabulary) and the tokens that stand there (positions,).

    Nothing is sorted: a token's rank is the number of likelier ones, those as likely with a smaller id among them.
    """
    logp, own = torch.log_softmax(logits, dim=-1), own.to(logits.device)[:, None]
    mass, chosen = logp.double().exp(), logp.gather(1, own)
    smaller = torch.arange(logits.shape[-1], device=logits.device)[None] < own
    likelier = (logp > chosen) | ((logp == chosen) & smaller)
    above = torch.where(likelier, mass, 0.0).sum(dim=-1)
    energy = logits.gather(1, own)[:, 0]
    warm = [(energy / at - (logits / at).logsumexp(dim=-1)).double() for at in TEMPERATURES.tolist()]
    cuts = (
        *(above >= value for value in TOP_P),
        *(likelier.sum(dim=-1) >= value for value in TOP_K),
        *(mass.gather(1, own)[:, 0] < value * mass.amax(dim=-1) for value in MIN_P),
    )
    return _Batch(
        logp=_plain(chosen[:, 0].double()),
        by_id=_plain(torch.where(smaller, mass, 0.0).sum(dim=-1)),
        by_rank=_plain(above),
        at_temperature=_plain(torch.stack(warm, dim=-1)),
        outside=_plain(torch.stack(cuts, dim=-1).double()),
    )


def _plain(values: torch.Tensor) -> Floats:
    return values.cpu().numpy()
