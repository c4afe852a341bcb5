"""A tokenizer's chat template as a function from turns to text, and what can be learnt about it by trying it.

Templates are programs that strangers wrote. They are tried on turns with texts that do not occur by chance, and
everything that is known of a template was seen in what it wrote: whether the question appears at all, what stands
before and after an answer, whether it knows a system turn, and whether the prompt opens a reasoning trace.
"""

import contextlib
import functools
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, final

from undertow.errors import ModelError
from undertow.types import Message

logger = logging.getLogger(__name__)

OPTIONS: dict[str, Any] = {"enable_thinking": False, "date_string": "26 Jul 2024"}
"""Options that every template is given; most ignore them. Without them Qwen3's template leaves room for reasoning, and
Llama 3's writes the date of the day. The date is the one that Llama's own template falls back on."""

ASKED, ANSWERED, AGAIN, TOLD = "zqasked", "zqanswered", "zqagain", "zqtold"

_ONCE = (Message("user", ASKED), Message("assistant", ANSWERED))
_OTHER = "Give the model another one: add ?template=FILE or ?template=plain to the reference."

TRACES = (
    ("<think>", "</think>"),
    ("[THINK]", "[/THINK]"),
    ("<seed:think>", "</seed:think>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
)
"""What opens and closes a reasoning trace, in this order: of Qwen, DeepSeek and most others; Mistral; Seed; Cohere."""

_DATE = {
    "%-d": "26", "%-m": "7", "%-H": "0", "%-I": "12", "%-M": "0", "%-S": "0", "%-j": "208", "%-y": "24",
    "%Y": "2024", "%y": "24", "%m": "07", "%B": "July", "%b": "Jul", "%h": "Jul", "%d": "26", "%e": "26", "%j": "208",
    "%A": "Friday", "%a": "Fri", "%u": "5", "%w": "5", "%U": "29", "%W": "30", "%V": "30", "%G": "2024", "%H": "00",
    "%I": "12", "%M": "00", "%S": "00", "%p": "AM", "%f": "000000", "%F": "2024-07-26", "%D": "07/26/24",
    "%x": "07/26/24", "%T": "00:00:00", "%X": "00:00:00", "%R": "00:00", "%c": "Fri Jul 26 00:00:00 2024",
    "%z": "", "%Z": "", "%s": "1721952000", "%n": "\n", "%t": "\t",
}  # fmt: skip
"""Value of every directive of strftime for midnight of the day in `OPTIONS`."""

_PINNED = (
    "{% macro strftime_now(format) %}{{ format"
    + "".join(f" | replace({directive!r}, {text!r})" for directive, text in _DATE.items())
    + " | replace('%%', '%') }}{% endmacro %}{{ '' }}"
)
"""Jinja macro in place of the function that gives templates the time; transformers lets no function of Python through.
The empty expression at its end keeps a new line with which the template begins."""


@functools.cache
def say_once(text: str) -> None:
    """Log a warning, but only the first time that it comes in this process."""
    logger.warning(text)


@final
@dataclass(frozen=True)
class ChatTemplate:
    """The chat template of a tokenizer, and what is known of it.

    Attributes:
        tokenizer: tokenizer of transformers with one chat template, or with several by name, one of them called
            "default".
    """

    tokenizer: Any

    @property
    def _name(self) -> str:
        return str(self.tokenizer.name_or_path)

    @cached_property
    def source(self) -> str:
        """The text of the template, changed so that it writes the same date on every day.

        Raises:
            ModelError: the tokenizer has no template, or several and none called "default".
        """
        found = self.tokenizer.chat_template
        if found is None:
            fix = "Use an instruction-tuned model, or add ?template=plain or ?template=FILE to the reference."
            raise ModelError("The model has no chat template.", self._name, fix)
        if isinstance(found, dict):
            names = ", ".join(sorted(found))
            if "default" not in found:
                fix = f"Choose one: add ?template= and one of {names} to the reference."
                raise ModelError("The model has several chat templates, and none is the default.", self._name, fix)
            found = found["default"]
        return _PINNED + found if "strftime_now" in found else found

    @property
    def date(self) -> str | None:
        """The fixed date that the template is given; None if it asks for none."""
        asks = any(name in self.source for name in ("strftime_now", "date_string"))
        return OPTIONS["date_string"] if asks else None

    def write(self, turns: Sequence[Message], *, answering: bool = False) -> str:
        """Return the text of a conversation.

        A system turn that the template does not know is put at the beginning of the first user turn.

        Args:
            turns: the turns of the conversation, at least one.
            answering: whether the text ends where the assistant begins to speak (a generation prompt).

        Raises:
            ModelError: there is no template, or it refuses the turns or fails on them.
        """
        if len(turns) > 1 and turns[0].role == "system" and not self.takes_system:
            told = f"{turns[0].content}\n\n{turns[1].content}".lstrip("\n")
            turns = (Message(turns[1].role, told), *turns[2:])
        return self._apply(turns, answering, self.reads_parts)

    def _apply(self, turns: Sequence[Message], answering: bool, parts: bool) -> str:
        chat = [
            {"role": turn.role, "content": [{"type": "text", "text": turn.content}] if parts else turn.content}
            for turn in turns
        ]
        source = self.source
        try:
            return self.tokenizer.apply_chat_template(
                chat, chat_template=source, tokenize=False, add_generation_prompt=answering, **OPTIONS
            )
        except ImportError:
            raise
        # A template is a program; it may fail in every way that an expression of Python can.
        except Exception as error:
            roles = ", ".join(turn.role for turn in turns)
            value = f"{self._name}: {roles}: {' '.join(str(error).split())[:300]}"
            raise ModelError("The chat template refuses this conversation.", value, "Use other turns.") from error

    @cached_property
    def reads_parts(self) -> bool:
        """Whether the template shows a text only if it comes as a list of parts.

        Templates of models that also see images do so.

        Raises:
            ModelError: the template shows the text in neither form, so that no question would reach the model.
        """
        asked, plain, refusal = (Message("user", ASKED),), "", None
        try:
            plain = self._apply(asked, True, parts=False)
        except ModelError as error:
            refusal = error
        if ASKED in plain:
            return False
        with contextlib.suppress(ModelError):
            if ASKED in self._apply(asked, True, parts=True):
                return True
        if refusal is not None:
            raise refusal
        raise ModelError("The chat template does not show the question.", f"{self._name}: {plain[-200:]!r}", _OTHER)

    @cached_property
    def takes_system(self) -> bool:
        """Whether the template knows a system turn; Gemma's refuses it, others leave it out."""
        try:
            turns = (Message("system", TOLD), Message("user", ASKED))
            return TOLD in self._apply(turns, True, self.reads_parts)
        except ModelError:
            return False

    @cached_property
    def _exchanged(self) -> str:
        text = self.write(_ONCE)
        if ANSWERED not in text:
            raise ModelError("The chat template does not show the answer.", f"{self._name}: {text[-200:]!r}", _OTHER)
        return text

    @cached_property
    def exchange(self) -> tuple[str, str]:
        """The text after an answer at the end, and the text between an answer and the next question.

        Raises:
            ModelError: the template does not show the answer.
        """
        closing = self._exchanged.partition(ANSWERED)[2]
        return closing, self.write((*_ONCE, Message("user", AGAIN))).partition(ANSWERED)[2].partition(AGAIN)[0]

    @cached_property
    def opening(self) -> str:
        """The text before a question that follows an answer, such as "<|im_start|>user" and a new line."""
        return self.exchange[1].removeprefix(self.exchange[0])

    @cached_property
    def generation_lead(self) -> str:
        """The text between a question and the place where the assistant begins to speak."""
        return self.write((Message("user", ASKED),), answering=True).partition(ASKED)[2]

    @cached_property
    def answer_lead(self) -> str:
        """The text between a question and its answer in a whole conversation.

        Raises:
            ModelError: the template does not show the answer.
        """
        return self._exchanged.partition(ASKED)[2].partition(ANSWERED)[0]

    @cached_property
    def trims(self) -> tuple[bool, bool]:
        """Whether the template strips white space from the beginning, and from the end, of an answer."""
        text = self.write((Message("user", ASKED), Message("assistant", f" \n{ANSWERED} \n")))
        return f" \n{ANSWERED}" not in text, f"{ANSWERED} \n" not in text

    @cached_property
    def trace(self) -> "OpenedTrace | None":
        """The reasoning trace that the generation prompt ends with, open or empty; None for most templates."""
        for opens, closes in TRACES:
            pattern = rf"{re.escape(opens)}\s*({re.escape(closes)}\s*)?"
            if found := re.search(rf"{pattern}\Z", self.generation_lead):
                return OpenedTrace(opens, closes, found.group(), found.group(1) is None)
        return None


@final
@dataclass(frozen=True, slots=True)
class OpenedTrace:
    """The reasoning trace at the end of a generation prompt.

    Attributes:
        opens: text that opens a trace, such as "<think>".
        closes: text that closes a trace, such as "</think>".
        text: the end of the prompt, such as "<think>" and a new line.
        is_open: whether the prompt leaves it open, so that the assistant begins within it.
    """

    opens: str
    closes: str
    text: str
    is_open: bool

    def without_opening(self, answer: str) -> str:
        """Return an answer that carries a trace, without the part of it that the prompt has written already."""
        if not self.is_open:
            return answer
        return answer.removeprefix(self.text) if answer.startswith(self.text) else answer[len(self.opens) :].lstrip()
