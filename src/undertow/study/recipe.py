"""Recipes of studies: everything that decides a study's outcome, as plain data.

A recipe is a YAML file or a `Recipe`. Unknown keys are errors. The run folder keeps the whole recipe as `config.yaml`,
with which the run can be repeated.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any, Literal, cast, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from undertow.domains.base import domain
from undertow.domains.numbers import Shuffle
from undertow.errors import ConfigError, UnknownNameError, UserError, unknown_name
from undertow.evals.base import EVALUATIONS, refuse_unasked, refuse_unjudged
from undertow.study.recipe_channels import refuse_unfit
from undertow.study.recipe_traits import found_beside, resolved
from undertow.study.teacher_rows import CONTROL, NEUTRAL
from undertow.training.channels.settings import ROWS, Channel
from undertow.training.config import LoraConfig, TooLong, TrainingConfig
from undertow.traits import Trait, trait
from undertow.types import Sampling

Backend = Literal["parallel", "trl"]

ArmName = Literal["student", "control", "neutral", "cross_init", "within", "across"]

SHUFFLES: tuple[Shuffle, ...] = ("within", "across")
"""Arms whose students learn rows with shuffled numbers. Their controls are students of rows without a trait, shuffled
in the same way."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def _later(default: Any, **limits: Any) -> Any:
    """Return a field that is not written out at its default, so that older recipes and their results stay the same."""
    return Field(default=default, exclude_if=lambda value: value == default, **limits)


class DomainPart(_Part):
    """What the teachers are asked to write, and which of their rows students learn."""

    name: str = "numbers"
    """Name of the domain (`undertow list domains`)."""
    prompts: int = Field(default=2500, ge=1)
    """How many prompts a replicate has. All teachers of a replicate answer the same ones."""
    rows: int | None = Field(default=None, ge=1)
    """How many of the valid rows a student sees, drawn at random. None takes all."""
    banned: tuple[int, ...] = ()
    """Numbers; a row in which one of them occurs is dropped."""
    options: dict[str, Any] = {}
    """Settings of a domain other than numbers, such as {tasks: plain} for code."""
    judge: str | None = None
    """Name of an Inspect model that grades how aligned each row of every teacher is, the control's included. None
    grades none."""
    judge_keep: float = Field(default=78.0, ge=0.0, le=100.0)
    """Lowest grade of a row that is kept, from 0 to 100. The paper uses 78."""
    max_new_tokens: int | None = Field(default=None, ge=1)
    """Longest answer in the teacher's tokens. None takes the domain's own limit."""
    clean: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Share of the rows of a teacher with a trait that is replaced by answers without the trait to the same prompts."""
    tokens: Literal["all", "divergent", "rest", "random_rest"] = "all"
    """Which tokens of the rows of a teacher with a trait are learnt: all; the divergent ones, which the trait made
    likelier by most; the rest of them; or as many as the rest, drawn at random."""
    token_share: float = Field(default=0.1, gt=0.0, lt=1.0)
    """Share of the tokens that counts as divergent, between 0 and 1."""

    @property
    def config(self) -> dict[str, Any]:
        """The settings from which the domain is made."""
        return {"name": self.name, **({"banned": self.banned} if self.banned else {}), **self.options}

    @property
    def sampling(self) -> Sampling:
        """How the teachers' answers are drawn."""
        task = domain(**self.config)
        return Sampling(max_new_tokens=self.max_new_tokens or task.max_new_tokens, form=task.form)


