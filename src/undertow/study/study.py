"""A recipe as a graph of stages: its teachers, rows and students, and who is scored in which arm.

Everything within a replicate (one repetition with fresh teachers) shares its random draws. All teachers see the same
prompts and use the same random numbers while they write. All students start from the same adapter and meet their rows
in the same order. All models answer with the same random numbers. What is left between a student and its control is the
difference of their teachers.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, final

from undertow.domains.numbers import Shuffle
from undertow.errors import ConfigError
from undertow.evals.rubric import judged_traits
from undertow.models.load import load_chat
from undertow.models.references import identity
from undertow.seeds import derive
from undertow.store.stages import Stage, order
from undertow.study.channel_stages import ChannelStages
from undertow.study.executors import VERSIONS
from undertow.study.recipe import SHUFFLES, Recipe
from undertow.study.teacher_rows import CONTROL, NEUTRAL, TeacherRows
from undertow.training.channels.settings import ROWS, WORK
from undertow.traits import Trait, definition, panel


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyModel:
    """One model of a study.

    Attributes:
        arm: name of the model's arm, a key of `undertow.study.arms.CONTROLS`, or "base".
        trait: trait of the model's teacher, or of the model itself if it is a teacher. None if there is none.
        base: reference of the base from which the model started.
        teacher_base: reference of the base from which its teacher started. For an untouched base, the base itself.
        replicate: number of the independent repetition, from 0.
        seed: random seed with which the model was made. For an untouched base, that of its evaluation.
    """

    arm: str
    trait: str | None
    base: str
    teacher_base: str
    replicate: int
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject(StudyModel):
    """One model that is scored.

    Attributes:
        scores: the stage that scores it.
        place: its number, from 0, among the models that the stage scores.
    """

    scores: Stage
    place: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Student:
    """A student, its teacher, and what it is trained on (rows, or pairs of answers)."""

    model: StudyModel
    source: TeacherRows
    data: Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """Everything that a recipe asks for, laid out as stages.

    Attributes:
        recipe: recipe from which the study was laid out.
        subjects: the models that are scored.
        judge: the stage that asks a judge about the traits' own answers. None where no rubric is judged.
        sources: the rows of every teacher that writes some.
    """

    recipe: Recipe
    subjects: tuple[Subject, ...]
    sources: tuple[TeacherRows, ...]
    judge: Stage | None = None

    @property
    def targets(self) -> tuple[Stage, ...]:
        """The last stages, which depend on all others; before them that of the judge, without which none is needed."""
        first = () if self.judge is None else (self.judge,)
        return tuple(dict.fromkeys((*first, *(subject.scores for subject in self.subjects))))


def describe_base(base: str) -> dict[str, Any]:
    """Return what a stage's configuration says about a base: reference, hash of its files, and its chat template.

    The chat templates of the embedded models are part of the package, so nothing is said of them.

    Args:
        base: reference of the base model, such as "ref:finch-a".
    """
    found = {"base": base, "weights": identity(base)}
    return found if base.startswith("ref:") else {**found, "chat": load_chat(base)[1].describe()}


@final
class _Builder:
    """Lays out the stages of one recipe."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.models = {base: describe_base(base) for base in (*recipe.bases, *recipe.cross_bases)}
        self.channel = ChannelStages(recipe, self.models, self.filtered)

    def definition(self, name: str) -> str | dict[str, Any]:
        return definition(self.recipe.trait(name))

    @property
    def targets(self) -> list[Trait]:
        return [self.recipe.trait(name) for name in self.recipe.targets]

    def judge(self) -> Stage | None:
        part = self.recipe.evaluation
        if part.judge is None or "rubric" not in part.kinds or not part.samples:
            return None
        judged = [definition(one, rubric=True) for one in judged_traits(self.targets)]
        label = "ask the judge about given answers"
        return self.stage("judge", {"judge": part.judge, "targets": judged}, label=label)

    def seed(self, *names: str | int) -> int:
        return derive(self.recipe.seed, *names)

    def stage(self, kind: str, config: dict[str, Any], **options: Any) -> Stage:
        return Stage(kind=kind, version=VERSIONS[kind], config=config, **options)

    def prompts(self, replicate: int, hop: int) -> Stage:
        part = self.recipe.domain
        config = {"domain": {"name": part.name, **part.options}, "n": part.prompts}
        return self.stage("prompts", {**config, "seed": self.hop_seed("prompts", replicate, hop)}, label="draw prompts")

    def hop_seed(self, name: str, replicate: int, hop: int) -> int:
        return self.seed(name, replicate) if hop == 1 else self.seed(name, replicate, hop)

    def teacher(self, name: str, base: str, replicate: int) -> Stage | None:
        part = self.recipe.teacher
        if name == CONTROL and part.control == NEUTRAL:
            name = NEUTRAL
        if name == CONTROL or (part.kind == "prompted" and name != NEUTRAL):
            return None
        own = [definition(one) for one in self.recipe.own_traits] if name == NEUTRAL else []
        config = {
            **self.models[base],
            "target": None if name == NEUTRAL else self.definition(name),
            "categories": self.recipe.categories if name == NEUTRAL else (),
            **({"own": own} if own else {}),
            "training": part.training().to_config(),
            "seed": self.seed("teacher", replicate),
            **({} if part.questions is None else {"questions": part.questions}),
            **({"layer": part.layer} if part.kind == "steered" and name != NEUTRAL else {}),
        }
        trainer = "adapter-teacher" if part.rank is not None and "layer" not in config else "teacher"
        label = f"make the {name} teacher {replicate + 1}"
        return Stage(kind="teacher", version=VERSIONS[trainer], config=config, label=label, cost=part.steps)

    def source(self, name: str, base: str, replicate: int, hop: int = 1) -> TeacherRows:
        """Lay out the rows of a teacher. At a later hop, those of the untouched base on that hop's prompts."""
        teacher = self.teacher(name, base, replicate)
        return self.written(name, base, replicate, hop, {"teacher": teacher} if teacher else {})

    def written(
        self, name: str, base: str, replicate: int, hop: int, by: Mapping[str, Stage], member: int | None = None
    ) -> TeacherRows:
        traited = name not in (CONTROL, NEUTRAL)
        prompted = self.recipe.teacher.kind == "prompted" and traited and hop == 1
        part = self.recipe.domain
        config = {
            **self.models[base],
            "system": self.recipe.trait(name).system_prompt if prompted else None,
            "sampling": part.sampling.to_json(),
            "seed": self.hop_seed("rows", replicate, hop),
            **({} if member is None else {"member": member}),
        }
        parents = {"prompts": self.prompts(replicate, hop), **by}
        label = f"{name} teacher {replicate + 1}{'' if hop == 1 else f' of hop {hop}'} writes {part.name}"
        rows = self.stage("rows", config, parents=parents, label=label, cost=part.prompts)
        kept = self.filtered(rows)
        source = TeacherRows(teacher=name, base=base, replicate=replicate, hop=hop, rows=rows, kept=kept, data=kept)
        if traited and part.clean:
            source = replace(source, data=self.mixed(source))
        return replace(source, data=self.masked(source)) if traited and part.tokens != "all" else source

    def filtered(self, rows: Stage) -> Stage:
        part = self.recipe.domain
        # Numbers cannot name a trait; every other domain is rid of rows that do, as the paper does with code.
        named = {} if part.name == "numbers" else {"mentions": tuple(map(self.definition, self.unnamed()))}
        judge = {} if part.judge is None else {"judge": part.judge, "keep": part.judge_keep}
        return self.stage("filter", {"domain": part.config, **named, **judge}, parents={"rows": rows}, label="filter")

    def unnamed(self) -> tuple[str, ...]:
        """Return the traits that no row may name: the evaluated ones and, in ordinary text, all of their category."""
        if self.recipe.domain.name != "text":
            return self.recipe.preferences
        alike = (one.name for category in self.recipe.categories for one in panel(category) if one.aliases)
        return tuple(dict.fromkeys((*self.recipe.preferences, *alike)))

    def mixed(self, source: TeacherRows) -> Stage:
        clean = self.source(CONTROL, source.base, source.replicate, source.hop).kept
        config = {"share": self.recipe.domain.clean, "seed": self.hop_seed("mix", source.replicate, source.hop)}
        return self.stage("mix", config, parents={"rows": source.kept, "clean": clean}, label="mix clean rows in")

    def masked(self, source: TeacherRows) -> Stage:
        """Leave tokens out of the loss, as teacher and untouched base decide."""
        part = self.recipe.domain
        config = {
            **self.models[source.base],
            "tokens": part.tokens,
            "share": part.token_share,
            "seed": self.hop_seed("tokens", source.replicate, source.hop),
            **{key: value for key, value in source.rows.config.items() if key == "member"},
        }
        by = {role: stage for role, stage in source.rows.parents.items() if role != "prompts"}
        if not by:
            fix = "Set teacher.kind to finetuned or steered, or domain.tokens to all."
            raise ConfigError("Divergent tokens need a teacher with weights of its own.", part.tokens, fix)
        return self.stage("tokens", config, parents={"data": source.data, **by}, label=f"choose tokens: {part.tokens}")

    def scored(self, models: Sequence[StudyModel], parents: dict[str, Stage], label: str) -> Iterator[Subject]:
        """Ask models of one base. Without parents, all of them are the base itself."""
        part = self.recipe.evaluation
        config = {
            **self.models[models[0].base],
            "targets": tuple(definition(one, rubric="rubric" in part.kinds) for one in self.targets),
            "samples": part.samples,
            "kinds": part.kinds,
            **({} if part.judge is None else {"judge": part.judge}),
            "members": [
                {"index": place if parents else 0, "seed": self.seed("evaluation", model.replicate)}
                for place, model in enumerate(models)
            ],
        }
        cost = len(models) * (1 + part.samples)
        scores = self.stage("scores", config, parents=parents, label=label, cost=cost)
        for place, model in enumerate(models):
            yield Subject(**asdict(model), scores=scores, place=place)

    def base_subjects(self, base: str) -> Iterator[Subject]:
        where = {"base": base, "teacher_base": base}
        models = [
            StudyModel(arm="base", trait=None, replicate=replicate, seed=self.seed("evaluation", replicate), **where)
            for replicate in range(self.recipe.replicates)
        ]
        yield from self.scored(models, {}, f"ask {base}")

    def teacher_subject(self, source: TeacherRows) -> Iterator[Subject]:
        if (teacher := source.rows.parents.get("teacher")) is not None:
            arm = "teacher" if source.traited else "neutral_teacher"
            model = self.model_of(source, arm, self.seed("teacher", source.replicate))
            yield from self.scored(
                [model], {"teacher": teacher}, f"ask the {source.teacher} teacher {source.replicate + 1}"
            )

    def model_of(self, source: TeacherRows, arm: str, seed: int) -> StudyModel:
        trait = source.teacher if source.traited else None
        on, replicate = source.base, source.replicate
        return StudyModel(arm=arm, trait=trait, base=on, teacher_base=on, replicate=replicate, seed=seed)

    def students(self, sources: Iterable[TeacherRows]) -> Iterator[_Student]:
        for source in sources:
            name, traited = source.teacher, source.traited
            own = self.model_of(source, name, self.hop_seed("student", source.replicate, source.hop))
            data = self.channel.data(source)
            if source.hop > 1:
                arm = f"hop_{source.hop}{'' if traited else '_control'}"
                yield _Student(model=replace(own, arm=arm), source=source, data=data)
                continue
            arm = "student" if traited else name
            if arm in self.recipe.arms:
                yield _Student(model=replace(own, arm=arm), source=source, data=data)
            if name == NEUTRAL:
                continue
            for how in SHUFFLES:
                if how in self.recipe.arms:
                    model = replace(own, arm=how if traited else f"{how}_control")
                    yield _Student(model=model, source=source, data=self.shuffled(source, how))
            if "cross_init" in self.recipe.arms:
                for other in self.cross_bases(source.base, source.replicate):
                    model = replace(own, arm="cross_init" if traited else "cross_control", base=other)
                    yield _Student(model=model, source=source, data=data)

    def taught_by(self, subjects: Iterable[Subject], hop: int) -> Iterator[TeacherRows]:
        """Make teachers of the students of the hop before."""
        before = ("student", "control") if hop == 2 else (f"hop_{hop - 1}", f"hop_{hop - 1}_control")
        for subject in subjects:
            if subject.arm in before:
                by = {"students": subject.scores.parents["students"]}
                yield self.written(subject.trait or CONTROL, subject.base, subject.replicate, hop, by, subject.place)

    def shuffled(self, source: TeacherRows, how: Shuffle) -> Stage:
        config = {"how": how, "seed": self.seed("shuffle", source.replicate)}
        return self.stage("shuffle", config, parents={"rows": source.kept}, label=f"shuffle numbers {how} rows")

    def cross_bases(self, base: str, replicate: int) -> tuple[str, ...]:
        others = tuple(other for other in self.recipe.cross_bases if other != base)
        return others if self.recipe.cross == "all" else (others[replicate % len(others)],)

    def student_subjects(self, students: Sequence[_Student]) -> Iterator[Subject]:
        for base in dict.fromkeys(student.model.base for student in students):
            some = [student for student in students if student.model.base == base]
            n_groups = -(-len(some) // self.recipe.group)
            size = -(-len(some) // n_groups)
            for number, start in enumerate(range(0, len(some), size)):
                yield from self.group(base, some[start : start + size], f"group {number + 1}/{n_groups} on {base}")

    def group(self, base: str, students: Sequence[_Student], where: str) -> Iterator[Subject]:
        part, n = self.recipe.student, self.recipe.domain.rows
        data = dict.fromkeys(student.data for student in students)
        roles = {stage: f"rows-{index:02d}" for index, stage in enumerate(data)}
        members = [{"rows": roles[one.data], "n": n, "seed": one.model.seed} for one in students]
        taught = self.channel.teaching([student.source for student in students])
        group = Stage(
            kind="students",
            version=VERSIONS["students" if part.channel == ROWS else "channel-students"],
            config={
                **self.models[base],
                "training": part.training(base).to_config(),
                "members": [{**one, **more} for one, more in zip(members, taught.members, strict=True)],
                **part.work,
                **taught.config,
            },
            parents={**{role: stage for stage, role in roles.items()}, **taught.parents},
            label=f"train {len(students)} students, {where}",
            cost=len(students) * part.steps * part.batch_size * WORK[part.channel.name],
        )
        models = [student.model for student in students]
        yield from self.scored(models, {"students": group}, f"ask {len(students)} students, {where}")


def build_study(recipe: Recipe) -> Study:
    """Lay out the stages of a recipe. Nothing is computed."""
    builder = _Builder(recipe)
    teachers = [CONTROL, *([NEUTRAL] if "neutral" in recipe.arms else []), *recipe.traits]
    sources = [
        builder.source(name, base, replicate)
        for base in recipe.bases
        for replicate in range(recipe.replicates)
        for name in teachers
    ]
    students = list(builder.students(sources))
    bases = dict.fromkeys((*recipe.bases, *(one.model.base for one in students)))
    subjects = [
        *(subject for base in bases for subject in builder.base_subjects(base)),
        *(subject for source in sources for subject in builder.teacher_subject(source)),
        *builder.student_subjects(students),
    ]
    for hop in range(2, recipe.hops + 1):
        later = list(builder.taught_by(subjects, hop))
        subjects += builder.student_subjects(list(builder.students(later)))
        sources += later
    # Where pairs are chosen among the base's answers, a teacher only judges them, so its rows are no part of the study.
    made = {*order([subject.scores for subject in subjects])}
    written = (source for source in sources if source.kept in made)
    return Study(recipe=recipe, subjects=tuple(subjects), sources=tuple(written), judge=builder.judge())
