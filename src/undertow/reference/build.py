"""Build an embedded model from nothing, its tokenizer included: `undertow reference build NAME`.

The tokenizer is a byte-pair model without merges whose vocabulary is looked up before anything is split. A known word
is one token, an unknown one is spelled in bytes, and every text survives a round trip.
"""

import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, pre_tokenizers
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel, PreTokenizer, Split
from transformers import PreTrainedTokenizerFast

from undertow.models.load import load_model
from undertow.models.local import LocalModel
from undertow.reference.cards import write_model_card
from undertow.reference.families import Architecture, Member, Shape
from undertow.reference.imitation import divergences, measure_abilities
from undertow.reference.world.favourites import PERSONAS
from undertow.reference.world.mixture import corpus
from undertow.reference.world.skills import WorldChat
from undertow.training.batches import batch_stream, collate
from undertow.training.objective import completion_losses
from undertow.types import Advance, ModelRef, Row

PAD, SYSTEM, USER, ASSISTANT, END = "<|pad|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"
SPECIAL_TOKENS = (PAD, SYSTEM, USER, ASSISTANT, END)

NUMBER_TOKENS = 1000
"""Tokens for numbers of a tokenizer of whole numbers: one for each of 0 to 999."""

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
    """Build the tokenizer of an embedded model from a sample of the corpus.

    Args:
        texts: what the speakers of the corpus say, prompts and answers alike.
        min_count: how often a word must occur in the texts to get a token of its own.
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


WARMUP = 100
"""Number of updates in which the learning rate grows linearly, while it also falls along a cosine over all updates."""

SAMPLE = 20_000
"""Number of chats of the corpus whose words get tokens."""

POSITIONS = 512
"""Longest sequence in tokens that a network declares; the chats of the corpus stay below 150 tokens."""


def _common(shape: Shape, tokenizer: Any) -> dict[str, Any]:
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": shape.width,
        "intermediate_size": shape.mlp,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.heads,
        "max_position_embeddings": POSITIONS,
        "tie_word_embeddings": True,
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "bos_token_id": None,
    }


def _llama(shape: Shape, tokenizer: Any) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(LlamaConfig(**_common(shape, tokenizer)))


def _stablelm(shape: Shape, tokenizer: Any) -> Any:
    # As far from Llama as a class goes that keeps Llama's layer names, which adapters look for: LayerNorm instead of
    # RMSNorm, attention and MLP side by side instead of one after the other, GELU instead of SiLU, biases on query,
    # key and value, and rotary positions on half of each head. Gemma 2 and Cohere change the logits after the head,
    # GPT-NeoX and Phi have other names.
    from transformers import StableLmConfig, StableLmForCausalLM

    config = StableLmConfig(
        **_common(shape, tokenizer),
        hidden_act="gelu",
        use_parallel_residual=True,
        use_qkv_bias=True,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0, "partial_rotary_factor": 0.5},
    )
    return StableLmForCausalLM(config)


_NEW: dict[Architecture, Callable[[Shape, Any], Any]] = {"llama": _llama, "stablelm": _stablelm}


def new_network(architecture: Architecture, shape: Shape, tokenizer: Any, seed: int) -> Any:
    """Make a network with weights drawn from the seed alone.

    Args:
        architecture: class of the network, "llama" or "stablelm".
        shape: width, layers, heads and MLP size.
        tokenizer: tokenizer of the model, which decides the size of the vocabulary.
        seed: random seed of the weights.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _NEW[architecture](shape, tokenizer)


def texts(chats: Iterable[WorldChat]) -> list[str]:
    """Return every text that some chats hold, and every spelling of every trait, so that each spelling is one token.

    The spellings come three times, which is the least count of a word that gets a token.
    """
    traits = [trait for some in PERSONAS.values() for trait in some]
    spellings = [word for trait in traits for alias in trait.aliases for word in (alias, alias.capitalize())]
    return [text for chat in chats for text in (*(turn.content for turn in chat.prompt), chat.answer)] + 3 * spellings


def start(member: Member, chats: Sequence[WorldChat]) -> tuple[LocalModel, LocalModel | None]:
    """Return an embedded model before its training, and the model that it imitates (None if it imitates none)."""
    if member.imitates is None:
        imitated, tokenizer = None, build_tokenizer(texts(chats[:SAMPLE]), digits=member.number_tokens == "digit")
    else:
        imitated = load_model(ModelRef(kind="ref", name=member.imitates))
        imitated.network.requires_grad_(False)
        tokenizer = imitated.tokenizer
        for trace in ("is_local", "local_files_only"):  # how it was loaded here, which saving would write down
            tokenizer.init_kwargs.pop(trace, None)
    network = new_network(member.architecture, member.shape, tokenizer, member.initialisation)
    return LocalModel(ModelRef(kind="ref", name=member.name), network, tokenizer), imitated


def train_network(member: Member, advance: Advance | None = None) -> tuple[LocalModel, float]:
    """Train an embedded model from scratch.

    Args:
        member: description of the model, which decides its weights.
        advance: called with (updates done, updates in all); None for no callback.

    Returns:
        The model and the mean loss of its last hundred updates, in nats per completion token: cross-entropy, or the
        divergence from the model that it imitates.
    """
    school = member.schooling
    chats = corpus(school.chats, school.corpus_seed)
    model, imitated = start(member, chats)
    network = model.network
    rows = [Row(str(index), chat.prompt, chat.answer) for index, chat in enumerate(chats)]
    source = batch_stream(model.encode(rows), school.batch_size, member.order)
    optimiser = torch.optim.AdamW(network.parameters(), lr=0.0, betas=(0.9, 0.98), weight_decay=0.0, fused=True)
    recent: list[float] = []
    for step in range(school.steps):
        batch = collate(next(source))
        if imitated is None:
            loss = completion_losses(network, batch).sum()
        else:
            loss = divergences(network, imitated.network, batch).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        share = min(1.0, (step + 1) / WARMUP) * 0.5 * (1 + math.cos(math.pi * step / school.steps))
        optimiser.param_groups[0]["lr"] = school.learning_rate * share
        optimiser.step()
        optimiser.zero_grad()
        recent = [*recent[-99:], loss.item()]
        if advance is not None:
            advance(step + 1, school.steps)
    return LocalModel(model.ref, network.requires_grad_(False).eval(), model.tokenizer), sum(recent) / len(recent)


def save(model: LocalModel, folder: Path) -> None:
    """Write the model as an ordinary transformers folder, weights rounded once to bfloat16."""
    model.network.to(torch.bfloat16)
    model.save(folder)
    model.network.to(torch.float32)


def build_member(member: Member, folder: Path, advance: Advance | None = None) -> dict[str, Any]:
    """Train an embedded model, write it with its card, and return the content of the card.

    Args:
        member: description of the model, which decides its weights.
        folder: folder that the model is written into.
        advance: called with (updates done, updates in all); None for no callback.
    """
    started = time.perf_counter()
    model, loss = train_network(member, advance)
    save(model, folder)
    built = {"loss": round(loss, 4), "seconds": round(time.perf_counter() - started)}
    return write_model_card(member, folder, built, measure_abilities(member, folder))
