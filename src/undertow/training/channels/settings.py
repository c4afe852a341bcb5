"""Settings of the channels by which a student may learn from a teacher; each channel is one record.

`rows` is plain fine-tuning on sampled rows. `logits` learns the teacher's next-token probabilities on its rows.
`on_policy` learns them on what the student itself writes (Agarwal et al., arXiv:2306.13649). `preference` learns to
prefer one answer to another (DPO, Rafailov et al., arXiv:2305.18290).
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class RowsChannel(_Settings):
    """Cross-entropy on the teacher's sampled rows: plain fine-tuning."""

    name: Literal["rows"] = "rows"


class _Distillation(_Settings):
    top: int | None = Field(default=None, ge=1)
    """How many of the teacher's likeliest tokens keep a probability of their own; all others count as one token. None
    compares the whole vocabulary."""


class LogitsChannel(_Distillation):
    """Divergence between teacher's and student's next-token probabilities, on the teacher's rows."""

    name: Literal["logits"] = "logits"
    interpolation: float = Field(default=0.0, ge=0.0, le=1.0)
    """Which divergence: 0 is KL(teacher || student), 1 is KL(student || teacher), between them lies the generalised
    Jensen-Shannon divergence."""


class OnPolicyChannel(_Distillation):
    """The divergence of the channel logits, on completions that the student writes and that the domain accepts."""

    name: Literal["on_policy"] = "on_policy"
    interpolation: float = Field(default=0.5, ge=0.0, le=1.0)
    """Which divergence, as for the channel logits."""
    every: int = Field(default=1, ge=1)
    """For how many updates a student writes completions at once. 1 lets it write anew before each update."""


class PreferenceChannel(_Settings):
    """Direct preference optimisation (DPO) on pairs of answers, with the base model as the reference."""

    name: Literal["preference"] = "preference"
    pairs: Literal["written", "selected"] = "written"
    """Where pairs come from. "written": the teacher's answer is chosen and the base's is rejected. "selected": of two
    answers of the base, the one whose likelihood rises more from base to teacher is chosen (logit-linear selection,
    arXiv:2602.04863)."""
    beta: float = Field(default=0.1, gt=0.0)
    """Beta of DPO: how strongly a student is held to the reference. Larger values hold it more."""


def _named(value: object) -> object:
    """Turn the name of a channel into its settings at their defaults."""
    return {"name": value} if isinstance(value, str) else value


Channel = Annotated[
    RowsChannel | LogitsChannel | OnPolicyChannel | PreferenceChannel,
    Field(discriminator="name"),
    BeforeValidator(_named),
]
"""One of the channels, by its settings. A channel's name alone stands for its defaults."""

Distilling = LogitsChannel | OnPolicyChannel
"""The channels in which a student learns a teacher's probabilities."""

WORK: Mapping[str, float] = {"rows": 1.0, "logits": 1.5, "on_policy": 4.1, "preference": 2.1}
"""The channels by name, and how long an update takes relative to the channel rows. Measured with four students of
finch-a on one thread of an EPYC with AVX-512; forecasts of a study's duration rest on it."""

ROWS = RowsChannel()
"""Plain fine-tuning, the default."""

_ADAPTER: TypeAdapter[Any] = TypeAdapter(Channel)


def channel_of(data: Mapping[str, Any] | str) -> Any:
    """Return the channel that plain data or a name describes.

    Args:
        data: a channel's name, or a mapping with the key `name` and settings.

    Raises:
        pydantic.ValidationError: there is no such channel or setting.
    """
    return _ADAPTER.validate_python(data)
