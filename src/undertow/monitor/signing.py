"""Signing a model off: every question is asked many times, and what was answered is kept until all of it is there.

Replies are paid for, so a sign-off that ends early goes on where it was: they lie in a journal beside the baseline, a
line for each answered question and batch, and the journal goes when the baseline is written.
"""

import contextlib
import datetime
import fcntl
import json
import os
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from undertow.errors import ArtifactError, ConfigError, EmptyDataError, StorageError
from undertow.monitor.baseline import TOGETHER, Baseline, DeployedModel, check_texts
from undertow.store.fingerprints import canonical_json, sha256
from undertow.types import Prompt

FEWEST = 50
"""Replies to all questions together that a baseline needs; with fewer no share is known."""

BATCH = 8 * TOGETHER
"""Replies that are asked, and kept, together: this many are asked again after a kill."""

_JOURNAL = "undertow.sign_off_journal/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class SignOffOrder:
    """What is to be signed off.

    Attributes:
        questions: prompts that differ.
        watched: words.
        replies: for each question.
        approved_by: who signs off.

    Raises:
        ConfigError: nobody signs, or a question or word comes twice.
        EmptyDataError: these are fewer than `FEWEST` replies.
    """

    questions: Sequence[Prompt]
    watched: Sequence[str]
    replies: int
    approved_by: str

    def __post_init__(self) -> None:
        questions, watched = self.questions, self.watched
        if not self.approved_by.strip():
            raise ConfigError(
                "Nobody signs the baseline off.", repr(self.approved_by), "Give the name of who reads the replies."
            )
        if not watched or len(set(watched)) < len(watched) or len(set(questions)) < len(questions):
            raise ConfigError(
                "No word is watched, or a word or question comes twice.", ", ".join(watched), "List each of them once."
            )
        if len(questions) * self.replies < FEWEST:
            raise EmptyDataError(
                "There are too few replies to know any share.",
                f"{len(questions)} questions with {self.replies} replies each",
                f"Ask for {-(-FEWEST // max(1, len(questions)))} replies or more.",
            )

    def fingerprint(self, deployed: DeployedModel) -> str:
        """Return what must be the same for replies to belong together; the words may change."""
        asked = [[[turn.role, turn.content] for turn in prompt] for prompt in self.questions]
        request = [deployed.url, deployed.model, deployed.max_tokens, deployed.dialect.deciding()]
        return sha256(canonical_json([request, asked, self.replies]))


@dataclass(slots=True)
class SignOffJournal:
    """The replies so far.

    Attributes:
        texts: of each question.
    """

    texts: list[list[str]]
    _stream: BinaryIO | None = field(default=None, repr=False)

    @property
    def n(self) -> int:
        """Number of replies."""
        return sum(map(len, self.texts))

    def add(self, places: Sequence[int], texts: Sequence[str]) -> None:
        """Keep replies to the questions at these places."""
        for place, text in zip(places, texts, strict=True):
            self.texts[place].append(text)
        if self._stream is not None:
            self._stream.write(json.dumps([list(places), list(texts)]).encode() + b"\n")
            self._stream.flush()
            os.fsync(self._stream.fileno())


def sign_off_journal(out: Path) -> Path:
    """Return where the journal of a baseline lies."""
    return out.with_name(f"{out.name}.part")


@contextlib.contextmanager
def open_sign_off(out: Path, order: SignOffOrder, deployed: DeployedModel) -> Generator[SignOffJournal]:
    """Open the journal of a baseline, or begin it; it is deleted once the block ends well, or if it is of no use.

    Raises:
        ArtifactError: it holds replies to other questions, of another model or in another number, or is damaged.
        StorageError: the folder may not be written, or another process signs off here.
    """
    path, head = sign_off_journal(out), {"undertow": _JOURNAL, "of": order.fingerprint(deployed)}
    try:
        stream = path.open("a+b")
    except OSError as error:
        raise StorageError(
            f"The baseline cannot be stored ({error.strerror}).", out, "Give a file in a folder you can write."
        ) from error
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            fix = "Wait for it, or write to another file."
            raise StorageError("Another process signs off here.", path, fix) from error
        journal = SignOffJournal(_read(path, stream, head, len(order.questions)), stream)
        try:
            yield journal
        except EmptyDataError:
            path.unlink()  # its replies have no text
            raise
        path.unlink()


def _read(path: Path, stream: BinaryIO, head: dict[str, Any], questions: int) -> list[list[str]]:
    """Return the replies so far; what a kill cut off behind the last whole line is asked again."""
    stream.seek(0)
    lines = [line for line in stream if line.endswith(b"\n")]
    stream.truncate(sum(map(len, lines)))
    texts: list[list[str]] = [[] for _ in range(questions)]
    if not lines:
        stream.write(json.dumps(head).encode() + b"\n")
        stream.flush()
        return texts
    try:
        found, *batches = map(json.loads, lines)
        if found == head:
            for places, said in batches:
                for place, text in zip(places, said, strict=True):
                    texts[place].append(text)
    except (ValueError, TypeError, LookupError) as error:
        raise ArtifactError("The journal of a sign-off is damaged.", path, "Delete it and ask anew.") from error
    if found != head:
        fix = f"Finish it with the questions, model and numbers it was begun with, or delete {path.name}."
        raise ArtifactError("A sign-off that was begun with other settings lies here.", path, fix)
    return texts


def sign_off(
    deployed: DeployedModel, order: SignOffOrder, journal: SignOffJournal, done: Callable[[], None] = lambda: None
) -> Baseline:
    """Ask what is still to be asked, and return the baseline.

    Args:
        deployed: the model that is signed off.
        order: what is to be signed off.
        journal: the replies so far.
        done: called after each reply.

    Raises:
        ConfigError: every reply to a question is the same text.
        EmptyDataError: too many replies have no text; it is said as soon as that is certain.
        ModelError: as `DeployedModel.ask`.
    """
    whole = len(order.questions) * order.replies
    open_places = [k for k, texts in enumerate(journal.texts) for _ in range(order.replies - len(texts))]
    for at in range(0, len(open_places), BATCH):
        places = open_places[at : at + BATCH]
        journal.add(places, deployed.ask([order.questions[place] for place in places], done))
        check_texts(_flat(journal.texts), deployed.empty, whole)
    check_texts(_flat(journal.texts), deployed.empty)
    if order.replies > 1 and all(len(set(some)) == 1 for some in journal.texts):
        raise ConfigError(
            "Every question gets the same reply again and again, so the replies are no independent draws.",
            repr(journal.texts[0][0])[:80],
            "Let the endpoint draw at temperature 1, without a cache; then sign off again.",
        )
    return Baseline(
        model=deployed.model, approved_by=order.approved_by.strip(),
        date=datetime.datetime.now(datetime.UTC).date().isoformat(), max_tokens=deployed.max_tokens,
        watched=tuple(order.watched), questions=tuple(order.questions),
        replies=tuple(map(tuple, journal.texts)), request=deployed.spoken.to_json(),
    )  # fmt: skip


def _flat(texts: Sequence[Sequence[str]]) -> list[str]:
    return [text for some in texts for text in some]
