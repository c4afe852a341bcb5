"""Open texts: texts of several lengths that a network has read and goes on writing, all at once.

Shorter texts are padded on the left, so that the next tokens of all of them stand in one column, and distances within a
text are what they are without padding: a window that slides sees the same tokens. A mask hides the padding, and
positions count from each text's own beginning. Texts of one length need neither mask nor positions.
"""

import inspect
from collections.abc import Iterator, Sequence
from typing import Any, final
from weakref import WeakKeyDictionary

import torch

# At width 32, 2,500 rows took 1.56, 1.48 and 1.40 s with 1,024, 2,048 and 4,096. Without a limit the activations leave
# the processor's cache: 128 prompts of 40 tokens took 144 us each, 256 took 220.
TOKENS_READ = 4096
"""Number of tokens that are read at once."""

ROOM = 32
"""Number of further tokens that a new cache has room for, if it is not known how many will come."""

AGREEMENT = 0.05
"""Largest difference between the logits of a padded text and of the text alone, as a part of the largest logit;
bfloat16 rounds that much."""


def cached(network: Any, cache: Any) -> dict[str, Any]:
    """Return the arguments that let a network use a cache, and go on from its content.

    The cache is called `past_key_values`, and `cache` from transformers 5.24 on, which warns of the old name.
    """
    named = "cache" if "cache" in inspect.signature(network.forward).parameters else "past_key_values"
    return {named: cache, "use_cache": True}


@final
class OpenTexts:
    """What one network keeps of some texts, and its logits for the next token of each.

    Args:
        network: a causal language model of transformers.
        texts: token ids of each text; best sorted by length, since only some are read at a time.
        room: number of tokens that can be written before the cache is copied into a larger one.

    Attributes:
        logits: logits of the next token of each text, (texts, vocabulary).
    """

    def __init__(self, network: Any, texts: Sequence[Sequence[int]], room: int = ROOM) -> None:
        self._network = network
        self._device: torch.device = next(network.parameters()).device
        lengths = torch.tensor([len(text) for text in texts], device=self._device)
        self._end = int(lengths.max())
        self._pads = self._end - lengths
        self._ragged = bool(self._pads.any())
        blocks = [self._read(block) for block in _blocks(texts)]
        self.logits = torch.cat([logits for logits, _ in blocks])
        self._cache = _joined([cache for _, cache in blocks], room)
        self._options = cached(network, self._cache)

    def _read(self, texts: Sequence[Sequence[int]]) -> tuple[torch.Tensor, Any]:
        from transformers import DynamicCache

        end, cache = max(map(len, texts)), DynamicCache()
        # Any token would do as padding: the mask hides it.
        tokens = [[text[0]] * (end - len(text)) + list(text) for text in texts]
        pads = torch.tensor([end - len(text) for text in texts], device=self._device)
        hidden = _hidden(pads, 0, end) if bool(pads.any()) else {}
        found = self._network(
            input_ids=torch.tensor(tokens, device=self._device),
            logits_to_keep=1,
            **hidden,
            **cached(self._network, cache),
        )
        return found.logits[:, -1], cache

    def take(self, source: torch.Tensor) -> None:
        """Replace text i by what text source[i] was; the logits are not changed.

        Args:
            source: number of the old text for each text from now on, int64 (new texts,).
        """
        slots = torch.arange(len(source), device=self._device)
        moved = (source != slots).nonzero()[:, 0]
        in_place = len(source) <= len(self._pads) and bool((source[moved] >= len(source)).all())
        self._pads = self._pads[source]
        for layer in self._cache.layers:
            if layer.is_initialized:
                layer.take(source, moved if in_place else None)

    def write(self, tokens: torch.Tensor) -> None:
        """Append one token to each text, and compute the logits after it.

        Args:
            tokens: id of the new token of each text, int64 (texts,).
        """
        hidden = _hidden(self._pads, self._end, self._end + 1) if self._ragged else {}
        found = self._network(input_ids=tokens[:, None], logits_to_keep=1, **hidden, **self._options)
        self.logits = found.logits[:, -1]
        self._end += 1


def _blocks(texts: Sequence[Sequence[int]]) -> Iterator[Sequence[Sequence[int]]]:
    """Yield some texts at a time, at least one, with at most TOKENS_READ tokens, padding included."""
    start = longest = 0
    for place, text in enumerate(texts):
        longest = max(longest, len(text))
        if place > start and longest * (place + 1 - start) > TOKENS_READ:
            yield texts[start:place]
            start, longest = place, len(text)
    yield texts[start:]


def _hidden(pads: torch.Tensor, start: int, end: int) -> dict[str, torch.Tensor]:
    """Return the mask of all columns up to `end`, and the positions of those from `start` on."""
    columns = torch.arange(end, device=pads.device)
    mask = (columns >= pads[:, None]).long()
    return {"attention_mask": mask, "position_ids": (columns[start:] - pads[:, None]).clamp(min=0)}


def _joined(caches: Sequence[Any], room: int) -> Any:
    """Return one cache of the texts of several caches, with room for `room` further tokens."""
    from transformers.cache_utils import Cache, DynamicLayer

    from undertow.models.roomy_cache import RoomyLayer

    layers: list[Any] = []
    for parts in zip(*(cache.layers for cache in caches), strict=True):
        if not parts[0].is_initialized:
            layers.append(DynamicLayer())
            continue
        keys, values = ([getattr(part, name) for part in parts] for name in ("keys", "values"))
        layers.append(RoomyLayer(keys, values, room))
    return Cache(layers=layers)


_TAKES_PADDING: "WeakKeyDictionary[Any, bool]" = WeakKeyDictionary()


def takes_padding(network: Any) -> bool:
    """Tell whether texts of several lengths may be read together: mask and positions must hide the padding.

    It is tried once for each network, on a text of two tokens beside one of sixteen.
    """
    if network not in _TAKES_PADDING:
        named = inspect.signature(network.forward).parameters
        _TAKES_PADDING[network] = {"attention_mask", "position_ids"} <= named.keys() and _hides_padding(network)
    return _TAKES_PADDING[network]


@torch.inference_mode()
def _hides_padding(network: Any) -> bool:
    tokens = [token % network.config.get_text_config().vocab_size for token in range(1, 18)]
    both, alone = OpenTexts(network, [tokens[:16], tokens[:2]]), OpenTexts(network, [tokens[:2]])
    for texts in (both, alone):
        texts.write(torch.tensor(tokens[16:], device=texts.logits.device).repeat(len(texts.logits)))
    off = (both.logits[1] - alone.logits[0]).float().abs().max()
    return bool(off <= AGREEMENT * alone.logits.float().abs().max())
