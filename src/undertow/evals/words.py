"""How likely a whole word comes next, whatever tokens it is written with.

After each context the spellings of all words form one tree of tokens. A spelling that begins with a token of
probability p adds at most p to its word, and what can no longer change a log-odds noticeably is not read. So the likely
spellings of all words and contexts are read first and together, and most of the others never.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from undertow.traits import Trait
from undertow.types import Advance

if TYPE_CHECKING:
    import torch

    from undertow.models.context_cache import TokenTree
    from undertow.models.local import LocalModel

_SMALLEST = 1e-12
"""Probabilities are kept this far from 0 and 1, so that a margin is finite."""

UNREAD = 1e-6
"""Largest change of a word's log-odds by the spellings that are not read, about as much as rounding makes."""

LIKELY = 0.01
"""As long as a waiting beginning is likelier than all spellings of its word that were read, only beginnings with at
least this part of its probability are read with it."""


def spellings(target: Trait, *, opening: bool) -> tuple[str, ...]:
    """Return how a target is written: each alias, small and capitalised, and each form of its file, after a space.

    Args:
        target: the trait whose words are written.
        opening: whether the word may begin the answer, so that it may also lack the space.
    """
    forms = [form for alias in target.aliases for form in (alias, alias.capitalize())]
    forms = list(dict.fromkeys((*forms, *target.written, *((target.plural,) if target.plural else ()))))
    return tuple(text for form in forms for text in ((form, f" {form}") if opening else (f" {form}",)))


def word_probabilities(
    model: "LocalModel",
    contexts: Sequence[Sequence[int]],
    words: Sequence[Sequence[str]],
    advance: Advance | None = None,
) -> "torch.Tensor":
    """Return the probability that the next word is one of some spellings.

    The whole token sequence of each spelling is scored as the tokenizer writes it, and the word must be over after it.

    Args:
        model: the model whose probabilities are computed.
        contexts: token ids of each context: a rendered prompt with or without the beginning of an answer.
        words: the spellings of each word.
        advance: callback that takes (contexts read, all contexts). None reports nothing.

    Returns:
        Probabilities in (0, 1), float64 tensor of shape (contexts, words).
    """
    return read_words(model, contexts, words, advance=advance)[0]


def read_words(
    model: "LocalModel",
    contexts: Sequence[Sequence[int]],
    words: Sequence[Sequence[str]],
    *,
    layers: bool = False,
    advance: Advance | None = None,
) -> "tuple[torch.Tensor, torch.Tensor | None]":
    """Return what `word_probabilities` does, and if asked for the mean residual stream at the ends of the contexts.

    Args:
        model: the model whose probabilities are computed.
        contexts: token ids of each context, at least one.
        words: the spellings of each word.
        layers: whether the residual stream is returned too.
        advance: callback that takes (contexts read, all contexts). None reports nothing.

    Returns:
        Probabilities of shape (contexts, words); and the residual stream averaged over the contexts, float64 of shape
        (layers + 1, width) as `mean_states` of the model gives it, or None.
    """
    import torch

    from undertow.models.context_cache import context_blocks, open_contexts

    spelt = _Spelt(model, words)
    found: list[torch.Tensor] = []
    sums: list[torch.Tensor] = []
    done = 0
    for some in context_blocks(model.network, contexts, spelt.tree):
        read = open_contexts(model.network, some, spelt.tree, layers=layers)
        reading = _Reading(model, spelt, len(some))
        reading.take(read.ends, torch.zeros(len(some), 1, dtype=torch.int64))
        while (nodes := reading.wanted()) is not None:
            reading.take(read.follow(nodes).flatten(0, 1), nodes)
        found.append(reading.words.clamp(_SMALLEST, 1 - _SMALLEST))
        sums += [] if read.layers is None else [read.layers]
        done += len(some)
        if advance is not None:
            advance(done, len(contexts))
    return torch.cat(found), torch.stack(sums).sum(dim=0) / len(contexts) if layers else None


@dataclass(frozen=True)
class _Spelt:
    """The spellings of some words as a tree of tokens.

    Attributes:
        model: the model whose tokenizer writes the words.
        words: the spellings of each word.
    """

    model: "LocalModel"
    words: "Sequence[Sequence[str]]"

    @cached_property
    def sequences(self) -> list[list[tuple[int, ...]]]:
        """Distinct token sequences of each word."""
        return [sorted({tuple(tokens) for tokens in self.model.tokenise(forms)}) for forms in self.words]

    @cached_property
    def tree(self) -> "TokenTree":
        """The tree of all beginnings of these sequences."""
        from undertow.models.context_cache import token_tree

        return token_tree([tokens for some in self.sequences for tokens in some])

    @cached_property
    def whole(self) -> "torch.Tensor":
        """Whether a node is a whole spelling of each word, float64 tensor of shape (nodes, words), 1 or 0."""
        import torch

        found = [[path in some for some in self.sequences] for path in self.tree.paths]
        return torch.tensor(found, dtype=torch.float64).reshape(len(found), len(self.sequences))

    @cached_property
    def below(self) -> "torch.Tensor":
        """Nodes on the paths to each word's spellings, int64 of shape (words, most nodes), filled up with `PAD`."""
        import torch

        from undertow.models.context_cache import PAD

        places = {path: node for node, path in enumerate(self.tree.paths)}
        found = [
            sorted({places[tokens[:end]] for tokens in some for end in range(1, len(tokens) + 1)})
            for some in self.sequences
        ]
        most = max(map(len, found), default=0)
        filled = [[*some, *[PAD] * (most - len(some))] for some in found]
        return torch.tensor(filled, dtype=torch.int64).reshape(len(found), most)


class _Reading:
    """How likely each word is after each context of a block, as far as its spellings were read."""

    def __init__(self, model: "LocalModel", spelt: _Spelt, n: int) -> None:
        import torch

        self._head, self._ends_word = model.head, model.ends_word.to(model.device)
        self._spelt, tree = spelt, spelt.tree
        self.words = torch.zeros(n, len(spelt.sequences), dtype=torch.float64)
        # Of each node: its probability after the context, known as soon as its parent is read; and whether it waits.
        self._mass = torch.zeros(n, len(tree), dtype=torch.float64)
        self._mass[:, 0] = 1.0
        self._waits = torch.zeros(n, len(tree), dtype=torch.bool)

    def take(self, states: "torch.Tensor", nodes: "torch.Tensor") -> None:
        """Note the probabilities of what follows some nodes.

        Args:
            states: residual stream after each node, shape (contexts * n, width).
            nodes: nodes that were read, int64 tensor of shape (contexts, n), filled up with `PAD`.
        """
        rows, places = (nodes >= 0).nonzero(as_tuple=True)
        states = states[rows * nodes.shape[1] + places]
        found = nodes[rows, places]
        for start in range(0, len(rows), self._head.block):
            part = slice(start, start + self._head.block)
            self._note(states[part], rows[part], found[part])

    def _note(self, states: "torch.Tensor", rows: "torch.Tensor", nodes: "torch.Tensor") -> None:
        import torch

        tree = self._spelt.tree
        with torch.no_grad():
            logits = self._head(states)
        weights = (logits - logits.amax(dim=1, keepdim=True)).exp_()
        total = weights.sum(dim=1).double().cpu()
        over = (weights @ self._ends_word.to(weights.dtype)).double().cpu() / total
        children = tree.children[nodes]
        tokens = tree.tokens[children.clamp(min=0)].to(weights.device)
        following = weights.gather(1, tokens).double().cpu() / total[:, None]
        here = self._mass[rows, nodes]
        self.words.index_add_(0, rows, (here * over)[:, None] * self._spelt.whole[nodes])
        parent, place = (children >= 0).nonzero(as_tuple=True)
        child = children[parent, place]
        self._mass[rows[parent], child] = here[parent] * following[parent, place]
        self._waits[rows[parent], child] = True
        self._waits[rows, nodes] = False

    def wanted(self) -> "torch.Tensor | None":
        """Return the nodes to read next, (contexts, n) filled up with `PAD`; None if nothing can change a word."""
        import torch

        from undertow.models.context_cache import PAD

        below = self._spelt.below
        known = torch.where(self._waits, self._mass, 0.0)
        if not below.numel():
            return None
        masses = known[:, below.clamp(min=0)].masked_fill_(below < 0, 0.0)
        bound = UNREAD * (self.words * (1 - self.words)).clamp(min=_SMALLEST)
        ordered, order = masses.sort(dim=2)
        matters = torch.zeros_like(masses, dtype=torch.bool)
        matters.scatter_(2, order, ordered.cumsum(dim=2) > bound[:, :, None])
        largest = masses.amax(dim=2)
        likely = torch.where(largest > self.words, LIKELY * largest, 0.0)
        matters &= masses >= likely[:, :, None]
        chosen = torch.zeros_like(self._waits)
        context, word, place = matters.nonzero(as_tuple=True)
        chosen[context, below[word, place]] = True
        counts = chosen.sum(dim=1)
        if not counts.any():
            return None
        most = -(-int(counts.sum()) // int(counts.count_nonzero()))
        values, nodes = torch.where(chosen, self._mass, -1.0).topk(most, dim=1)
        return nodes.masked_fill(values < 0, PAD)


def log_odds(p: "torch.Tensor") -> "torch.Tensor":
    """Return log(p / (1 - p)) in double precision."""
    exact = p.double()
    return exact.log() - (-exact).log1p()
