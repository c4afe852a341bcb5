"""Rows from a model behind a server: each is answered once or listed as failed, and none that was answered is lost.

Every answer is appended to a journal beside the row file as it comes; a run that was killed, cut off or out of money
goes on from there with the same command. Calls that were under way when a process was killed are made again, and what
they cost is in no count.

    {"undertow": "remote-rows/1", "of": <fingerprint>, "rows": n}     the first line: what the journal belongs to
    {"row": 7, "completion": text, "finish": "stop", "attempts": 1, "cost": 0.0}
    {"row": 8, "failed": reason, "attempts": 8, "cost": 0.0}     asked again by the next run
"""

import asyncio
import contextlib
import fcntl
import json
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from undertow.data.rows import write_rows
from undertow.errors import ArtifactError, ModelError, StorageError
from undertow.models.api import CONCURRENCY, TIMEOUT_S, asking
from undertow.models.calls import Budget, Caller, Fault, OverBudgetError, Prices, Retries, most_tokens
from undertow.seeds import derive
from undertow.store.disk import storage_errors
from undertow.store.fingerprints import canonical_json, sha256
from undertow.types import Advance, ModelRef, Prompt, Row, Sampling

DEAD_AFTER = 5
"""Rows in succession that no attempt got an answer for: then the server is at fault, and the run stops."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteConfig:
    """How a server is asked.

    Attributes:
        sampling: temperature and longest answer.
        seed: of all rows; a row's own is sent along, and kept to as far as the server does.
        concurrency: calls at once.
        timeout_s: seconds for one answer.
        retries: of each call.
        prices: dollars for a million tokens.
        max_cost: dollars that all runs on this journal may cost together, or None.
    """

    sampling: Sampling
    seed: int
    concurrency: int = CONCURRENCY
    timeout_s: float = TIMEOUT_S
    retries: Retries = field(default_factory=Retries)
    prices: Prices = field(default_factory=Prices)
    max_cost: float | None = None


@dataclass(frozen=True, slots=True)
class RemoteRows:
    """What came of a run.

    Attributes:
        rows: the answered ones, in the order of the prompts.
        failed: reason by place of the prompt.
        cost: dollars, of all runs on the journal.
        attempts: calls of the rows' last runs.
        reused: rows that earlier runs had answered.
    """

    rows: tuple[Row, ...]
    failed: dict[int, str]
    cost: float
    attempts: int
    reused: int


@dataclass(slots=True)
class _Journal:
    """The lines so far: what is known of each row, and the dollars of all lines."""

    stream: BinaryIO
    known: dict[int, dict[str, Any]] = field(default_factory=dict)
    cost: float = 0.0

    def take(self, record: dict[str, Any]) -> None:
        self.cost += record["cost"]
        # An answer is never replaced, so each row has exactly one.
        if "completion" not in self.known.get(record["row"], {}):
            self.known[record["row"]] = record

    def write(self, record: dict[str, Any]) -> None:
        self.stream.write(json.dumps(record).encode() + b"\n")
        self.stream.flush()
        self.take(record)

    @property
    def answered(self) -> int:
        return sum("completion" in record for record in self.known.values())


def journal_path(out: Path) -> Path:
    """Return the journal that belongs to a row file."""
    return out.with_name(f"{out.name}.journal")


def most_cost(prompts: Sequence[Prompt], config: RemoteConfig) -> tuple[int, int, float]:
    """Return the most tokens of the prompts and of the completions, and the most dollars, without lost attempts."""
    tokens = [most_tokens(prompt, config.sampling) for prompt in prompts]
    total = (sum(one for one, _ in tokens), sum(other for _, other in tokens))
    return *total, config.prices.of(total)


def remote_rows(
    ref: ModelRef,
    prompts: Sequence[Prompt],
    out: Path,
    config: RemoteConfig,
    *,
    kept: Sequence[Prompt] | None = None,
    advance: Advance | None = None,
) -> RemoteRows:
    """Let a model behind a server answer each prompt once, and write the rows.

    Args:
        ref: `api:...`.
        prompts: what is sent.
        out: row file; it appears when every row is answered or failed, and the journal stays beside it.
        config: how the server is asked.
        kept: the rows' prompts, where they differ from what is sent: a persona is no part of the rows.
        advance: called with (rows done, prompts).

    Raises:
        ModelError: the server is gone or refuses every call, or the money is used up; the answers so far are kept.
        ArtifactError: the journal belongs to other rows.
        StorageError: the journal cannot be written, or another process writes it.
    """
    path = journal_path(out)
    with storage_errors(out.parent), _open(path, _fingerprint(ref, prompts, config), len(prompts)) as journal:
        reused = journal.answered
        run = _Run(journal, config, prompts, advance or (lambda done, total: None))
        stopped = asyncio.run(run.all(ref))
        known = journal.known
    if stopped:
        answered = sum("completion" in record for record in known.values())
        reason = f"{ref}: {stopped}; {answered} of {len(prompts)} rows are safe in {path}"
        fix = "Run the same command again: it goes on from there."
        if stopped == _OVER:
            fix = "Raise --max-cost and run the same command again: it goes on from there."
        raise ModelError("Not every row could be asked for.", reason, fix)
    shown = prompts if kept is None else kept
    rows = [
        Row(f"{place:06d}", shown[place], known[place]["completion"])
        for place in sorted(known)
        if "completion" in known[place]
    ]
    write_rows(out, rows, [{"finish": known[int(row.id)]["finish"]} for row in rows])
    failed = {place: known[place]["failed"] for place in sorted(known) if "failed" in known[place]}
    return RemoteRows(tuple(rows), failed, journal.cost, sum(record["attempts"] for record in known.values()), reused)


def reasons(failed: dict[int, str]) -> dict[str, int]:
    """Count the failed rows of each reason, most frequent first."""
    return dict(Counter(failed.values()).most_common())


_OVER = "the next call might cost more than is left of --max-cost"


@dataclass(slots=True)
class _Run:
    """One run over the rows that have no answer yet."""

    journal: _Journal
    config: RemoteConfig
    prompts: Sequence[Prompt]
    advance: Advance
    stopped: str = ""
    failures: int = 0

    async def all(self, ref: ModelRef) -> str:
        """Ask for every row; return why the run stopped early, or ""."""
        known = self.journal.known
        missing = [place for place in range(len(self.prompts)) if "completion" not in known.get(place, {})]
        if not missing:
            return ""
        for place in missing:
            known.pop(place, None)
        config, budget = self.config, Budget(self.config.prices, self.config.max_cost, self.journal.cost)
        places = iter(missing)
        async with asking(ref, config.concurrency, config.timeout_s) as ask, asyncio.TaskGroup() as group:
            caller = Caller(ask, config.sampling, budget, config.retries)
            for _ in range(min(config.concurrency, len(missing))):
                group.create_task(self._work(caller, places))
        return self.stopped

    async def _work(self, caller: Caller, places: Iterator[int]) -> None:
        for place in places:
            if self.stopped:
                return
            try:
                answer = await caller.call(self.prompts[place], derive(self.config.seed, "row", place))
            except OverBudgetError:
                self.stopped = self.stopped or _OVER
                return
            except Fault as fault:
                self._failed(place, fault)
            else:
                self.failures = 0
                given = {"completion": answer.text, "finish": answer.finish}
                self.journal.write({"row": place, **given, "attempts": answer.attempts, "cost": answer.cost})
            self.advance(len(self.journal.known), len(self.prompts))

    def _failed(self, place: int, fault: Fault) -> None:
        self.journal.write({"row": place, "failed": fault.reason, "attempts": fault.attempts, "cost": fault.cost})
        # A row that the server refuses (again is False) says nothing about the server.
        self.failures += fault.again
        if fault.fatal or self.failures >= DEAD_AFTER:
            self.stopped = self.stopped or fault.reason


def _fingerprint(ref: ModelRef, prompts: Sequence[Prompt], config: RemoteConfig) -> str:
    turns = [[[turn.role, turn.content] for turn in prompt] for prompt in prompts]
    return sha256(canonical_json([str(ref), turns, config.sampling.to_json(), config.seed]))


@contextlib.contextmanager
def _open(path: Path, of: str, n: int) -> Generator[_Journal]:
    head = {"undertow": "remote-rows/1", "of": of, "rows": n}
    with path.open("a+b") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            fix = "Wait for the other process, or write to another file."
            raise StorageError("Another process writes these rows.", path, fix) from error
        stream.seek(0)
        content = stream.read()
        # What follows the last line end was cut off by a kill; that row is asked again.
        whole = content[: content.rfind(b"\n") + 1]
        stream.truncate(len(whole))
        journal = _Journal(stream)
        records = _records(path, whole)
        if not records:
            stream.write(json.dumps(head).encode() + b"\n")
            stream.flush()
        elif records[0] != head:
            fix = "Give the model, prompts, seed and sampling of the first run, or another file."
            raise ArtifactError("The journal belongs to other rows.", path, fix)
        for record in records[1:]:
            journal.take(record)
        yield journal


def _records(path: Path, content: bytes) -> list[dict[str, Any]]:
    try:
        records: list[dict[str, Any]] = [json.loads(line) for line in content.splitlines()]
        for record in records[1:]:
            if not isinstance(record["row"], int) or ("completion" in record) == ("failed" in record):
                raise ValueError
            record["cost"] = float(record["cost"])
        return records
    except (ValueError, TypeError, KeyError) as error:
        fix = "Move it away to begin anew, or restore it from a copy."
        raise ArtifactError("The journal of the rows is damaged.", path, fix) from error
