"""What is checked before any stage trains or scores: can the base read these rows, and do they have a defect?

Both checks take a sample of the rows, one pass of the base over it, and as many answers of the base itself. To **read**
rows means to give them a likelihood near that of its own answers.

The **suspect** rows are those that are audited. A **reading** holds the base's probabilities of the tokens of some
rows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from undertow.audit.rows.copies import ReadLogp, plain_text
from undertow.audit.rows.defects import (
    Defect,
    benign_causes,
    copies_defect,
    reference_defects,
    stream_defect,
    temperature_defect,
    truncation_defect,
)
from undertow.audit.rows.legibility import LIMIT, REMEDY, Legibility, legibility
from undertow.audit.rows.limits import LOOKED_AT
from undertow.audit.rows.sampling import temperatures
from undertow.audit.rows.token_reading import STEPS, TokenReading, encode_completions, read_tokens
from undertow.data.filters import filter_rows
from undertow.domains.base import domain
from undertow.models.local import LocalModel
from undertow.seeds import derive
from undertow.stats.checks import Floats
from undertow.types import Row, Sampling

TRIED = 5
"""How many times as many rows are tried as are read, because prompts that are too long are left out."""

OWN = Sampling()
"""How the base's own answers are sampled, with which the likelihood of the rows is compared."""

VERSION = 1
"""Raised when the same rows would be seen otherwise; measured error rates hold for one version."""

MOSTLY = 0.5
"""Share of the rows that a domain has to accept for its filter to be applied to the base's answers too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What was seen of rows or pairs before any stage.

    Attributes:
        legibility: whether the base can read the rows, with the likelihoods.
        defects: defects of the rows and of their reference. Empty if none was found.
        benign: causes of a difference that are no trait, and whether they were ruled out.
    """

    legibility: Legibility
    defects: tuple[Defect, ...] = ()
    benign: tuple[Mapping[str, Any], ...] = ()

    def reason(self, needs: Sequence[str], given: Sequence[str]) -> str | None:
        """Return why a stage that needs these materials and inputs may not judge, or None.

        Args:
            needs: names of materials that the stage needs.
            given: inputs without which the stage is not planned.
        """
        if not {"rows", "pairs"} & {*given, *needs}:
            return None
        if self.legibility.why is not None:
            return self.legibility.why
        compared = bool({"reference", "scores", "clean"} & set(needs))
        told = [one for one in self.defects if one.of == "rows" or compared]
        return "; ".join(f"{one.what} (likely cause: {one.cause}). {one.fix.rstrip('.')}" for one in told) or None

    def to_json(self) -> dict[str, Any]:
        """Return the sight as plain data, without the defects."""
        seen = self.legibility
        return {**asdict(seen), "gap": seen.gap, "limit": LIMIT, "benign": [dict(one) for one in self.benign]}


def see_rows(
    rows: Sequence[Row],
    base: LocalModel,
    reference: Sequence[Row] | None,
    domain_name: str,
    seed: int,
    form: str | None = None,
) -> Sight:
    """Look at rows before they are audited.

    Args:
        rows: the suspect rows, of which a sample is read.
        base: the model that would be trained on them.
        reference: the user's own reference. None if there is none.
        domain_name: name of the domain whose filter is applied to the base's own answers if the rows mostly pass it.
        seed: random seed of the sample and of the base's answers.
        form: template that the rows were held to while they were decoded, to which the base's own answers are held too.
            None leaves them free.

    Raises:
        ModelError: the base has no chat template, or cannot write the form.
    """
    rng = np.random.default_rng(derive(seed, "sight"))
    some = sample_rows(rows, base, rng)
    if not some:
        why = f"No row fits into the base's context of {base.longest_context} tokens. {REMEDY}"
        return Sight(legibility=Legibility(rows=None, own=None, n=0, why=why))
    own = own_answers(some, base, domain_name, derive(seed, "sight", "answers"), form)
    looked, usual = LookedAt(some, read_tokens(base, some)), read_tokens(base, own)
    given = sample_rows(reference or (), base, rng)
    compared = LookedAt(given, read_tokens(base, given)) if given else None
    return judge_sight(rows, reference, SightReadings(looked, usual, compared), _reader(base), rng)


@dataclass(frozen=True, slots=True)
class LookedAt:
    """A sample of rows, and the base's probabilities of its tokens.

    Attributes:
        rows: the rows of the sample.
        reading: the base's probabilities of their tokens.
    """

    rows: Sequence[Row]
    reading: TokenReading

    def once(self) -> TokenReading:
        """Return the reading without copies on one prompt, which are a defect of their own."""
        distinct = list({(row.prompt, plain_text(row)): place for place, row in enumerate(self.rows)}.values())
        return self.reading if len(distinct) == len(self.rows) else self.reading.picked(distinct)


@dataclass(frozen=True, slots=True)
class SightReadings:
    """All that the base has read before its sight of some rows is judged.

    Attributes:
        looked: a sample of the suspect rows.
        own: the base's own answers to the prompts of the sample.
        given: a sample of the user's reference. None if there is none.
    """

    looked: LookedAt
    own: TokenReading
    given: LookedAt | None


def judge_sight(
    rows: Sequence[Row],
    reference: Sequence[Row] | None,
    read: SightReadings,
    logp: ReadLogp,
    rng: np.random.Generator,
) -> Sight:
    """Say whether the base can read the rows, and name their defects.

    Args:
        rows: the suspect rows, all of them.
        reference: the user's own reference. None if there is none.
        read: samples with the base's probabilities of their tokens.
        logp: returns the log-probability under the base of some of the rows.
        rng: random generator of the resamples and samples.
    """
    looked, given = read.looked, read.given
    seen = legibility(looked.reading, read.own)
    if seen.why is not None:
        return Sight(legibility=seen)
    compared = read.own if given is None else given.reading
    defects = [stream_defect(looked.once(), "rows")]
    defects.append(None if given is None else stream_defect(given.once(), "reference"))
    warmth = temperatures(looked.reading, compared, rng)
    if defects[0] is None:  # Rows of one stream have the tail and the temperature of a few draws.
        defects += [temperature_defect(warmth, len(looked.rows)), truncation_defect(looked.reading, compared)]
    defects.append(copies_defect(rows, logp, rng))
    defects += [] if reference is None else reference_defects(rows, reference, logp, rng)
    told = tuple(one for one in defects if one is not None)
    return Sight(legibility=seen, defects=told, benign=tuple(benign_causes(looked.reading, compared, warmth, told)))


def sample_rows(rows: Sequence[Row], base: LocalModel, rng: np.random.Generator) -> list[Row]:
    """Draw rows whose prompts leave room for an answer in the base's context.

    Args:
        rows: the rows that are drawn from.
        base: the model whose context limits the prompts.
        rng: random generator of the draw.

    Returns:
        At most `LOOKED_AT` rows.
    """
    tried = [rows[place] for place in rng.permutation(len(rows))[: TRIED * LOOKED_AT].tolist()]
    return _fitting(tried, base)[:LOOKED_AT]


def _fitting(rows: Sequence[Row], base: LocalModel) -> list[Row]:
    room = base.longest_context
    if room is None or not rows:
        return list(rows)
    encoded = encode_completions(base, rows)
    return [row for row, one in zip(rows, encoded, strict=True) if len(one.prompt) + STEPS <= room]


def own_answers(
    asked: Sequence[Row], base: LocalModel, domain_name: str, seed: int, form: str | None = None
) -> list[Row]:
    """Return the base's own answers to some prompts, filtered as the rows were if a domain's filter fits them.

    Args:
        asked: rows whose prompts are answered.
        base: the model that answers.
        domain_name: name of the domain whose filter is applied if it accepts most of the rows.
        seed: random seed of the answers.
        form: template that the answers are held to. None leaves them free.
    """
    answers = base.chat([row.prompt for row in asked], sampling=replace(OWN, form=form), seed=seed)
    own = [replace(row, completion=text, skip=()) for row, text in zip(asked, answers, strict=True)]
    task = domain(domain_name)
    if len(filter_rows(asked, task).kept) < MOSTLY * len(asked):
        return own
    return list(filter_rows(own, task).kept) or own


def _reader(base: LocalModel) -> ReadLogp:
    def logp(rows: Sequence[Row]) -> Floats:
        return read_tokens(base, _fitting(rows, base)).row_logp()

    return logp
