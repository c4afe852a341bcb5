"""What the base says of every token of some rows, read once for every question that is asked before an audit.

For each token: its probability, where it lies in the two orders by which samplers walk through a vocabulary (by token
id, and from the likeliest down), how likely it is at other temperatures, and whether a usual cut-off would have kept it
away.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from undertow.models.lm_head import body_and_head
from undertow.models.local import LocalModel
from undertow.models.tokens import Encoded
from undertow.stats.checks import Floats
from undertow.types import Row

TEMPERATURES: Floats = np.exp(np.linspace(np.log(0.2), np.log(3.0), 31))
"""At which the likelihood of a row is read."""

TOP_P = (0.8, 0.9, 0.95, 0.98)
TOP_K = (10, 20, 40, 50, 64, 100)
MIN_P = (0.02, 0.05, 0.1)

CUTS: Mapping[str, tuple[float, ...]] = {"top-p": TOP_P, "top-k": TOP_K, "min-p": MIN_P}
"""Usual cut-offs of samplers."""

CUT_NAMES = tuple(f"{kind} {value:g}" for kind, values in CUTS.items() for value in values)

_BATCH = 16
"""Rows read at once."""

_POSITIONS = 1024
"""Positions whose logits exist at once."""


@dataclass(frozen=True, slots=True)
class TokenReading:
    """What the base says of the tokens of some rows; tokens of all rows stand behind one another.

    Attributes:
        row: place of each token's row, int [tokens].
        step: place of each token in its completion, int [tokens].
        token: ids, int [tokens].
        logp: log p of each token in nats, float [tokens].
        by_id: mass of the tokens of a smaller id, float [tokens].
        by_rank: mass of the likelier tokens, float [tokens].
        at_temperature: log p of each row at `TEMPERATURES`, float [rows, temperatures].
        outside: tokens that each of `CUT_NAMES` would have kept away, int [cuts].
        expected_outside: how many the base itself would have drawn there, float [cuts].
        rows: how many.
    """

    row: np.ndarray
    step: np.ndarray
    token: np.ndarray
    logp: Floats
    by_id: Floats
    by_rank: Floats
    at_temperature: Floats
    outside: np.ndarray
    expected_outside: Floats
    rows: int

    @property
    def tokens(self) -> int:
        """Tokens of all rows."""
        return len(self.token)

    @property
    def mean_logp(self) -> float:
        """Mean log p a token, in nats."""
        return float(self.logp.mean()) if self.tokens else 0.0

    def row_logp(self) -> Floats:
        """Return log p of each row, float [rows]."""
        return np.bincount(self.row, weights=self.logp, minlength=self.rows)


def encode_completions(base: LocalModel, rows: Sequence[Row]) -> list[Encoded]:
    """Turn rows into token ids without the end of turn: a text that was cut off has none.

    Raises:
        ConfigError: a row is longer than the base's context.
    """
    encoded = [Encoded(one.prompt, one.completion[:-1]) for one in base.encode(rows)]
    base.check_fits([one.prompt + one.completion for one in encoded], "Leave out the long rows.")
    return encoded


@torch.no_grad()
def read_tokens(base: LocalModel, rows: Sequence[Row]) -> TokenReading:
    """Read the completions of rows under the base; a few hundred rows, for every logit is looked at.

    Raises:
        ConfigError: a row is longer than the base's context.
        ModelError: the base has no chat template.
    """
    encoded = encode_completions(base, rows)
    order = sorted((place for place, one in enumerate(encoded) if one.completion), key=lambda at: len(encoded[at]))
    places = [(at, step) for at in order for step in range(len(encoded[at].completion))]
    parts: list[_Part] = []
    for start in range(0, len(order), _BATCH):
        parts += _read_batch(base, [encoded[at] for at in order[start : start + _BATCH]])
    row = np.array([at for at, _ in places], dtype=np.int64)
    at_temperature = np.zeros((len(rows), len(TEMPERATURES)))
    if parts:
        np.add.at(at_temperature, row, np.concatenate([part.at_temperature for part in parts]))
    return TokenReading(
        row=row,
        step=np.array([step for _, step in places], dtype=np.int64),
        token=np.array([encoded[at].completion[step] for at, step in places], dtype=np.int64),
        logp=_joined([part.logp for part in parts]),
        by_id=_joined([part.by_id for part in parts]),
        by_rank=_joined([part.by_rank for part in parts]),
        at_temperature=at_temperature,
        outside=np.sum([part.outside for part in parts], axis=0, dtype=np.int64) if parts else np.zeros(len(CUT_NAMES)),
        expected_outside=np.sum([part.expected for part in parts], axis=0) if parts else np.zeros(len(CUT_NAMES)),
        rows=len(rows),
    )


def _joined(parts: Sequence[Floats]) -> Floats:
    return np.concatenate(parts) if parts else np.zeros(0)


@dataclass(frozen=True, slots=True)
class _Part:
    logp: Floats
    by_id: Floats
    by_rank: Floats
    at_temperature: Floats
    outside: Floats
    expected: Floats


def _read_batch(base: LocalModel, encoded: Sequence[Encoded]) -> list[_Part]:
    body, head = body_and_head(base.network)
    longest = max(map(len, encoded))
    tokens = torch.zeros(len(encoded), longest, dtype=torch.int64)
    for place, one in enumerate(encoded):
        tokens[place, : len(one)] = torch.tensor(one.prompt + one.completion)
    at = torch.tensor(
        [(place, len(one.prompt) - 1 + step) for place, one in enumerate(encoded) for step in range(len(one.completion))]
    )
    states = body(input_ids=tokens.to(base.device), use_cache=False).last_hidden_state[at[:, 0], at[:, 1]]
    targets = tokens[at[:, 0], at[:, 1] + 1]
    blocks = zip(states.split(_POSITIONS), targets.split(_POSITIONS), strict=True)
    return [_read_positions(head(some).cpu().double(), own) for some, own in blocks]


def _read_positions(logits: torch.Tensor, own: torch.Tensor) -> _Part:
    """Read positions from their logits [positions, vocabulary] and the tokens that stand there [positions]."""
    ordered = torch.log_softmax(logits, dim=-1).sort(dim=-1, descending=True)
    chosen = (ordered.indices == own[:, None]).double().argmax(dim=-1, keepdim=True)
    mass = ordered.values.exp()
    before = mass.cumsum(dim=-1) - mass
    ids = torch.arange(logits.shape[-1])
    logp = torch.log_softmax(logits, dim=-1)
    cuts = torch.stack(_cut(mass, before), dim=-1)
    picked = chosen[:, :, None].expand(-1, 1, cuts.shape[-1])
    energy = logits.gather(1, own[:, None])
    warm = [(energy[:, 0] / at - (logits / at).logsumexp(dim=-1)) for at in TEMPERATURES.tolist()]
    return _Part(
        logp=logp.gather(1, own[:, None])[:, 0].numpy(),
        by_id=(logp.exp() * (ids[None] < own[:, None])).sum(dim=-1).numpy(),
        by_rank=before.gather(1, chosen)[:, 0].numpy(),
        at_temperature=torch.stack(warm, dim=-1).numpy(),
        outside=cuts.gather(1, picked)[:, 0].sum(dim=0).numpy(),
        expected=(cuts * mass[:, :, None]).sum(dim=(0, 1)).numpy(),
    )


def _cut(mass: torch.Tensor, before: torch.Tensor) -> list[torch.Tensor]:
    """Tell for each cut which places are kept away, bool [positions, vocabulary], the likeliest token first."""
    rank = torch.arange(mass.shape[-1])[None].expand_as(mass)
    return [
        *(before >= value for value in TOP_P),
        *(rank >= value for value in TOP_K),
        *(mass < value * mass[:, :1] for value in MIN_P),
    ]
