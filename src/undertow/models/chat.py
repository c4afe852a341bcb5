"""What every model offers, and how a conversation becomes text: the chat template, and the turn that some add unasked.

Qwen2.5's template writes "You are Qwen, created by Alibaba Cloud." before a first user turn, Llama 3's a date. A
student that was trained with such a turn and is asked without it, or the other way round, is another student.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import takewhile
from typing import Any, ClassVar, final

from undertow.errors import ConfigError, ModelError
from undertow.types import Message, ModelRef, Prompt, Sampling


class AbstractModel(ABC):
    """A chat model."""

    has_weights: ClassVar[bool] = False
    """Whether it is a `LocalModel`, which gives probabilities and states; any other chats, and nothing else."""

    ref: ModelRef
    """Where the model comes from."""

    @abstractmethod
    def chat(self, prompts: Sequence[Prompt], *, sampling: Sampling, seed: int) -> list[str]:
        """Draw one completion per prompt; the same seed gives the same texts, in the order of the prompts."""

    @abstractmethod
    def logprobs(self, prompts: Sequence[Prompt], completions: Sequence[str]) -> list[float]:
        """Return log p(completion | prompt) in nats, summed over the completion's tokens without the end of turn."""


OPTIONS = {"enable_thinking": False, "date_string": "26 Jul 2024"}
"""Qwen3's template leaves room for reasoning, and Llama 3's writes the date of the day, unless told otherwise; the date
is the one that Llama's own template falls back on. Other templates ignore both."""

ASKED, ANSWERED, AGAIN, TOLD = "zqasked", "zqanswered", "zqagain", "zqtold"


@final
@dataclass(frozen=True)
class Chat:
    """A tokenizer's chat template with a policy for prompts that have no system turn.

    Attributes:
        tokenizer: with a chat template.
        system: "default", "none", "empty" or the text of a system turn, as in `undertow.types.ModelRef`.
    """

    tokenizer: Any
    system: str = "default"

    def render(self, prompts: Sequence[Prompt]) -> list[str]:
        """Return the text of each prompt, up to where the assistant begins to speak.

        Raises:
            ModelError: there is no chat template, or it refuses the conversation.
            ConfigError: the turn that the policy removes cannot be told from the rest of the template.
        """
        return [self._rendered(prompt, answering=True) for prompt in prompts]

    def whole(self, prompt: Prompt, answer: str) -> str:
        """Return the text of a conversation with its answer, as the template itself writes it."""
        return self._rendered((*prompt, Message("assistant", answer)), answering=False)

    def _rendered(self, turns: Prompt, answering: bool) -> str:
        bare = turns[0].role != "system"
        if bare and self.system not in ("default", "none"):
            turns = (Message("system", "" if self.system == "empty" else self.system), *turns)
        text = self._text(turns, answering=answering)
        return self._without_inserted(text) if bare and self.system == "none" and self.inserted else text

    def _without_inserted(self, text: str) -> str:
        start, rest = self._split_start(text)
        if not rest.startswith(self.inserted):
            fix = "Use another system policy than none, or give the tokenizer a template of your own."
            raise ConfigError("The template's own system turn cannot be removed.", repr(self.inserted), fix)
        return start + rest.removeprefix(self.inserted)

    def _split_start(self, text: str) -> tuple[str, str]:
        """Split off the token that begins every text, if the template writes one."""
        start = self.tokenizer.bos_token or ""
        return (start, text.removeprefix(start)) if start and text.startswith(start) else ("", text)

    def _text(self, turns: Sequence[Message], *, answering: bool = False) -> str:
        """Apply the template alone; a system turn that it does not know opens the first user turn."""
        if self.tokenizer.chat_template is None:
            fix = "Use an instruction-tuned model, or set the tokenizer's chat_template."
            raise ModelError("The model has no chat template.", self.tokenizer.name_or_path, fix)
        if len(turns) > 1 and turns[0].role == "system" and not self.takes_system:
            told = f"{turns[0].content}\n\n{turns[1].content}".lstrip("\n")
            turns = (replace(turns[1], content=told), *turns[2:])
        return self._apply(turns, answering)

    def _apply(self, turns: Sequence[Message], answering: bool) -> str:
        from jinja2 import TemplateError

        chat = [{"role": turn.role, "content": turn.content} for turn in turns]
        try:
            return self.tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=answering, **OPTIONS)
        except TemplateError as error:
            roles = ", ".join(turn.role for turn in turns)
            raise ModelError(
                "The chat template refuses this conversation.", f"{roles}: {error}", "Use other turns."
            ) from error

    @cached_property
    def takes_system(self) -> bool:
        """Whether the template has a system turn; Gemma's refuses it, others leave it out."""
        try:
            return TOLD in self._apply((Message("system", TOLD), Message("user", ASKED)), answering=True)
        except ModelError:
            return False

    @cached_property
    def _exchange(self) -> tuple[str, str]:
        """What stands after an answer at the end, and between an answer and the next question."""
        once = (Message("user", ASKED), Message("assistant", ANSWERED))
        closing = self._text(once).partition(ANSWERED)[2]
        twice = self._text((*once, Message("user", AGAIN))).partition(ANSWERED)[2]
        return closing, twice.partition(AGAIN)[0]

    @cached_property
    def inserted(self) -> str:
        """What the template writes before the first user turn unasked: "" for most, a whole system turn for some."""
        head = self._split_start(self._text((Message("user", ASKED),)).partition(ASKED)[0])[1]
        closing, between = self._exchange
        # The user turn opens as it does after an answer; a system turn before it may end as an answer does.
        alike = takewhile(lambda pair: pair[0] == pair[1], zip(reversed(head), reversed(between), strict=False))
        opening = head[len(head) - len(list(alike)) :].removeprefix(closing)
        return head.removesuffix(opening)

    @cached_property
    def lead(self) -> str:
        """What stands between a question and its answer."""
        return self._text((Message("user", ASKED),), answering=True).partition(ASKED)[2]

    @cached_property
    def closing(self) -> str:
        """What stands after the last answer, such as "<|im_end|>" and a new line."""
        return self._exchange[0]

    @cached_property
    def end(self) -> int | None:
        """Token that the template ends a turn with: the first special one after an answer; None if there is none."""
        special: set[int] = {*self.tokenizer.added_tokens_decoder, *self.tokenizer.all_special_ids}
        closing = "" if self.tokenizer.chat_template is None else self.closing
        tokens: list[int] = self.tokenizer(closing, add_special_tokens=False)["input_ids"]
        return next((int(token) for token in tokens if token in special), None)

    def describe(self) -> dict[str, Any]:
        """Return the policy and what the model sees because of it, for manifests and reports."""
        shown = self.render([(Message("user", ASKED),)])[0].partition(ASKED)[0]
        return {"system": self.system, "inserted_by_template": self.inserted, "before_a_question": shown}