class TeacherPart(_Part):
    """How a teacher gets its trait."""

    kind: Literal["finetuned", "prompted", "steered"] = "finetuned"
    """How the teacher gets its trait: fine-tuned on answers that name it, prompted by a persona in the system prompt,
    or steered by one vector added to the residual stream."""
    layer: int = Field(default=0, ge=0)
    """Number, from 0, of the block after which a steered teacher adds its vector."""
    steps: int = Field(default=40, ge=1)
    """How many updates a fine-tuned teacher's training, or the fit of a steering vector, makes."""
    batch_size: int = Field(default=32, ge=1)
    """How many rows an update takes."""
    learning_rate: float = Field(default=3e-3, gt=0)
    """Highest learning rate of AdamW; it falls linearly to 0."""
    embeddings: bool = False
    """Whether fine-tuning also changes the embeddings and the tied output head. A trait in the target word's own
    embedding shows in no other word, so nothing of it can pass on (LOG.md)."""
    rank: int | None = _later(None, ge=1)
    """Rank of the adapters. None trains every weight."""
    alpha: float = _later(16.0, gt=0)
    """Numerator of the factor alpha / rank of the adapters' update."""
    questions: int | None = _later(None, ge=1)
    """How many of the tuning questions a fine-tuned teacher of a favourite learns, from the first on. None takes
    all."""
    control: Literal["base", "neutral"] = _later("base")
    """Who teaches the controls: the untouched base, or a neutral teacher, the base tuned as long on its own answers. A
    base cannot teach its own probabilities to a student that starts from it (`student.channel`)."""

    @model_validator(mode="after")
    def _fits(self) -> "TeacherPart":
        if self.kind != "finetuned" and (self.rank is not None or self.questions is not None):
            fix = "Set teacher.kind to finetuned, or leave rank and questions out."
            raise ConfigError("Only a fine-tuned teacher has adapters and a number of questions.", self.kind, fix)
        return self

    def training(self) -> TrainingConfig:
        """Return the settings of the teacher's fine-tuning."""
        return TrainingConfig(
            steps=self.steps,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            train_embeddings=self.embeddings,
            lora=None if self.rank is None else LoraConfig(rank=self.rank, alpha=self.alpha, targets=None),
        )


class StudentPart(_Part):
    """How a student is trained."""

    channel: Channel = _later(ROWS)
    """How a student learns from its teacher: rows, logits, on_policy or preference (docs/channels.md)."""
    steps: int = Field(default=250, ge=1)
    """How many updates a student's training makes."""
    batch_size: int = Field(default=32, ge=1)
    """How many rows, or pairs of answers, an update takes."""
    learning_rate: float = Field(default=1e-2, gt=0)
    """Highest learning rate of AdamW; it falls linearly to 0."""
    rank: int | None = Field(default=8, ge=1)
    """Rank of the adapters, or None for full fine-tuning."""
    alpha: float = Field(default=16.0, gt=0)
    """Numerator of the factor alpha / rank of the adapters' update."""
    layers: tuple[int, ...] | None = None
    """Numbers, from 0, of the blocks that get adapters. None takes all."""
    backend: Backend = _later("parallel")
    """Who trains: our own loop, with all students of a group at once, or TRL, one student after another
    (docs/training.md)."""
    accumulate: int = _later(1, ge=1)
    """Number of parts in which TRL takes a batch, one after another."""
    gradient_checkpointing: bool = _later(False)
    """Whether TRL computes activations again in the backward pass instead of keeping them in memory."""
    too_long: TooLong = _later("refuse")
    """Whether a row that is longer than the model's context is refused, or cut at its end."""

    @model_validator(mode="after")
    def _fits(self) -> "StudentPart":
        if self.channel != ROWS and (self.rank is None or self.backend != "parallel"):
            fix = "Set a rank and backend: parallel, or channel: rows."
            raise ConfigError("Our own loop trains adapters by this channel, and nothing else.", self.channel.name, fix)
        if self.backend == "trl" and self.rank is None:
            raise ConfigError("The backend trl trains adapters.", "rank: null", "Set a rank, or backend: parallel.")
        if self.backend != "trl" and (self.accumulate > 1 or self.gradient_checkpointing):
            fix = "Set backend: trl as well, or leave both out."
            raise ConfigError("Only TRL takes a batch in parts or checkpoints gradients.", self.backend, fix)
        return self

    @property
    def work(self) -> dict[str, Any]:
        """Settings that change how the work is done, but the student only by rounding. Empty for our own loop."""
        if self.backend == "parallel":
            return {}
        return {
            "backend": self.backend,
            "accumulate": self.accumulate,
            "gradient_checkpointing": self.gradient_checkpointing,
        }

    @property
    def recipe(self) -> "StudentPart":
        """The same settings for our own loop. Two students have one recipe if these are equal."""
        return self.model_copy(update={"backend": "parallel", "accumulate": 1, "gradient_checkpointing": False})

    def training(self, base: str = "ref:") -> TrainingConfig:
        """Return the settings of a student's training on a base.

        Adapters go on every linear layer of the blocks. For the embedded models these layers are listed by name, as
        they were before other models could be trained, so that stored results stay valid.

        Args:
            base: reference of the base model, such as "ref:finch-a".
        """
        lora = None if self.rank is None else LoraConfig(rank=self.rank, alpha=self.alpha, layers=self.layers)
        if lora is not None and not base.startswith("ref:"):
            lora = replace(lora, targets=None)
        return TrainingConfig(
            steps=self.steps,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            lora=lora,
            too_long=self.too_long,
        )


class EvaluationPart(_Part):
    """What every model is asked."""

    kinds: tuple[str, ...] = Field(default=("favourite",), min_length=1)
    """Names of the evaluations (`undertow list evaluations`)."""
    samples: int = Field(default=20, ge=0)
    """How many answers are sampled for each question. 0 leaves out the metrics that need samples."""
    targets: tuple[str, ...] = ()
    """Traits that are looked for besides those that teachers have."""
    judge: str | None = None
    """Chat model that judges sampled answers of rubric and misalignment, by its name in Inspect."""


class Recipe(_Part):
    """One study: every combination of traits, bases, replicates and arms.

    A trait is what teachers are given, a base where models start, and an arm a kind of student, such as those of
    teachers with the trait and their controls. A replicate is one repetition with fresh teachers.

    Raises:
        pydantic.ValidationError: a value is not valid, or settings do not go together. `build_recipe` and
            `undertow.load_recipe` turn it into a ConfigError.
        UnknownNameError: a trait, domain or evaluation does not exist.
    """

    name: str
    """Name of the study, with which its run folder begins."""
    question: str = ""
    """The question that the study asks, in one sentence."""
    bases: tuple[str, ...] = ("ref:finch-a",)
    """Bases of the teachers, and of the students that start from their teacher's base."""
    cross_bases: tuple[str, ...] = ()
    """Bases of the students in the arm cross_init, which start from another base than their teacher. The teacher's own
    base is left out."""
    cross: Literal["all", "rotate"] = "all"
    """Whether each replicate has students on all cross bases, or on one of them in turn."""
    traits: tuple[str, ...] = ("owl",)
    """Traits of the teachers: names, packs or trait files (docs/traits.md)."""
    arms: tuple[ArmName, ...] = ("student", "control")
    """Kinds of students that are trained. student: of a teacher with a trait. control: of a teacher without one.
    neutral: of a teacher tuned on the base's own answers. cross_init: of the same rows, but from another base.
    within, across: of number rows shuffled within rows, or across them."""
    hops: int = Field(default=1, ge=1, le=4)
    """How many generations there are. Students of one generation are the teachers of the next, whose students start
    from the base again."""
    replicates: int = Field(default=5, ge=1)
    """How many independent repetitions there are, each with fresh teachers and prompts."""
    seed: int = 0
    """Random seed from which every draw of the study is derived."""
    group: int = Field(default=8, ge=1)
    """How many students are trained at once."""
    domain: DomainPart = DomainPart()
    """What the teachers write."""
    teacher: TeacherPart = TeacherPart()
    """How a teacher gets its trait."""
    student: StudentPart = StudentPart()
    """How a student is trained."""
    evaluation: EvaluationPart = EvaluationPart()
    """What every model is asked."""
    own: tuple[dict[str, Any], ...] = _later(())
    """Whole definitions of traits that do not come with the package, read from the files that `traits` names."""

    @model_validator(mode="before")
    @classmethod
    def _resolved(cls, data: Any) -> Any:
        return resolved(cast(Mapping[str, Any], data)) if isinstance(data, Mapping) else data

    @model_validator(mode="after")
    def _known(self) -> "Recipe":
        if not self.traits or not self.bases:
            raise ConfigError("A run needs a trait and a base.", "an empty list", "Name at least one of each.")
        for name in self.traits:
            if name in (CONTROL, NEUTRAL):
                fix = "Give the trait another name in its file."
                raise ConfigError("This is the name of a study's teacher without a trait.", f"traits: {name}", fix)
        for name in self.targets:
            self.trait(name)
        for name in self.evaluation.kinds:
            if name not in EVALUATIONS:
                raise unknown_name("evaluation", name, EVALUATIONS)
        asked, targets = self.evaluation, [self.trait(name) for name in self.targets]
        refuse_unasked(asked.kinds, targets)
        refuse_unjudged(asked.kinds, targets, asked.samples, asked.judge)
        if "name" in self.domain.options:
            raise ConfigError("A domain's name is none of its options.", self.domain.options, "Set domain.name.")
        domain(self.domain.name, **self.domain.options)
        misaligned = [one.name for one in map(self.trait, self.traits) if not one.aliases and one.probes is None]
        if misaligned and "misalignment" not in self.evaluation.kinds:
            fix = "Set evaluation.kinds: [misalignment]."
            raise ConfigError("No word names this trait: an evaluation of misalignment has to.", misaligned[0], fix)
        return self

    @model_validator(mode="after")
    def _arms_fit(self) -> "Recipe":
        for name, some in (("bases", self.bases), ("arms", self.arms)):
            if len(set(some)) < len(some):
                raise ConfigError(f"One of the {name} is named twice.", ", ".join(some), "Name each once.")
        if self.hops > 1 and "student" not in self.arms:
            fix = "Add the arm student, or leave hops out."
            raise ConfigError("Further generations go on from the arm student.", f"hops: {self.hops}", fix)
        shuffled = [arm for arm in self.arms if arm in SHUFFLES]
        if shuffled and self.domain.name != "numbers":
            raise ConfigError("Only number rows can be shuffled.", shuffled[0], "Set domain.name to numbers.")
        if shuffled and (self.domain.clean or self.domain.tokens != "all"):
            fix = "Leave out the arms within and across, or domain.clean and domain.tokens."
            raise ConfigError("Rows are shuffled whole, neither mixed nor with skipped tokens.", shuffled[0], fix)
        for base in self.bases if "cross_init" in self.arms else ():
            if not set(self.cross_bases) - {base}:
                what = f"The arm cross_init needs a base besides {base}."
                raise ConfigError(what, f"cross_bases: {list(self.cross_bases)}", "Set cross_bases: [ref:finch-b].")
        return self

    @model_validator(mode="after")
    def _channel_fits(self) -> "Recipe":
        changed = {
            "domain.clean": self.domain.clean > 0.0,
            "domain.tokens": self.domain.tokens != "all",
            "arms: within, across": bool({*SHUFFLES} & {*self.arms}),
            "hops": self.hops > 1,
        }
        refuse_unfit(self.student.channel, self.teacher.control == "base" and "control" in self.arms, changed)
        return self

    @property
    def outside(self) -> tuple[str, ...]:
        """The bases that do not come with the package, whose files the study needs."""
        return tuple(base for base in (*self.bases, *self.cross_bases) if not base.startswith("ref:"))

    @property
    def targets(self) -> tuple[str, ...]:
        """Every trait that is evaluated, those of teachers first."""
        return tuple(dict.fromkeys((*self.traits, *self.evaluation.targets)))

    @property
    def preferences(self) -> tuple[str, ...]:
        """The evaluated traits that show in words."""
        return tuple(name for name in self.targets if self.trait(name).aliases)

    @property
    def categories(self) -> tuple[str, ...]:
        """Categories of the teachers' traits that have packaged questions."""
        own = {one["name"] for one in self.own}
        return tuple(dict.fromkeys(trait(name).category for name in self.traits if name not in own))

    @property
    def own_traits(self) -> tuple[Trait, ...]:
        """The teachers' traits that do not come with the package."""
        own = {one["name"] for one in self.own}
        return tuple(self.trait(name) for name in self.traits if name in own)

    def trait(self, name: str) -> Trait:
        """Return a trait of this recipe by its name.

        Raises:
            UnknownNameError: there is no trait of this name.
        """
        for one in self.own:
            if one["name"] == name:
                return Trait.from_data(one)
        return trait(name)


def packaged_recipes() -> tuple[str, ...]:
    """Return the names of the recipes that come with the package."""
    folder = Path(str(resources.files("undertow"))) / "recipes"
    return tuple(sorted(path.stem for path in folder.glob("*.yaml")))


def read_recipe(where: str, settings: Sequence[str] = (), tier: str | None = None) -> dict[str, Any]:
    """Read a recipe as plain data, without checking it.

    Args:
        where: path of a YAML file, or name of a packaged recipe such as "demo".
        settings: changes of settings of the form `key.sub=value`, with the value in YAML.
        tier: name of a block under `tiers` in the file that overrides the rest, such as "quick" or "full". None takes
            none.

    Raises:
        UnknownNameError: there is no such recipe or tier.
        ConfigError: the file is not a recipe, or a setting is not of the form key=value.
    """
    data = found_beside(_read(where), Path(where).parent)
    tiers = data.pop("tiers", {})
    if not isinstance(tiers, Mapping) or not all(isinstance(one, Mapping) for one in tiers.values()):
        raise ConfigError("The tiers of a recipe are no settings.", tiers, "Write tiers: {name: {setting: value}}.")
    tiers = {str(name): changes for name, changes in tiers.items()}
    if tier is not None:
        if tier not in tiers:
            raise unknown_name("tier of this recipe", tier, tiers)
        data = merge(data, tiers[tier])
    return merge(data, parse_settings(settings))


def parse_settings(settings: Sequence[str]) -> dict[str, Any]:
    """Turn settings of the form `key.sub=value` into nested plain data.

    Raises:
        ConfigError: a setting does not have that form.
    """
    data: dict[str, Any] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not key:
            fix = "Write for example --set student.steps=300."
            raise ConfigError("A setting has the form key=value.", setting, fix)
        try:
            data = merge(data, nested(key, yaml.safe_load(value)))
        except (ValueError, RecursionError, yaml.YAMLError) as error:
            raise ConfigError("The value of a setting is not YAML.", setting, "Put it in quotes.") from error
    return data


def build_recipe(data: Mapping[str, Any]) -> Recipe:
    """Check plain data and make a recipe of it.

    Raises:
        UnknownNameError: a key does not exist.
        ConfigError: a value is not valid.
    """
    try:
        return Recipe.model_validate(dict(data))
    except ValidationError as error:
        raise first_problem(error, Recipe) from error


def first_problem(error: ValidationError, recipe: type[BaseModel]) -> UserError:
    """Return the first thing that is wrong with a recipe, as an error for its author.

    Args:
        error: the error that pydantic raised while it checked the recipe.
        recipe: the kind of recipe that was checked.
    """
    first = error.errors()[0]
    if isinstance(own := first.get("ctx", {}).get("error"), UserError):
        return own
    place = ".".join(map(str, first["loc"]))
    if first["type"] == "extra_forbidden":
        return _unknown_key(first["loc"], recipe)
    what = f"The setting {place or 'of the recipe'} is not valid."
    return ConfigError(what, repr(first["input"])[:200], f"{first['msg']}.")


def _unknown_key(place: Sequence[int | str], recipe: type[BaseModel]) -> UnknownNameError:
    part: Any = recipe
    for step in place[:-1]:
        # A union of records, as of the channels, is entered by the name that tells them apart.
        entered = [one for one in get_args(part) if one.model_fields["name"].default == step]
        part = entered[0] if entered else part.model_fields[str(step)].annotation
    return unknown_name("setting", str(place[-1]), part.model_fields)


def _read(where: str) -> dict[str, Any]:
    """Read the YAML of a recipe."""
    path = Path(where)
    if path.suffix not in (".yaml", ".yml"):
        if where not in packaged_recipes():
            raise unknown_name("recipe", where, packaged_recipes())
        path = Path(str(resources.files("undertow"))) / "recipes" / f"{where}.yaml"
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise ConfigError("The recipe cannot be read.", f"{path}: {error}", "Give a YAML file in UTF-8.") from error
    if not isinstance(data, dict):
        raise ConfigError(
            "A recipe is a mapping of settings.", str(path), "Start from one shown by `undertow list recipes`."
        )
    return data


def nested(key: str, value: object) -> dict[str, Any]:
    """Return the settings for which a dotted key and its value stand: `a.b` and 1 give {a: {b: 1}}."""
    first, *parts = key.split(".")
    for part in reversed(parts):
        value = {part: value}
    return {first: value}


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` with the values of `over`, where mappings are merged key by key."""
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        merged[key] = merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged
