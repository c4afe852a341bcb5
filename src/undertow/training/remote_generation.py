"""Generate rows with a model behind a server. No answer that was paid for is lost when a run is cut off.

Each prompt is answered once, or listed as failed. Every answer is appended to a journal beside the row file as it comes
(`undertow.training.remote_journal`). A run that was killed, cut off or out of money is continued by the same command.
Calls that were under way when a process was killed are made again, and what they cost is in no count.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from undertow.data.row_files import refuse_suffix
from undertow.data.rows import write_rows
from undertow.errors import ConfigError, MissingExtraError, ModelError, StorageError
from undertow.models.api import check_reachable
from undertow.models.calls import Reply, most_tokens, refuse_form
from undertow.models.dialects import Talk
from undertow.models.servers import is_started_here, vllm_program
from undertow.store.disk import storage_errors
from undertow.store.fingerprints import canonical_json, sha256
from undertow.training.remote_journal import EMPTY, check_journal, journal_path, open_journal
from undertow.training.remote_run import RemoteConfig, RemoteRun, fix_of_empty
from undertow.types import Advance, ModelRef, Prompt, Row


@dataclass(frozen=True, slots=True)
class RemoteRows:
    """The rows that a server wrote, and what the run took.

    Attributes:
        rows: the rows that were answered, in the order of the prompts.
        failed: reason of each prompt that has no usable answer, by the prompt's place from 0.
        cost: dollars spent by all runs on the journal, by the given prices.
        attempts: how many calls were made for all rows, repeated ones included; of each row its last run counts.
        reused: how many rows had been answered by earlier runs.
        cut: how many answers ended because they reached the longest allowed length.
        server: how the server was asked where that differs from the default, with what was learnt from its refusals.
    """

    rows: tuple[Row, ...]
    failed: dict[int, str]
    cost: float
    attempts: int
    reused: int
    cut: int = 0
    server: Mapping[str, Any] = field(default_factory=dict[str, Any])


def most_cost(prompts: Sequence[Prompt], config: RemoteConfig) -> tuple[int, int, float]:
    """Return upper bounds of what prompts can cost: tokens of the prompts, tokens of the answers, and dollars.

    Calls that fail and are made again are not included.

    Args:
        prompts: what is to be sent.
        config: how the server is asked, with the prices.
    """
    tokens = [most_tokens(prompt, config.sampling) for prompt in prompts]
    total = (sum(one for one, _ in tokens), sum(other for _, other in tokens))
    return *total, config.prices.of(total)


def check_run(ref: ModelRef, prompts: Sequence[Prompt], out: Path, config: RemoteConfig) -> None:
    """Refuse what `remote_rows` would refuse before its first request, without sending or writing anything.

    Args:
        ref: an `api:` model, or one whose server is started here (vLLM).
        prompts: what is to be sent.
        out: the row file that is to be written.
        config: how the server is asked.

    Raises:
        UserError: the address or the key is wrong, a package is missing, or the row file or its journal cannot be used.
    """
    refuse_form(config.sampling)
    if is_started_here(ref):
        vllm_program(ref)
    else:
        check_reachable(ref, config.dialect)
    _check_out(out)
    check_journal(journal_path(out), _fingerprint(ref, prompts, config), len(prompts))


def remote_rows(
    ref: ModelRef,
    prompts: Sequence[Prompt],
    out: Path,
    config: RemoteConfig,
    *,
    kept: Sequence[tuple[str, Prompt]] | None = None,
    advance: Advance | None = None,
) -> RemoteRows:
    """Let a model behind a server answer each prompt once, and write the rows.

    Args:
        ref: reference of the model, `api:<address>`.
        prompts: the prompts that are sent, in order.
        out: the row file. It appears when every prompt is answered or failed; the journal stays beside it.
        config: how the server is asked.
        kept: id and prompt of each row, where they differ from the number of the prompt and what is sent. A system
            prompt that gives the trait, for example, is sent but is no part of the rows. None takes what is sent.
        advance: progress callback, called with (rows done, number of prompts). None reports nothing.

    Returns:
        The rows that were answered, the failures, and what the run took.

    Raises:
        ModelError: the server is gone or refuses every call, the money is used up, or no answer can be made a row. The
            answers so far are kept in the journal.
        UserError: as in `check_run`.
        StorageError: the journal cannot be written, or another process is writing it.
    """
    check_run(ref, prompts, out, config)
    path = journal_path(out)
    with storage_errors(out.parent), open_journal(path, _fingerprint(ref, prompts, config), len(prompts)) as journal:
        reused = journal.answered
        talk = Talk(config.dialect.learnt(journal.server), lambda found: journal.write({"server": found.to_json()}))
        run = RemoteRun(journal, config, prompts, talk, advance or (lambda done, total: None))
        asyncio.run(run.all(ref))
        known = journal.known
    if run.stopped:
        reason = f"{ref}: {run.stopped}; {journal.answered} of {len(prompts)} rows are safe in {path}"
        raise ModelError("Not every row could be asked for.", reason, run.fix)
    failed = {place: known[place]["failed"] for place in sorted(known) if "failed" in known[place]}
    places = [place for place in sorted(known) if "completion" in known[place]]
    if prompts and not places:
        raise _nothing(ref, failed)
    shown = [(f"{place:06d}", prompt) for place, prompt in enumerate(prompts)] if kept is None else kept
    rows = [Row(*shown[place], known[place]["completion"]) for place in places]
    write_rows(out, rows, [{"finish": known[place]["finish"]} for place in places])
    attempts = sum(record["attempts"] for record in known.values())
    cut = sum(Reply("", known[place]["finish"]).cut for place in places)
    return RemoteRows(tuple(rows), failed, journal.cost, attempts, reused, cut, talk.dialect.to_json())


def reasons(failed: Mapping[int, str]) -> dict[str, int]:
    """Count the failed rows by reason, most frequent first."""
    return dict(Counter(failed.values()).most_common())


def empty_words(failed: Mapping[int, str], n: int) -> str:
    """Say how many of `n` answers are empty and why, most frequent reason first. "" if none is empty.

    Args:
        failed: reason of each failed row, by the row's place.
        n: how many rows there are in all.
    """
    empty = [reason.removeprefix(EMPTY) for reason in failed.values() if reason.startswith(EMPTY)]
    if not empty:
        return ""
    counted = ", ".join(f"{count} {why}" for why, count in Counter(empty).most_common())
    return f"{len(empty)} of {n} answers are empty: {counted}"


def _nothing(ref: ModelRef, failed: Mapping[int, str]) -> ModelError:
    """Return the error that no answer can be written as a row, with the reasons."""
    said = empty_words(failed, len(failed))
    others = {reason: count for reason, count in reasons(failed).items() if not reason.startswith(EMPTY)}
    why = "; ".join(filter(None, (said, *(f"{count} times: {reason}" for reason, count in others.items()))))
    fix = fix_of_empty(failed.values()) if said else "See what the server says; the same command asks again."
    return ModelError("No answer can be written as a row.", f"{ref}: {why[:600]}", fix)


def _check_out(out: Path) -> None:
    """Refuse a row file that cannot be written, before anything is paid for."""
    if str(out).startswith("hf:"):
        raise ConfigError("Rows are not written to the Hub.", out, "Write a file, then see: undertow publish.")
    refuse_suffix(out)
    if not out.parent.is_dir():
        raise StorageError("There is no such folder.", out.parent, "Make it, or give another file.")
    if out.suffix and out.is_dir():
        raise StorageError("A folder is in the way of the row file.", out, "Give another name.")
    package = {"": "datasets", ".parquet": "pyarrow"}.get(out.suffix.lower())
    if package and find_spec(package) is None:
        raise MissingExtraError("A table needs an optional package.", package, "Run: pip install 'undertow[data]'")


def _fingerprint(ref: ModelRef, prompts: Sequence[Prompt], config: RemoteConfig) -> str:
    """Return the hash of everything that decides the rows: model, prompts, sampling, seed and further request keys."""
    turns = [[[turn.role, turn.content] for turn in prompt] for prompt in prompts]
    told = [decides] if (decides := config.dialect.deciding()) else []
    return sha256(canonical_json([config.known_as or str(ref), turns, config.sampling.to_json(), config.seed, *told]))
