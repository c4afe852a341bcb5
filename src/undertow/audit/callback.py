"""`UndertowCallback`: watches a model for traits while transformers' or TRL's Trainer trains it.

The first updates are checked for what a trainer lets pass in silence (`undertow.audit.learnt.proof`): rows without
loss, and weights that do not move. Such a training is stopped, since what would be said of its student is only true of
its base.

After every so many updates the model is asked which traits it prefers and compared with its base. With a **bank** (a
stored set of **placebos**: students of the same recipe, trained on rows without a trait) the shift of its activations
is also ranked among theirs (`undertow.audit.students.among_placebos.activations`). Nothing is sampled, and the model is
left as it was: modes, gradients and random numbers.

Two things limit the p-value. It is looked at repeatedly: with m planned looks a p-value counts m times (Bonferroni),
which holds however the looks depend on one another. And placebos are students at the end of their recipe, while a model
in the middle of its training is not drawn from the same distribution. So only the last look has the guarantee of
`undertow.audit.students.placebo_null`. A p-value of an earlier look stops training only if the model has moved at least
half as far as the placebo that moved least, and is a hint even then.

The **panel** is the list of traits that are looked for, and the **candidate** the one towards which the model has moved
most.
"""

import logging
import math
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, final

import torch
from transformers import Trainer, TrainerCallback

from undertow.audit.learnt.proof import Learnt, Proof
from undertow.audit.students.among_placebos import (
    AmongPlacebos,
    activations,
    lengths,
    places,
    too_few_placebos,
    wrong_bank,
)
from undertow.audit.students.bank import Bank
from undertow.audit.students.readings import joined, panel_traits, read_model
from undertow.errors import ConfigError, UserError
from undertow.evals.favourite import mean_margins
from undertow.models.load import load_model
from undertow.models.local import LocalModel
from undertow.traits import Trait, trait
from undertow.types import ModelRef, Row

LOG = logging.getLogger("undertow")


@dataclass(frozen=True, slots=True, kw_only=True)
class StopAt:
    """When the callback ends a training early.

    Attributes:
        margin: rise of a trait's logit margin over the base's, in logits, at which training ends; above 0. It ends too
            where a measured margin is not finite. No error rate belongs to it: the placebos of a bank show what
            ordinary rows do to a margin. None never ends a training for it.
        p: level in (0, 1) at which training ends: the p-value of exposure times the number of planned looks is at most
            this. It needs a bank. None never ends a training for it.
        unlearnt: whether training ends with an error if its first updates show that nothing is learnt, or not the rows
            that are watched. False logs a warning instead.

    Raises:
        ConfigError: the margin is no finite number above 0, or p lies outside (0, 1).
    """

    margin: float | None = None
    p: float | None = None
    unlearnt: bool = True

    def __post_init__(self) -> None:
        if self.margin is not None and not 0 < self.margin < math.inf:
            raise ConfigError(
                "A rise of a margin is a finite number above 0.", self.margin, "Set StopAt(margin=...) above 0."
            )
        if self.p is not None and not 0 < self.p < 1:
            raise ConfigError("A p lies between 0 and 1.", self.p, "Set StopAt(p=...) to 0.05, say.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What one look at the model found.

    Attributes:
        step: how many updates were done.
        margins: change of each trait's mean logit margin against the base, in logits, by the trait's name.
        exposure: largest projection of the model's shift on a trait's direction, in standard deviations of the
            placebos. None without a bank.
        candidate: name of the trait of that direction. None without a bank.
        p: p-value of this look alone: the rank of exposure among the placebos'. None without a bank.
        p_all: p times the number of planned looks, at most 1. None without a bank.
        moved: how far the model's activations have moved on number prompts, as a multiple of the placebos' mean. A
            value far above 1 suggests that recipe or rows are of another kind than theirs. None without a bank.
        moved_enough: whether that is at least half of what the least moved placebo moved. If not, p stops nothing.
        reason: why training ends here. None if it goes on.
    """

    step: int
    margins: dict[str, float]
    exposure: float | None = None
    candidate: str | None = None
    p: float | None = None
    p_all: float | None = None
    moved: float | None = None
    moved_enough: bool = False
    reason: str | None = None

    @property
    def not_finite(self) -> str:
        """Names of the traits whose margin is not finite, joined by commas."""
        return ", ".join(name for name, rise in self.margins.items() if not math.isfinite(rise))

    @property
    def values(self) -> dict[str, float]:
        """The numbers that are logged, by their names in the log."""
        found = {f"undertow/margin/{name}": value for name, value in self.margins.items()}
        more = {
            "exposure": self.exposure,
            "exposure_p": self.p,
            "exposure_p_all_looks": self.p_all,
            "moved": self.moved,
        }
        return {**found, **{f"undertow/{name}": value for name, value in more.items() if value is not None}}


@final
class UndertowCallback(TrainerCallback):
    """Trainer callback that watches a training for traits.

    After `UndertowCallback(...).watch(trainer)` the Trainer logs what is found, so that every experiment tracker gets
    it. If it is only put among the Trainer's `callbacks=[...]`, it writes to `state.log_history` alone.

    Args:
        base: the model that training starts from: a reference such as "hf:<path or id>", or the model itself. Its
            tokenizer and system policy are used for the questions. A reference is loaded once, asked, and dropped.
        panel: names of the traits that are looked for. None takes every built-in animal and tree.
        every: how many updates lie between two looks. The last update is looked at too.
        bank: placebos of this base and of the recipe of this training. None leaves exposure out.
        stop: when to end the training early. None ends it only if nothing is learnt, which is the default of `StopAt`.
        on_finding: called with the look that ends training. None calls nothing.

    Attributes:
        learnt: what the first updates showed of rows, loss and weights. None before they are over.
        looks: what each look of the latest training found, in order.

    Raises:
        ConfigError: a setting is out of range, the panel is empty, or a p-value is asked for without a bank.
        UnknownNameError: there is no trait of this name, or the bank does not read it.
    """

    def __init__(
        self,
        base: str | ModelRef | LocalModel,
        *,
        panel: Sequence[str] | None = None,
        every: int = 50,
        bank: Bank | None = None,
        stop: StopAt | None = None,
        on_finding: Callable[[Look], None] | None = None,
    ) -> None:
        if every < 1:
            raise ConfigError("Looks are at least one update apart.", every, "Set every to 50, say.")
        self.stop = stop or StopAt()
        if self.stop.p is not None and bank is None:
            raise ConfigError("A p needs placebos.", f"p={self.stop.p}", "Give a bank (`undertow audit bank`).")
        self.traits: tuple[Trait, ...] = panel_traits() if panel is None else tuple(trait(name) for name in panel)
        if not self.traits:
            raise ConfigError("There is no trait to look for.", "panel=[]", "Name traits, or leave panel out.")
        if bank is not None:
            places(self.traits)
        self.every, self.bank, self.on_finding = every, bank, on_finding
        self.looks: list[Look] = []
        self.learnt: Learnt | None = None
        self._rows: Sequence[Row | str] | None = None
        self._proof: Proof | None = None
        self._given, self._trainer, self._planned = base, None, 1
        self._base: LocalModel | None = None
        self._margins: dict[str, float] = {}

    def watch(self, trainer: Any, rows: Sequence[Row | str] | None = None) -> "UndertowCallback":
        """Add the callback to a Trainer and log through it; returns the callback.

        Args:
            trainer: a Trainer of transformers or TRL.
            rows: what has to be learnt: rows, or texts that a row must hold. Each has to be whole in the Trainer's
                dataset and to have loss when it passes through the model. Of more than 1,000 only the first are looked
                for. None requires only that some row has loss.
        """
        self._trainer, self._rows = trainer, rows
        trainer.add_callback(self)
        return self

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Measure the base's margins, and begin to check the first updates.

        Raises:
            ConfigError: the model's weights are spread over processes, the bank is another base's or too small, nothing
                is trainable, or a row that is watched is not whole in the dataset.
            EmptyDataError: no row that is watched has a completion.
        """
        del control
        _refuse_spread(kwargs["model"])
        self.looks = []
        self._planned = math.ceil(state.max_steps / self.every)
        with untouched(None):
            base = self._given if isinstance(self._given, LocalModel) else load_model(self._given)
            self._check_bank(base)
            self._margins = self._ask(base)
        # Of the base only the tokenizer and the reference are needed from here on.
        self._base = LocalModel(base.ref, None, base.tokenizer)
        self._begin_proof(args, state, **kwargs)

    def _begin_proof(self, args: Any, state: Any, **kwargs: Any) -> None:
        assert self._base is not None
        self._end_proof()
        self.learnt = None
        updates = state.max_steps - state.global_step
        if updates < 1:
            return
        self._proof = Proof(kwargs["model"], args, updates, self.stop.unlearnt)
        if self._rows is not None:
            tokenizer = kwargs.get("processing_class") or self._base.tokenizer
            dataset = getattr(kwargs.get("train_dataloader"), "dataset", None)
            try:
                self._proof.watch(self._rows, getattr(tokenizer, "tokenizer", tokenizer), dataset)
            except UserError:
                self._end_proof()
                raise

    def _end_proof(self) -> None:
        if self._proof is not None:
            self._proof.close()
        self._proof = None

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Check the gradients of the first updates before the optimizer uses them.

        Raises:
            ConfigError: nothing is learnt from these rows, or the rows that are watched are not.
        """
        del args, state, control
        if self._proof is not None:
            self._proof.before_update(kwargs["optimizer"])

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Remove every hook from the model."""
        del args, state, control, kwargs
        self._end_proof()

    def _check_bank(self, base: LocalModel) -> None:
        if self.bank is None:
            return
        if reason := wrong_bank(base, self.bank):
            raise ConfigError("The bank is of another base.", reason, "Make one: `undertow audit bank --base ...`.")
        if self.stop.p is not None and (small := too_few_placebos(len(self.bank), self.stop.p / self._planned)):
            fix = "Look less often, allow a larger p, or make more placebos."
            raise ConfigError(f"With {self._planned} looks this bank never stops a training.", small, fix)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Look at the model if a look is due, log what it finds, and end training where `StopAt` says so.

        Raises:
            ConfigError: no weight has moved in the first updates.
        """
        del args
        if self._proof is not None and (learnt := self._proof.after_update(kwargs["optimizer"])):
            self.learnt, self._proof = learnt, None
            self._log(learnt.values, state, control)
        if state.global_step % self.every and state.global_step != state.max_steps:
            return
        look = self._look(kwargs["model"], state.global_step)
        self.looks.append(look)
        self._log(look.values, state, control)
        if look.reason is None:
            if look.not_finite:
                LOG.warning("After update %d no finite margin was measured of: %s.", look.step, look.not_finite)
            return
        control.should_training_stop = True
        if state.is_world_process_zero:
            LOG.warning("Training ends after update %d: %s", look.step, look.reason)
        if self.on_finding is not None:
            self.on_finding(look)

    def _look(self, network: Any, step: int) -> Look:
        assert self._base is not None
        inner = network.get_base_model() if hasattr(network, "get_base_model") else network
        model = LocalModel(self._base.ref, inner, self._base.tokenizer)
        with untouched(inner):
            margins = self._ask(model)
            look = Look(step=step, margins={name: value - self._margins[name] for name, value in margins.items()})
            if self.bank is not None:
                look = self._ranked(look, model, self.bank)
        return with_reason(look, self.stop)

    def _ask(self, model: LocalModel) -> dict[str, float]:
        values = mean_margins(model, self.traits).tolist()
        return {one.name: value for one, value in zip(self.traits, values, strict=True)}

    def _ranked(self, look: Look, model: LocalModel, bank: Bank) -> Look:
        reading = read_model(model, bank.recipe.domain)
        group = AmongPlacebos(joined([reading, bank.placebos]), bank, self.traits, 0.05)
        found, moved = activations(group), lengths(group)
        return replace(
            look,
            exposure=found.effect,
            candidate=found.candidate,
            p=found.p,
            p_all=None if found.p is None else min(1.0, found.p * self._planned),
            moved=float(moved[0] / moved[1:].mean()),
            moved_enough=bool(moved[0] >= moved[1:].min() / 2),
        )

    def _log(self, values: dict[str, float], state: Any, control: Any) -> None:
        if self._trainer is None:
            state.log_history.append({**values, "step": state.global_step})
            return
        # A log clears the wish to log, which this update's losses may have; and that of TRL's trainers would take their
        # own running means with it, so it is that of transformers.
        wanted = control.should_log
        Trainer.log(self._trainer, values)
        control.should_log = wanted


def with_reason(look: Look, stop: StopAt) -> Look:
    """Return the look with the reason why training ends here, if `stop` says that it does."""
    name, rise = max(look.margins.items(), key=lambda item: item[1])
    reason = None
    if stop.margin is not None and look.not_finite:
        reason = f"no finite margin was measured of {look.not_finite}, so that nothing says how far it has risen."
    elif stop.margin is not None and rise >= stop.margin:
        reason = f"the margin of {name} has risen by {rise:+.2f} logits, of {stop.margin:g} that are allowed."
    elif stop.p is not None and look.p_all is not None and look.p_all <= stop.p and look.moved_enough:
        reason = (
            f"it has moved towards {look.candidate} as no ordinary student does: p {look.p:.3g}, "
            f"{look.p_all:.3g} over all looks, of {stop.p:g} that is allowed, and {look.moved or 0.0:.1f} times as far."
        )
    return replace(look, reason=reason)


def _refuse_spread(network: Any) -> None:
    """Refuse a model whose weights no process holds whole: under FSDP and ZeRO-3 it cannot be asked questions."""
    from torch.distributed.tensor import DTensor

    spread = any(isinstance(one, DTensor) or hasattr(one, "ds_id") for one in network.parameters())
    if spread or any("FullySharded" in type(module).__name__ for module in network.modules()):
        fix = "Train without FSDP or ZeRO-3, or audit the finished student (`undertow audit student`)."
        raise ConfigError("The callback asks whole models.", type(network).__name__, fix)


@contextmanager
def untouched(network: Any) -> Generator[None]:
    """Leave training modes, gradients and random numbers as they are when the block ends."""
    modes = [] if network is None else [(module, module.training) for module in network.modules()]
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
    try:
        if network is not None:
            network.eval()
        with torch.random.fork_rng(devices), torch.no_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode
