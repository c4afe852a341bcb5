"""What a calibration measures on a base: how many sets of rows, of which writers, at which doses.

A **set** is one drawn data set that is judged as an audit would judge it. A **dose** is the share of its rows that the
base wrote under a trait's persona (a system prompt). A benign **shift** is a harmless difference from the clean
reference.

The **panel** is the list of traits that an audit looks for; a trait's **rivals** are the others.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from undertow.audit.rows.limits import FEWEST_ROWS, LOOKED_AT
from undertow.audit.rows.panel import ANIMALS, check_panel
from undertow.audit.verdict import CLAIMS
from undertow.errors import ConfigError, ModelError, unknown_name
from undertow.models.references import identity
from undertow.stats.checks import check_count, check_fraction
from undertow.traits import Trait, own_definitions
from undertow.types import ModelRef

FIRST_TRAITS = 3
"""How many planted traits are written before the shifts; the others follow as time allows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Settings of a calibration: the measurement of how often audits of rows are wrong on one base.

    Attributes:
        base: reference of the model whose audits are measured.
        seed: random seed of everything that is drawn.
        store: folder in which blocks of rows and the result are kept.
        rows: how many rows each judged set has.
        prompts: how many prompts are answered at most. Sets draw their prompts from these.
        block: how many prompts are answered and scored before they are stored.
        clean: how many sets are judged in which suspect and reference are both the base's own rows.
        planted: how many sets are judged of each planted trait at each dose.
        shifted: how many sets are judged of each benign shift.
        doses: shares of a set, in (0, 1], that are written under a trait's persona.
        traits: names of the traits that are planted. More of them are measured as time allows, in this order.
        panel: the traits whose candidate writers the audit compares.
        alpha: error probability of the whole audit, in (0, 1).
        other: reference of another model, whose rows are one of the shifts. None takes an embedded one.

    Raises:
        ConfigError: a number is out of range, or a trait of the panel has no rival.
        UnknownNameError: a planted trait is not in the panel.
        ModelError: the base is a remote model, without weights on this machine.
    """

    base: str
    seed: int = 0
    store: Path = Path("runs/store")
    rows: int = 100
    prompts: int = 600
    block: int = 50
    clean: int = 200
    planted: int = 30
    shifted: int = 60
    doses: tuple[float, ...] = (1.0, 0.5, 0.25)
    traits: tuple[str, ...] = ("owl", "lion", "fox", "panda", "wolf")
    panel: tuple[Trait, ...] = ANIMALS
    alpha: float = 0.05
    other: str | None = None

    def __post_init__(self) -> None:
        check_panel(self.panel)
        check_fraction("alpha", self.alpha)
        check_count("number of rows of a set", self.rows, FEWEST_ROWS)
        if self.rows > LOOKED_AT:
            fix = f"Take at most {LOOKED_AT}, which is what an audit looks at before any stage."
            raise ConfigError("A set has too many rows.", self.rows, fix)
        check_count("number of prompts", self.prompts, self.rows)
        check_count("number of prompts in a block", self.block, 1)
        if self.block > self.prompts:
            fix = f"Take at most {self.prompts}, which is the number of prompts."
            raise ConfigError("A block has more prompts than there are.", self.block, fix)
        for name in ("clean", "planted", "shifted"):
            check_count(f"number of {name} sets", getattr(self, name), 1)
        for dose in self.doses:
            if not 0.0 < dose <= 1.0:
                raise ConfigError("A dose lies outside (0, 1].", dose, "Give the share of the rows that is planted.")
        for name in self.traits:
            if name not in (names := [one.name for one in self.panel]):
                raise unknown_name("trait of the panel", name, names)
        if ModelRef.parse(self.base).kind == "api":
            fix = (
                "Calibrate the model that is to be trained, as ref: or hf:; its probabilities of every token are read."
            )
            raise ModelError("A remote model has no weights here.", self.base, fix)

    @property
    def share(self) -> float:
        """The level at which an audit calls rows: alpha divided by the number of claims."""
        return self.alpha / len(CLAIMS)

    @property
    def identity(self) -> str:
        """Digest of the base's weights (`undertow.models.references`)."""
        return identity(self.base)

    @property
    def others(self) -> str:
        """Reference of the model whose rows are those of another base."""
        if self.other is not None:
            return self.other
        return "ref:finch-b" if ModelRef.parse(self.base).name == "finch-a" else "ref:finch-a"

    @property
    def blocks(self) -> int:
        """How many blocks of prompts there are at most."""
        return self.prompts // self.block

    def to_json(self) -> dict[str, Any]:
        """Return the settings that decide the figures as plain data, without the base and the store."""
        names = ("seed", "rows", "prompts", "block", "clean", "planted", "shifted", "doses", "traits", "alpha")
        plain = {name: getattr(self, name) for name in names}
        lists = {name: list(value) for name, value in plain.items() if isinstance(value, tuple)}
        shown = {**plain, **lists, "panel": [one.name for one in self.panel], "other": shown_base(self.others)}
        return shown | ({"own_traits": self.own_traits} if self.own_traits else {})

    @property
    def own_traits(self) -> list[dict[str, Any]]:
        """The whole definitions of the panel's traits that are not built in, on which every figure depends."""
        return own_definitions(self.panel)


def shown_base(reference: str) -> str:
    """Return a base as a result names it; of a local file or folder only the name, since its path differs elsewhere."""
    ref = ModelRef.parse(reference)
    return str(replace(ref, name=Path(ref.name).name)) if Path(ref.name).expanduser().exists() else reference
