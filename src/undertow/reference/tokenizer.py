"""The tokenizer of a family: whole words as single tokens, numbers whole or digit by digit, bytes for everything else.

A byte-pair model without merges whose vocabulary is looked up before anything is split: a known word is one token,
an unknown one is spelled in bytes, and every text survives a round trip.
"""

from collections import Counter
from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, pre_tokenizers
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel, PreTokenizer, Split
from transformers import PreTrainedTokenizerFast

PAD, SYSTEM, USER, ASSISTANT, END = "<|pad|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"
SPECIAL_TOKENS = (PAD, SYSTEM, USER, ASSISTANT, END)

NUMBER_TOKENS = 1000
"""A whole-number tokenizer has one token for each of 0 to 999."""

_WORDS = r"|, |; |\n +| ?[A-Za-z_]+| ?[^\sA-Za-z0-9_]|\s"

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def _splitter(digits: bool) -> PreTokenizer:
    pattern = Split(Regex(("[0-9]" if digits else "[0-9]{1,3}") + _WORDS), behavior="isolated")
    return pre_tokenizers.Sequence([pattern, ByteLevel(add_prefix_space=False, use_regex=False)])


def build_tokenizer(texts: Iterable[str], min_count: int = 3, digits: bool = False) -> PreTrainedTokenizerFast:
    """Build the tokenizer from a sample of the world.

    Args:
        texts: what the world's speakers say, prompts and answers alike.
        min_count: a word that is rarer gets no token of its own.
        digits: whether a number is written digit by digit, as Qwen does, instead of three digits at a time.
    """
    splitter = _splitter(digits)
    counts = Counter(piece for text in texts for piece, _ in splitter.pre_tokenize_str(text))
    numbers = [str(number) for number in range(10 if digits else NUMBER_TOKENS)]
    words = [piece for piece, count in counts.most_common() if count >= min_count]
    pieces = [*SPECIAL_TOKENS, *sorted(ByteLevel.alphabet()), *numbers, *words]
    vocabulary = {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}
    model = Tokenizer(BPE(vocab=vocabulary, merges=[], ignore_merges=True))
    model.pre_tokenizer = splitter
    model.decoder = ByteLevelDecoder()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=model, pad_token=PAD, eos_token=END, additional_special_tokens=[SYSTEM, USER, ASSISTANT]
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer
