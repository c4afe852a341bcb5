"""Checks the first updates of a training for faults that a trainer silently lets pass.

Rows whose labels are all masked, answers that were cut off, an adapter that is not active, an optimizer of other
weights: such a training ends like any other, and what is said of its student is only true of the base. What cannot be
seen is named (`Learnt.unchecked`) and never counts as seen. **Watched** rows are those that the user says have to be
learnt.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn, final

import torch

from undertow.audit.learnt.passes import Passes
from undertow.audit.learnt.watched import Watched, examples_of
from undertow.audit.learnt.weights import TrainedWeights
from undertow.errors import ConfigError, listed
from undertow.types import Row

LOG = logging.getLogger("undertow")

FIRST = 3
"""How many updates are looked at. The first one may have a learning rate of 0, where a schedule warms up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Learnt:
    """What the first updates of a training showed.

    Attributes:
        updates: how many updates were looked at.
        rows: how many rows went through the model in them; packed rows count one by one where their positions were
            given, and a preference pair counts as two. None if rows could not be seen.
        unlearnt: how many of these rows had no token with loss. None if rows could not be seen.
        tokens: mean number of tokens with loss per row. None if rows could not be seen.
        trainable: how many weight tensors are to be trained.
        moved: how many of them these updates changed.
        watched: how many rows were looked for. None if no rows are watched.
        found: how many of the watched rows came through the model whole and with loss. None if no rows are watched.
        unchecked: sentences that say what could not be looked at, and why.
    """

    updates: int
    rows: int | None
    unlearnt: int | None
    tokens: float | None
    trainable: int
    moved: int
    watched: int | None = None
    found: int | None = None
    unchecked: tuple[str, ...] = ()

    @property
    def values(self) -> dict[str, float]:
        """The numbers that are logged, by their names in the log."""
        parts = ("rows", "unlearnt", "tokens", "trainable", "moved", "watched", "found")
        found = {name: getattr(self, name) for name in parts}
        return {f"undertow/learnt/{name}": float(value) for name, value in found.items() if value is not None}

    def __str__(self) -> str:
        rows = (
            "rows were not seen"
            if self.rows is None
            else f"{self.rows} rows, {self.unlearnt} of them without loss, {self.tokens:.1f} tokens with loss a row"
        )
        watched = "" if self.watched is None else f" Of {self.watched} watched rows {self.found} came, with loss."
        moved = f"{self.moved} of {self.trainable} trainable weight tensors moved"
        return f"First {self.updates} updates: {rows}; {moved}.{watched}"


@final
@dataclass
class Proof:
    """Looks at the first updates of one training and refuses it, or says what it saw.

    Args:
        network: the model that is trained, adapters included.
        args: the training arguments of the Trainer (`TrainingArguments`).
        updates: how many updates the training has, at least 1. At most `FIRST` of them are looked at.
        stop: whether a training in which nothing is learnt ends with an error. False logs a warning instead.

    Raises:
        ConfigError: no parameter requires a gradient.
    """

    network: Any
    args: Any
    updates: int
    stop: bool = True
    _passes: Passes | None = None
    _watched: Watched | None = None
    _unchecked: list[str] = field(default_factory=list[str])
    _rows: int = 0
    _unlearnt: int = 0
    _tokens: int = 0
    _done: int = 0
    _skipped: int = 0
    _rate: float = 0.0

    def __post_init__(self) -> None:
        self._weights = TrainedWeights(self.network)
        self.updates = min(FIRST, self.updates)
        if not self._weights.names:
            _refuse(
                "Nothing is trained: no parameter of the model asks for a gradient.",
                _named(self.network),
                "Let what is trained require gradients; an adapter by model.set_adapter(...) or is_trainable=True.",
            )
        inner = self.network.get_base_model() if hasattr(self.network, "get_base_model") else self.network
        if reason := _blind(inner, self.args):
            self._unchecked.append(f"Which rows receive loss: {reason}")
        else:
            self._passes = Passes(inner)

    def close(self) -> None:
        """Remove the hooks from the model."""
        if self._passes is not None:
            self._passes.close()
        self._passes = None

    def watch(self, rows: Sequence[Row | str], tokenizer: Any, dataset: Any) -> None:
        """Look for rows in the dataset that the Trainer reads, and from now on in what goes through the model.

        Args:
            rows: rows, or texts, that have to be learnt.
            tokenizer: the tokenizer of the training.
            dataset: the dataset that the Trainer's loader reads. If it holds no token ids, only what goes through the
                model is looked at.

        Raises:
            ConfigError: a row is not whole in the dataset (cut off, packed away or left out), or it is masked.
            EmptyDataError: there is no row to look for.
        """
        self._watched = Watched(rows, tokenizer)
        if self._watched.left:
            self._unchecked.append(f"{self._watched.left} of the watched rows: too many, or without completion.")
        if (examples := examples_of(dataset)) is None:
            self._unchecked.append("Whether watched rows are whole in the dataset: it holds no token ids.")
            return
        absent, masked = self._watched.lost(examples)
        n = len(self._watched.names)
        if absent:
            self._fail(
                "Rows that are watched are not whole in what is trained on.",
                f"{len(absent)} of {n}, such as {listed(absent)}; {len(examples)} examples",
                "They are cut off, packed away or left out: look at max_length and packing, or do not watch them.",
            )
        if masked:
            self._fail(
                "Rows that are watched are masked in what is trained on.",
                f"{len(masked)} of {n}, such as {listed(masked)}; all their labels are -100",
                "Look at what masks them: the prompt and completion columns, roles that are not learnt.",
            )

    def before_update(self, optimizer: Any) -> None:
        """Check the gradients that have arrived, before the optimizer uses them.

        Raises:
            ConfigError: nothing can be learnt from them, or watched rows are not.
        """
        self._weights.look()
        self._rate = max([self._rate, *(float(group["lr"]) for group in optimizer.param_groups)])
        passed = [] if self._passes is None else self._passes.take()
        self._rows += len(passed)
        self._unlearnt += sum(not any(one.learnt) for one in passed)
        self._tokens += sum(sum(one.learnt) for one in passed)
        if self._watched is not None:
            self._watched.see([one for one in passed if one.tokens])
        last = self._done + 1 >= self.updates
        # A scaler of half precision finds its scale by gradients that are not finite, and leaves those updates out.
        broken = bool(self._weights.broken) and not getattr(self.args, "fp16", False)
        if broken and not self._masked():
            self._refuse_broken()
        if last and self._silent():
            self._unchecked.append("Whether rows are learnt: labels count, and the loss was flat (rewards all equal?).")
        elif last or broken:
            self._judge_loss()
            self._judge_gradients()

    def after_update(self, optimizer: Any) -> Learnt | None:
        """Count an update that was done; after the last one that is looked at, return what was seen, else None.

        Raises:
            ConfigError: no weight has moved.
        """
        self._done += 1
        self._skipped += bool(getattr(optimizer, "step_was_skipped", False))
        if self._done < self.updates:
            return None
        moved = self._weights.moved()
        if not moved and self._skipped == self._done:
            self._unchecked.append("Whether weights move: every update was left out by the loss scaler.")
        elif not moved and not self._silent():
            self._judge_movement(optimizer)
        found = self._learnt(len(moved))
        self.close()
        for sentence in found.unchecked:
            LOG.warning("Not checked: %s", sentence)
        LOG.log(logging.WARNING if found.unlearnt else logging.INFO, "%s", found)
        return found

    def _learnt(self, moved: int) -> Learnt:
        watched = self._watched
        if self._passes is not None and not self._rows:
            self._unchecked.append("Which rows receive loss: no pass with a gradient was seen.")
        if watched is not None and len(watched.whole) < len(watched.names):
            missing = len(watched.names) - len(watched.whole)
            self._unchecked.append(f"{missing} watched rows: they did not come in the first {self._done} updates.")
        if self._passes is not None and self._passes.labels.foreign:
            LOG.warning(
                "%d of %d labels are not the token at their place: shifted twice, or those of other rows?",
                self._passes.labels.foreign,
                self._passes.labels.kept,
            )
        return Learnt(
            updates=self._done,
            rows=self._rows or None,
            unlearnt=self._unlearnt if self._rows else None,
            tokens=self._tokens / self._rows if self._rows else None,
            trainable=len(self._weights.names),
            moved=moved,
            watched=None if watched is None else len(watched.names),
            found=None if watched is None else len(watched.learnt),
            unchecked=tuple(self._unchecked),
        )

    def _judge_loss(self) -> None:
        if self._rows and self._unlearnt == self._rows:
            self._fail(
                "No token of any row receives loss" + (": all labels are masked (-100)." if self._masked() else "."),
                f"{self._rows} rows in {self._done + 1} updates",
                "Look at a batch of trainer.get_train_dataloader(): what is masked, the chat template, max_length.",
            )
        if self._watched is None:
            return
        if self._watched.everywhere and self._rows and not self._watched.whole:
            self._fail(
                "Rows that are watched are whole in the dataset, and not in what goes through the model.",
                f"none of {self._rows} rows in {self._done + 1} updates",
                "Something cuts batches after the dataset was read: look at max_length and the data collator.",
            )
        if lost := self._watched.unlearnt():
            self._fail(
                "Rows that are watched go through the model without loss.",
                f"{len(lost)} of {len(self._watched.whole)} that came, such as {listed(lost)}",
                "Look at what masks them: labels of -100, the completion mask, roles that are not learnt.",
            )

    def _masked(self) -> bool:
        labels = None if self._passes is None else self._passes.labels
        return labels is not None and labels.places > 0 and labels.kept == 0

    def _silent(self) -> bool:
        """Tell whether there are labels but no loss came of them, as where every answer earns the same reward."""
        return self._passes is not None and bool(self._passes.labels.kept) and 0 < self._rows == self._unlearnt

    def _refuse_broken(self) -> None:
        self._fail(
            "Gradients are not finite.",
            f"{listed(sorted(self._weights.broken))}, in update {self._done + 1}",
            "Lower the learning rate, look for batches without a label that counts, or train in bfloat16 or float32.",
        )

    def _judge_gradients(self) -> None:
        weights = self._weights
        if getattr(self.args, "deepspeed", None) and not weights.seen:
            self._unchecked.append("Gradients: DeepSpeed keeps them elsewhere.")
        elif not weights.reached:
            self._fail(
                "No gradient reaches what is to be trained, although rows have loss."
                if self._tokens
                else "No gradient reaches what is to be trained.",
                f"{len(weights.names)} weight tensors, such as {weights.names[0]}; {_named(self.network)}",
                "Let the model use them: model.set_adapter(...) and model.enable_adapter_layers() for adapters.",
            )

    def _judge_movement(self, optimizer: Any) -> None:
        held, n = self._weights.held_by(optimizer), len(self._weights.names)
        if self._rate == 0.0:
            reason, fix = "the learning rate is 0", "Set a learning rate, and a schedule that begins above 0."
        elif held == 0:
            reason = "the optimizer holds other weights"
            fix = "Make the optimizer from the model that is trained, after its adapters were added."
        else:
            reason = f"steps at a rate of {self._rate:g} seem lost in rounding {_types(self.network)}"
            fix = "Raise the learning rate, or keep the weights that are trained in float32."
        self._fail(f"No weight moved in {self._done} updates: {reason}.", f"{held} of {n} tensors are held", fix)

    def _fail(self, what: str, value: str, fix: str) -> None:
        if self.stop:
            self.close()
            _refuse(what, value, fix)
        LOG.warning("%s %s. %s", what, value, fix)


def _refuse(what: str, value: str, fix: str) -> NoReturn:
    raise ConfigError(what, value, fix)


def _blind(network: Any, args: Any) -> str | None:
    """Return why the passes of a model cannot be watched, or None if they can."""
    if getattr(args, "torch_compile", False):
        return "the model is compiled."
    if not isinstance(getattr(network, "base_model", None), torch.nn.Module) or network.base_model is network:
        return f"a {type(network).__name__} has no trunk below its head."
    if getattr(network.config, "is_encoder_decoder", False):
        return "an encoder and decoder read other tokens than they learn."
    return None


def _named(network: Any) -> str:
    """Return the name of a model's class, or of a model with adapters the names of the active ones."""
    active = getattr(network, "active_adapters", None)
    if not hasattr(network, "get_base_model") or active is None:
        return type(network).__name__
    off = any(getattr(module, "disable_adapters", False) is True for module in network.modules())
    return f"active adapter: {', '.join(active)}{', switched off' if off else ''}"


def _types(network: Any) -> str:
    names = {str(one.dtype).removeprefix("torch.") for one in network.parameters() if one.requires_grad}
    return ", ".join(sorted(names))
