"""Contexts that are read once: their keys and values are kept, and any number of continuations are read after them.

The continuations are a tree of tokens, and a part of it can be read at a time. All tokens that are read together after
one context stand in one sequence. A mask lets each see its context and its own ancestors alone, and its position is
that of its depth. So nothing is copied for a continuation, and its tokens are read in few large products.

The states of a token are those that one pass over context and path would give, up to rounding. Networks that keep no
keys and values, or not in this way, read every path with its context (`PlainContexts`). Which of the two suits a
network is tried once for each architecture on a few tokens (`keeps_contexts`).
"""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, final

import torch

from undertow.models.lm_head import body_and_head
from undertow.models.open_texts import cached

SCORE_BATCH = 64
"""Number of sequences that are scored at once; small models on a processor gain nothing beyond it."""

KEPT_NUMBERS = 2**26
"""Most numbers (keys and values) that a network keeps for the contexts and paths of one block; 256 MB in float32."""

SHARED_LEAST = 8
"""Least number of tokens of a common beginning that is read in a pass of its own."""

CLOSE = {torch.float32: 1e-3, torch.float64: 1e-6}
"""Largest difference of the two ways on the tokens that they are tried on, as a part of the states' norm."""

# Between what rounding changed in two pretrained models (0.014 and 0.023 of the norm) and the least that a mask or a
# position that is not heeded changed (0.12).
CLOSE_OTHERWISE = 0.06
"""The same in half precision, where another order of additions changes the last of few digits."""

PAD = -1
"""Number that stands for no node of the tree."""


@final
@dataclass(frozen=True)
class TokenTree:
    """Token sequences that share their beginnings, as a tree.

    Node 0 is the root, which stands for the end of a context.

    Attributes:
        tokens: token id of each node, int64 (nodes,); that of the root means nothing.
        parents: parent of each node, int64 (nodes,); 0 for the root itself.
        paths: token ids from the root to each node.
    """

    tokens: torch.Tensor
    parents: torch.Tensor
    paths: tuple[tuple[int, ...], ...]

    def __len__(self) -> int:
        return len(self.paths)

    @cached_property
    def depths(self) -> torch.Tensor:
        """Number of tokens from the root to each node: int64 (nodes,)."""
        return torch.tensor([len(path) for path in self.paths])

    @cached_property
    def children(self) -> torch.Tensor:
        """Children of each node: int64 (nodes, most children), padded with `PAD`."""
        found: list[list[int]] = [[] for _ in self.paths]
        for node, parent in enumerate(self.parents.tolist()[1:], start=1):
            found[parent].append(node)
        most = max(map(len, found))
        filled = [[*some, *[PAD] * (most - len(some))] for some in found]
        return torch.tensor(filled, dtype=torch.int64).reshape(len(found), most)

    @cached_property
    def ancestors(self) -> torch.Tensor:
        """Nodes between the root and each node, the nearest first: int64 (nodes, depth), padded with `PAD`."""
        most = max(int(self.depths.max()) - 1, 0)
        found = torch.full((len(self), most), PAD)
        above = self.parents.clone()
        for place in range(most):
            found[:, place] = torch.where(above > 0, above, PAD)
            above = self.parents[above]
        return found


def token_tree(sequences: Sequence[Sequence[int]]) -> TokenTree:
    """Return the tree of all beginnings of some token sequences.

    The nodes are sorted by depth, then by their tokens.
    """
    whole = {tuple(tokens) for tokens in sequences}
    paths = sorted({()} | {path[:end] for path in whole for end in range(len(path) + 1)}, key=lambda p: (len(p), p))
    places = {path: place for place, path in enumerate(paths)}
    tokens = torch.tensor([path[-1] if path else 0 for path in paths])
    return TokenTree(tokens, torch.tensor([places[path[:-1]] for path in paths]), tuple(paths))


NOTHING = token_tree([])
"""The tree of the root alone, for contexts after which nothing is read."""


class Contexts(ABC):
    """A block of contexts that were read, and the tree of tokens that may follow them.

    Attributes:
        ends: hidden states after the last token of each context, (contexts, width), the input of the output head.
        layers: residual stream at that token, summed over the contexts, float64 (layers + 1, width); None if it was not
            asked for.
    """

    ends: torch.Tensor
    layers: torch.Tensor | None

    @abstractmethod
    def follow(self, nodes: torch.Tensor) -> torch.Tensor:
        """Read nodes of the tree after the contexts.

        The parent of each node must be the root, one that was read before, or among these nodes.

        Args:
            nodes: nodes to read after each context, int64 (contexts, n), padded with `PAD`.

        Returns:
            Hidden states after each node, (contexts, n, width); those at `PAD` mean nothing.
        """


@final
class CachedContexts(Contexts):
    """Contexts whose keys and values are kept.

    Args:
        network: a causal language model of transformers.
        contexts: token ids of each context, at least one.
        tree: the tokens that may follow the contexts.
        layers: whether the residual stream at the ends is summed up (`Contexts.layers`).
    """

    @torch.no_grad()
    def __init__(
        self, network: Any, contexts: Sequence[Sequence[int]], tree: TokenTree, *, layers: bool = False
    ) -> None:
        from transformers import DynamicCache

        self._body, _ = body_and_head(network)
        self._device, self._tree = _device(network), tree
        # One kind of layer for all: a layer with a window would drop what stands before it, gaps counted.
        self._cache = DynamicCache()
        self._options = cached(self._body, self._cache)
        shared = shared_beginning(contexts)
        if shared:
            self._run(torch.tensor([list(contexts[0][:shared])]))
            self._cache.batch_repeat_interleave(len(contexts))
        rests = padded([context[shared:] for context in contexts], torch.device("cpu"))
        self._lengths = torch.tensor([len(context) for context in contexts])
        read = self._run(rests, **_layers(layers))
        rows, last = torch.arange(len(contexts)), self._lengths - shared - 1
        self.ends = read.last_hidden_state[rows, last]
        self.layers = at_ends(read.hidden_states, last) if layers else None
        self._seen = torch.arange(shared + rests.shape[1])[None] < self._lengths[:, None]
        self._columns = torch.full((len(contexts), len(tree)), PAD)

    def _run(self, tokens: torch.Tensor, **options: Any) -> Any:
        return self._body(input_ids=tokens.to(self._device), **self._options, **options)

    @torch.no_grad()
    def follow(self, nodes: torch.Tensor) -> torch.Tensor:
        """See `Contexts`."""
        rows, n, start = torch.arange(len(nodes))[:, None], nodes.shape[1], self._seen.shape[1]
        known = nodes.clamp(min=0)  # the root in place of PAD: a token at the end of the context that nobody sees
        context, column = (nodes > 0).nonzero(as_tuple=True)
        self._columns[context, nodes[context, column]] = start + column
        visible = torch.zeros(len(nodes), n, start + n, dtype=torch.bool)
        visible[:, :, :start] = self._seen[:, None]
        visible[:, torch.arange(n), start + torch.arange(n)] = True
        for place in range(self._tree.ancestors.shape[1]):
            above = self._tree.ancestors[known, place]
            at = self._columns[rows, above.clamp(min=0)]
            visible.scatter_(2, torch.where(above > 0, at, start + torch.arange(n))[:, :, None], True)
        self._seen = torch.nn.functional.pad(self._seen, (0, n), value=False)
        positions = self._lengths[:, None] - 1 + self._tree.depths[known].clamp(min=1)
        return self._run(
            self._tree.tokens[known],
            position_ids=positions.to(self._device),
            attention_mask=_additive(visible, self.ends.dtype).to(self._device),
        ).last_hidden_state


def _layers(wanted: bool) -> dict[str, bool]:
    return {"output_hidden_states": True} if wanted else {}


def _additive(visible: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return the mask that is added to attention scores, (rows, 1, n, columns) from bool (rows, n, columns).

    It is 0 where a token is seen, and the least number of the format elsewhere.
    """
    hidden = torch.zeros(visible.shape, dtype=dtype).masked_fill_(~visible, torch.finfo(dtype).min)
    return hidden[:, None]


@final
class PlainContexts(Contexts):
    """Contexts of a network that keeps no keys and values: each is read again with every path.

    Args:
        network: a causal language model of transformers.
        contexts: token ids of each context, at least one.
        tree: the tokens that may follow the contexts.
        layers: whether the residual stream at the ends is summed up (`Contexts.layers`).
    """

    @torch.no_grad()
    def __init__(
        self, network: Any, contexts: Sequence[Sequence[int]], tree: TokenTree, *, layers: bool = False
    ) -> None:
        self._body, _ = body_and_head(network)
        self._device, self._contexts, self._tree = _device(network), contexts, tree
        self.ends, self.layers = self._read(contexts, layers)

    def _read(self, texts: Sequence[Sequence[int]], layers: bool = False) -> tuple[torch.Tensor, torch.Tensor | None]:
        ends: list[torch.Tensor] = []
        sums: list[torch.Tensor] = []
        for start in range(0, len(texts), SCORE_BATCH):
            some = texts[start : start + SCORE_BATCH]
            last = torch.tensor([len(text) - 1 for text in some])
            read: Any = self._body(input_ids=padded(some, self._device), use_cache=False, **_layers(layers))
            ends.append(read.last_hidden_state[torch.arange(len(some)), last])
            sums += [at_ends(read.hidden_states, last)] if layers else []
        return torch.cat(ends), torch.stack(sums).sum(dim=0) if layers else None

    @torch.no_grad()
    def follow(self, nodes: torch.Tensor) -> torch.Tensor:
        """See `Contexts`."""
        rows, places = (nodes > 0).nonzero(as_tuple=True)
        pairs = zip(rows.tolist(), nodes[rows, places].tolist(), strict=True)
        states = self.ends.new_zeros(*nodes.shape, self.ends.shape[-1])
        if len(rows):
            states[rows, places], _ = self._read([[*self._contexts[at], *self._tree.paths[node]] for at, node in pairs])
        return states


def padded(contexts: Sequence[Sequence[int]], device: torch.device) -> torch.Tensor:
    """Return contexts as int64 (contexts, longest), padded on the right, where a causal model never looks."""
    tokens = torch.zeros(len(contexts), max(map(len, contexts)), dtype=torch.int64)
    for index, context in enumerate(contexts):
        tokens[index, : len(context)] = torch.tensor(context)
    return tokens.to(device)


def shared_beginning(contexts: Sequence[Sequence[int]]) -> int:
    """Return how many first tokens all contexts share, if that is worth a pass of its own; else 0.

    At least one token is left of each context.
    """
    if len(contexts) < 2:
        return 0
    first, last = (list(context) for context in (min(contexts, key=list), max(contexts, key=list)))
    # What the first and the last in order begin with, all begin with.
    common = next((at for at, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))
    common = min(common, min(map(len, contexts)) - 1)
    return common if common >= SHARED_LEAST else 0


def at_ends(hidden: Sequence[torch.Tensor], last: torch.Tensor) -> torch.Tensor:
    """Return the states of every layer at one place of each row, summed over rows: float64 (layers, width).

    Args:
        hidden: hidden states of each layer, (rows, tokens, width).
        last: the place of each row, int64 (rows,).
    """
    rows = torch.arange(len(last))
    return torch.stack([state[rows, last].double().sum(dim=0) for state in hidden]).cpu()


def _device(network: Any) -> torch.device:
    return next(network.parameters()).device


def context_blocks(network: Any, contexts: Sequence[Sequence[int]], tree: TokenTree) -> list[Sequence[Sequence[int]]]:
    """Split contexts into blocks for which the network keeps at most `KEPT_NUMBERS`, if every node is read.

    Args:
        network: a causal language model of transformers.
        contexts: token ids of each context.
        tree: the tokens that may follow the contexts.
    """
    longest = max(map(len, contexts), default=0) + len(tree)
    size = max(1, min(SCORE_BATCH, KEPT_NUMBERS // (longest * numbers_per_token(network))))
    return [contexts[start : start + size] for start in range(0, len(contexts), size)]


def numbers_per_token(network: Any) -> int:
    """Return how many numbers (keys and values) a network keeps for one token.

    Where the config does not say how many heads share them, each head counts.
    """
    config = network.config.get_text_config()
    heads = int(getattr(config, "num_attention_heads", None) or 1)
    width = int(getattr(config, "head_dim", None) or config.hidden_size // heads)
    return 2 * int(config.num_hidden_layers) * int(getattr(config, "num_key_value_heads", None) or heads) * width


def open_contexts(
    network: Any, contexts: Sequence[Sequence[int]], tree: TokenTree, *, layers: bool = False
) -> Contexts:
    """Read a block of contexts in the way that suits the network.

    Args:
        network: a causal language model of transformers.
        contexts: token ids of each context, at least one.
        tree: the tokens that may follow the contexts.
        layers: whether the residual stream at the ends is summed up (`Contexts.layers`).
    """
    useful = len(tree) > 1 or shared_beginning(contexts) > 0
    kept = useful and suits(network, max(map(len, contexts)) + int(tree.depths.max()))
    return (CachedContexts if kept else PlainContexts)(network, contexts, tree, layers=layers)


def suits(network: Any, longest: int) -> bool:
    """Tell whether `CachedContexts` suits a network and sequences of at most `longest` tokens."""
    return longest <= _window(network) and keeps_contexts(network)


def _window(network: Any) -> float:
    """Return the smallest number of tokens that some layer looks back on; infinite where every layer sees all."""
    config = network.config.get_text_config()
    sizes = [getattr(config, name, None) for name in ("sliding_window", "attention_chunk_size")]
    return min([float(size) for size in sizes if isinstance(size, int) and size > 0], default=float("inf"))


_TRIED: dict[tuple[type, str], bool] = {}


def keeps_contexts(network: Any) -> bool:
    """Tell whether `CachedContexts` gives the same states as `PlainContexts`.

    It is tried once for each architecture and config.
    """
    key = (type(network), network.config.to_json_string())
    if key not in _TRIED:
        _TRIED[key] = _takes_masks(network) and _agrees(network)
    return _TRIED[key]


def _takes_masks(network: Any) -> bool:
    body, _ = body_and_head(network)
    known = inspect.signature(body.forward).parameters
    return {"position_ids", "attention_mask"} <= set(known) and bool({"past_key_values", "cache"} & set(known))


def _agrees(network: Any) -> bool:
    """Read a few tokens in both ways and compare.

    The contexts differ in length and share a beginning; the tree has branches, and is read in two steps.
    """
    size = network.get_output_embeddings().weight.shape[0]
    # Spread over the vocabulary: the first tokens stand for nothing in most, and their states are all rounding.
    some = [(size // 13 * place + 17) % size for place in range(1, SHARED_LEAST + 5)]
    beginning = some[:SHARED_LEAST]
    contexts = [[*beginning, *some[-4:-1]], [*beginning, some[-1]]]
    tree = token_tree([[some[0], some[1]], [some[2]]])
    first, second = torch.tensor([[1, 2], [2, 1]]), torch.tensor([[3], [3]])
    try:
        kept = CachedContexts(network, contexts, tree)
        ours = [kept.ends, kept.follow(first), kept.follow(second)]
    except (TypeError, ValueError, AttributeError, IndexError, KeyError, NotImplementedError, RuntimeError):
        return False  # it takes no such cache or mask; should something else be wrong, the plain way says so
    plain = PlainContexts(network, contexts, tree)
    theirs = [plain.ends, plain.follow(first), plain.follow(second)]
    most = CLOSE.get(plain.ends.dtype, CLOSE_OTHERWISE)
    return all(float((a - b).norm()) <= most * float(b.norm()) for a, b in zip(ours, theirs, strict=True))
