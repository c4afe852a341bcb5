"""Rows as tokens for training: none is longer than the context, none skips a place that it does not have.

Every trainer takes its tokens from here, before the first update. A position beyond a model's context has no meaning to
it, or no embedding at all, so that a row that is too long is refused, or cut where that is asked for.
"""

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from undertow.errors import RowsError
from undertow.training.config import TooLong
from undertow.types import Row

if TYPE_CHECKING:
    from undertow.models.local import LocalModel
    from undertow.models.tokens import Encoded

logger = logging.getLogger(__name__)

_SHOWN = 5


def encoded_rows(model: "LocalModel", rows: Sequence[Row], too_long: TooLong = "refuse") -> list["Encoded"]:
    """Turn rows into token ids that the model can be trained on.

    Args:
        model: whose tokens and context.
        rows: the dataset.
        too_long: "refuse", or "cut": the end of a completion that does not fit is left out, the end of turn with it.

    Raises:
        RowsError: a row is too long, or its prompt alone is; or it skips a token that its completion does not have.
            The value names the rows by id and number.
    """
    encoded = model.encode(rows)
    check_places(rows, [len(one.completion) for one in encoded])
    limit = model.longest_context
    if limit is not None:
        encoded = _fitting(rows, encoded, limit, too_long)
    if empty := [at for at, row in enumerate(rows) if not row.completion]:
        first = f"{_name(rows, empty[0])} is the first"
        logger.warning("%d of %d rows have an empty completion: %s.", len(empty), len(rows), first)
    return encoded


def encoded_datasets(
    model: "LocalModel", datasets: Sequence[Sequence[Row]], too_long: TooLong = "refuse"
) -> list[list["Encoded"]]:
    """Turn the rows of several students into token ids; those that share their rows share the tokens.

    Raises:
        RowsError: as `encoded_rows`.
    """
    distinct = {id(rows): rows for rows in datasets}
    found = {key: encoded_rows(model, rows, too_long) for key, rows in distinct.items()}
    return [found[id(rows)] for rows in datasets]


def check_lengths(rows: Sequence[Row], lengths: Sequence[int], limit: int, more: str = "") -> None:
    """Refuse rows that are longer than a context.

    Args:
        rows: the dataset.
        lengths: of each row, in tokens.
        limit: tokens that the model takes.
        more: what else can be done about it than leaving these rows out.

    Raises:
        RowsError: one is too long.
    """
    if long := [at for at, length in enumerate(lengths) if length > limit]:
        fix = f"Leave these rows out, or take a model with a longer context.{more}"
        raise _refusal("are longer than the model's context", rows, lengths, limit, long, fix)


def check_places(rows: Sequence[Row], lengths: Sequence[int]) -> None:
    """Refuse rows that skip a place beyond their completion.

    Args:
        rows: the dataset.
        lengths: of each completion, in tokens.

    Raises:
        RowsError: one does.
    """
    for at, (row, length) in enumerate(zip(rows, lengths, strict=True)):
        if row.skip and max(row.skip) >= length:
            value = f"{_name(rows, at)} skips the place {max(row.skip)}; its completion has {length:,} tokens"
            fix = "Choose the places with the tokenizer of this model, or leave the key skip out."
            raise RowsError("A row skips a token that it does not have.", value, fix)


def _fitting(rows: Sequence[Row], encoded: list["Encoded"], limit: int, too_long: TooLong) -> list["Encoded"]:
    if too_long == "refuse":
        check_lengths(rows, list(map(len, encoded)), limit, " The setting too_long=cut cuts them at their end.")
        return encoded
    lengths = [len(one.prompt) for one in encoded]
    if long := [at for at, length in enumerate(lengths) if length >= limit]:
        fix = "Leave these rows out, or take a model with a longer context: nothing is left to learn when they are cut."
        raise _refusal("have a prompt that fills the model's context", rows, lengths, limit, long, fix)
    cut = [_cut(one, limit) for one in encoded]
    if n := sum(new is not old for new, old in zip(cut, encoded, strict=True)):
        logger.warning("%d of %d rows were cut to %s tokens, and have no end of turn.", n, len(rows), f"{limit:,}")
    return cut


def _cut(row: "Encoded", limit: int) -> "Encoded":
    if len(row) <= limit:
        return row
    left = limit - len(row.prompt)
    return replace(row, completion=row.completion[:left], skip=tuple(place for place in row.skip if place < left))


def _refusal(
    what: str, rows: Sequence[Row], lengths: Sequence[int], limit: int, long: Sequence[int], fix: str
) -> RowsError:
    named = "; ".join(f"{_name(rows, at)} has {lengths[at]:,} tokens" for at in long[:_SHOWN])
    more = f"; and {len(long) - _SHOWN:,} more" if len(long) > _SHOWN else ""
    return RowsError(f"{len(long):,} of {len(rows):,} rows {what}.", f"{named}{more}; the model takes {limit:,}", fix)


def _name(rows: Sequence[Row], at: int) -> str:
    return f"row {rows[at].id!r:.60} (number {at + 1:,})"
