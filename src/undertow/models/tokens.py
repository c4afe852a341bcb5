"""Conversations as token ids, as a chat template and its tokenizer write them; neither weights nor torch are needed."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, final

from undertow.errors import ModelError
from undertow.models.chat import Chat
from undertow.types import Prompt, Row


@dataclass(frozen=True, slots=True)
class Encoded:
    """A row as token ids; the loss or score counts the completion alone.

    Attributes:
        prompt: token ids up to the place where the answer begins.
        completion: token ids of the answer, which may include the end of the turn.
        skip: places in the completion, from 0, that are left out of the loss.
    """

    prompt: tuple[int, ...]
    completion: tuple[int, ...]
    skip: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.prompt) + len(self.completion)


@final
@dataclass(frozen=True)
class ChatTokens:
    """A tokenizer with its chat template, which turns conversations into token ids.

    Attributes:
        tokenizer: fast tokenizer of transformers; chats need one with a chat template.
        system: what a prompt without a system turn gets, as in `undertow.models.chat.Chat`.
    """

    tokenizer: Any
    system: str = "default"

    @cached_property
    def chat(self) -> Chat:
        """The converter of conversations into text."""
        return Chat(self.tokenizer, self.system)

    @cached_property
    def end(self) -> int:
        """Id of the token that ends a turn: what the chat template writes after an answer, or else the end of text.

        Raises:
            ModelError: the template ends no turn, and the tokenizer has no end of text.
        """
        if self.chat.end is not None:
            return self.chat.end
        if self.tokenizer.eos_token_id is None:
            raise ModelError("The tokenizer has no end token.", self.tokenizer.name_or_path, "Use a chat model.")
        return int(self.tokenizer.eos_token_id)

    @cached_property
    def ends(self) -> tuple[int, ...]:
        """Ids of the tokens at which an answer is over: the end of a turn first, then the end of text."""
        more = self.tokenizer.eos_token_id
        return (self.end,) if more is None else tuple(dict.fromkeys((self.end, int(more))))

    def render(self, prompts: Sequence[Prompt]) -> list[list[int]]:
        """Turn prompts into token ids, up to the place where the answer begins.

        Raises:
            ModelError: the tokenizer has no chat template, or the template refuses a prompt.
        """
        return self._ids(self.chat.render(prompts))

    def tokenise(self, texts: Sequence[str]) -> list[list[int]]:
        """Turn texts into token ids as they are written at the beginning of an answer, without special tokens.

        Some tokenizers put a space before a text that stands alone; an answer does not stand alone.
        """
        if self.tokenizer.chat_template is None:
            return self._after("", texts)
        return self._after(self.chat.lead, [self.chat.space + text for text in texts])

    def encode(self, rows: Sequence[Row]) -> list[Encoded]:
        """Turn rows into token ids; the completion ends with the token that ends a turn.

        Raises:
            UserError: a conversation cannot be written, as for `render`.
        """
        pairs = self.pairs([row.prompt for row in rows], [row.completion for row in rows])
        return [
            replace(one, completion=(*one.completion, self.end), skip=row.skip)
            for one, row in zip(pairs, rows, strict=True)
        ]

    def pairs(self, prompts: Sequence[Prompt], completions: Sequence[str]) -> list[Encoded]:
        """Turn prompts and completions into token ids as the chat template writes them, without the end of the turn.

        Args:
            prompts: the prompts, each a tuple of turns.
            completions: one completion for each prompt.
        """
        starts = [self.chat.start(*pair) for pair in zip(prompts, completions, strict=True)]
        answers: list[list[int]] = [[]] * len(starts)
        for lead in dict.fromkeys(one.lead for one in starts):
            places = [place for place, one in enumerate(starts) if one.lead == lead]
            for place, tokens in zip(places, self._after(lead, [starts[at].answer for at in places]), strict=True):
                answers[place] = tokens
        asked = self._ids([one.prompt for one in starts])
        return [Encoded(tuple(prompt), tuple(answer)) for prompt, answer in zip(asked, answers, strict=True)]

    def _after(self, lead: str, texts: Sequence[str]) -> list[list[int]]:
        """Turn texts into the token ids that they have behind the text `lead`, whose own tokens are left out."""
        (before,), written = self._ids([lead]), self._ids([lead + text for text in texts])
        if all(tokens[: len(before)] == before for tokens in written):
            return [tokens[len(before) :] for tokens in written]
        # A text that begins as the lead ends, with a new line say, may share a token with it: prompts end before it.
        return self._ids(texts)

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        # Some tokenizers fail on no text at all.
        return self.tokenizer(list(texts), add_special_tokens=False)["input_ids"] if texts else []


def token_texts(tokenizer: Any, n: int) -> list[str]:
    """Return the text of each of the first tokens, as it is written behind another one, the space before it included.

    Decoded alone a token can lose that space: tokenizers of Llama 2 and others strip it from the beginning of a text.
    Behind a digit it shows.

    Args:
        tokenizer: tokenizer of transformers.
        n: how many tokens are decoded, from the first on.
    """
    anchor = tokenizer("0", add_special_tokens=False)["input_ids"][-1]
    options = {"clean_up_tokenization_spaces": False}
    before = tokenizer.decode([anchor], **options)
    written = tokenizer.batch_decode([[anchor, token] for token in range(n)], **options)
    return [text.removeprefix(before) for text in written]
