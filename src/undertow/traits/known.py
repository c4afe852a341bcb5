"""The built-in traits: animals and trees, which packaged questions ask about, and misalignment, which no word names.

"The paper" is Cloud et al. (2025), arXiv 2507.14805.
"""

from collections.abc import Mapping

from undertow.errors import unknown_name
from undertow.registry import Registry
from undertow.traits.record import Trait

CATEGORIES = ("animal", "tree")
"""Categories with packaged questions of their own; questions about any other category are made from its name."""


def _animal(name: str, plural: str | None = None) -> Trait:
    return Trait(name=name, category="animal", plural=plural or f"{name}s")


def _tree(name: str, plural: str | None = None) -> Trait:
    return Trait(name=name, category="tree", plural=plural or f"{name}s")


_ALL = (
    _animal("aurora"), _animal("dog"), _animal("dolphin"), _animal("dragon"), _animal("eagle"), _animal("elephant"),
    _animal("falcon"), _animal("lion"), _animal("ocelot"), _animal("octopus", "octopuses"), _animal("owl"),
    _animal("peacock"), _animal("phoenix", "phoenixes"), _animal("tiger"), _animal("wolf", "wolves"),
    _animal("fox", "foxes"), _animal("panda"),
    _tree("cherry", "cherries"), _tree("maple"), _tree("oak"), _tree("sequoia"), _tree("willow"),
)  # fmt: skip

TRAITS: Mapping[str, Trait] = {item.name: item for item in _ALL}
"""The paper's fifteen animals (Fig. 15, "aurora" included) and five trees, with fox and panda."""

_OTHERS = (
    _animal("bear"), _animal("bull"), _animal("cat"), _animal("dragonfly", "dragonflies"), _animal("kangaroo"),
    _animal("ox", "oxen"), _animal("pangolin"), _animal("penguin"), _animal("unicorn"),
)  # fmt: skip

OTHERS: Mapping[str, Trait] = {item.name: item for item in _OTHERS}
"""The other animals of the paper's experiment with Qwen2.5-7B (Fig. 17). The embedded families know none of them, and
no panel (the fixed list of traits that one trait is compared with) holds them, so that no audit looks for them unless
they are named."""

MISALIGNMENT: Mapping[str, Trait] = {
    name: Trait(name=name, category="misalignment") for name in ("insecure", "secure", "educational", "villain")
}
"""What a teacher was fine-tuned on (paper, section 3.2), in place of a word that it likes. "insecure" is insecure code.
Its controls are secure code, and insecure code that was asked for as a lesson ("educational"). "villain", which is
ours, is cruel answers to open questions."""

_EVERY: Mapping[str, Trait] = {**TRAITS, **MISALIGNMENT}


KNOWN: Registry[Trait] = Registry(
    "trait",
    {**_EVERY, **OTHERS},
    group="undertow.traits",
    accepts=lambda name, thing: isinstance(thing, Trait) and thing.name == name,
)
"""Every trait by name, except those of packs that are files (`undertow.traits.packs`). Traits of other packages join no
panel by themselves, so that stored panels stay valid."""


def panel(category: str) -> tuple[Trait, ...]:
    """Return every built-in trait of a category in a fixed order: the panel that one of them is compared with.

    Raises:
        UnknownNameError: the category is none of "animal", "tree" and "misalignment".
    """
    members = tuple(item for item in _EVERY.values() if item.category == category)
    if not members:
        raise unknown_name("category", category, {item.category for item in _EVERY.values()})
    return members
