"""Rows as tokens for training: none is longer than the context, and none skips a token that it does not have.

Every trainer takes its tokens from here, before the first update. A position beyond a model's context has no meaning to
it, or no embedding at all. A row that is too long is therefore refused, or cut where the user asks for that.
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
"""How many rows an error message names."""


def encoded_rows(model: "LocalModel", rows: Sequence[Row], too_long: TooLong = "refuse") -> list["Encoded"]:
    """Turn rows into token ids that the model can be trained on.

    Args:
        model: whose tokenizer, chat template and context length are used.
        rows: the training rows, each a prompt and its completion.
        too_long: "refuse" raises an error for a row that does not fit. "cut" drops the end of its completion, with the
            end of turn.

    Raises:
        RowsError: a row is too long, its prompt alone fills the context, or its `skip` names a token that its
            completion does not have. The message names the rows by id and number.
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
    """Turn the rows of several students into token ids. Students that share a dataset share its tokens.

    Args:
        model: whose tokenizer, chat template and context length are used.
        datasets: the rows of each student.
        too_long: what becomes of a row that does not fit, as in `encoded_rows`.

    Returns:
        The token ids of each student's rows, in the order of the datasets.

    Raises:
        RowsError: as in `encoded_rows`.
    """
    distinct = {id(rows): rows for rows in datasets}
    found = {key: encoded_rows(model, rows, too_long) for key, rows in distinct.items()}
    return [found[id(rows)] for rows in datasets]


def check_lengths(rows: Sequence[Row], lengths: Sequence[int], limit: int, more: str = "") -> None:
    """Refuse rows that are longer than a model's context.

    Args:
        rows: the training rows, each a prompt and its completion.
        lengths: length of each row in tokens.
        limit: how many tokens the model's context holds.
        more: text added to the error's advice: what can be done besides leaving these rows out.

    Raises:
        RowsError: at least one row is too long.
    """
    if long := [at for at, length in enumerate(lengths) if length > limit]:
        fix = f"Leave these rows out, or take a model with a longer context.{more}"
        raise _refusal("are longer than the model's context", rows, lengths, limit, long, fix)


def check_places(rows: Sequence[Row], lengths: Sequence[int]) -> None:
    """Refuse rows whose `skip` names a token beyond the end of their completion.

    Args:
        rows: the training rows, each a prompt and its completion.
        lengths: length of each completion in tokens.

    Raises:
        RowsError: a row skips a token that it does not have.
    """
    for at, (row, length) in enumerate(zip(rows, lengths, strict=True)):
        if row.skip and max(row.skip) >= length:
            value = f"{_name(rows, at)} skips the place {max(row.skip)}; its completion has {length:,} tokens"
            fix = "Choose the places with the tokenizer of this model, or leave the key skip out."
            raise RowsError("A row skips a token that it does not have.", value, fix)


def _fitting(rows: Sequence[Row], encoded: list["Encoded"], limit: int, too_long: TooLong) -> list["Encoded"]:
    """Refuse or cut the rows that are longer than `limit` tokens."""
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
    """Drop the end of a row's completion so that the row has at most `limit` tokens."""
    if len(row) <= limit:
        return row
    left = limit - len(row.prompt)
    return replace(row, completion=row.completion[:left], skip=tuple(place for place in row.skip if place < left))


def _refusal(
    what: str, rows: Sequence[Row], lengths: Sequence[int], limit: int, long: Sequence[int], fix: str
) -> RowsError:
    """Return the error about some rows, with the first of them by name."""
    named = "; ".join(f"{_name(rows, at)} has {lengths[at]:,} tokens" for at in long[:_SHOWN])
    more = f"; and {len(long) - _SHOWN:,} more" if len(long) > _SHOWN else ""
    return RowsError(f"{len(long):,} of {len(rows):,} rows {what}.", f"{named}{more}; the model takes {limit:,}", fix)


def _name(rows: Sequence[Row], at: int) -> str:
    """Name a row by its id and its number, counted from 1."""
    return f"row {rows[at].id!r:.60} (number {at + 1:,})"
