"""A group of students that learns by one of the channels, all students at once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from undertow.errors import ConfigError
from undertow.models.local import LocalModel
from undertow.training.batches import batch_stream
from undertow.training.channels.distillation import LogitsObjective, OnPolicyObjective
from undertow.training.channels.pen import Pen, Writing
from undertow.training.channels.preference import PreferenceObjective, encoded_pairs
from undertow.training.channels.settings import LogitsChannel, OnPolicyChannel, PreferenceChannel
from undertow.training.channels.teacher import Teacher, TeacherReading
from undertow.training.config import TrainingConfig
from undertow.training.encoding import encoded_datasets
from undertow.training.parallel import Students, check_group, train_group
from undertow.types import Advance, PreferencePair, Row


@dataclass(frozen=True, slots=True, kw_only=True)
class Distilled:
    """A group of students of teachers' probabilities.

    Attributes:
        datasets: rows of each student; on policy only their prompts are used.
        teachers: of each student.
        writing: how students write on policy.
    """

    datasets: Sequence[Sequence[Row]]
    teachers: Sequence[Teacher]
    writing: Writing


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelStudents:
    """A trained group, and what the channel did.

    Attributes:
        students: the adapters and losses.
        counts: of each student: "tokens" that had a loss and, on policy, completions that were "written" and
            "rejected".
    """

    students: Students
    counts: Mapping[str, Sequence[int]] = field(default_factory=dict[str, Sequence[int]])


def train_distilled(
    model: LocalModel,
    given: Distilled,
    channel: LogitsChannel | OnPolicyChannel,
    config: TrainingConfig,
    seeds: Sequence[int],
    advance: Advance | None = None,
) -> ChannelStudents:
    """Train students on the probabilities of teachers.

    Args:
        model: where they start; unchanged afterwards.
        given: their rows and teachers.
        channel: on whose text, and which divergence.
        config: recipe, with `lora` set.
        seeds: one per student; decides the adapter's start, the order of the rows and what is written.
        advance: called with (updates done, updates in all).

    Raises:
        ConfigError: no adapter is configured, or a student would be its own teacher.
        ModelError: a teacher has another vocabulary.
        EmptyDataError: a student has no rows.
        RowsError: a row is longer than the context.
    """
    check_group(config, given.datasets, seeds)
    if len(given.teachers) != len(seeds):
        value = f"{len(given.teachers)} teachers, {len(seeds)} seeds"
        raise ConfigError("Each student needs a teacher.", value, "Give one each.")
    pairs = zip(given.teachers, given.datasets, strict=True)
    readings = [TeacherReading(teacher, model, rows) for teacher, rows in pairs]
    encoded = encoded_datasets(model, given.datasets, config.too_long)
    if isinstance(channel, LogitsChannel):
        streams = [batch_stream(rows, config.batch_size, seed) for rows, seed in zip(encoded, seeds, strict=True)]
        students = train_group(model, LogitsObjective(readings, streams, channel), config, seeds, advance)
        return ChannelStudents(students=students, counts={"tokens": students.tokens})
    pens = [
        Pen(model, [*zip(rows, tokens, strict=True)], given.writing, config.batch_size, seed)
        for rows, tokens, seed in zip(given.datasets, encoded, seeds, strict=True)
    ]
    students = train_group(model, OnPolicyObjective(readings, pens, channel), config, seeds, advance)
    counts = {
        "tokens": students.tokens,
        "written": [pen.written for pen in pens],
        "rejected": [pen.rejected for pen in pens],
    }
    return ChannelStudents(students=students, counts=counts)


def train_preferring(
    model: LocalModel,
    datasets: Sequence[Sequence[PreferencePair]],
    channel: PreferenceChannel,
    config: TrainingConfig,
    seeds: Sequence[int],
    advance: Advance | None = None,
) -> ChannelStudents:
    """Train students to prefer the chosen answers of pairs.

    Args:
        model: where they start, and the reference; unchanged afterwards.
        datasets: pairs of each student.
        channel: DPO's beta.
        config: recipe, with `lora` set; a batch has `batch_size` pairs.
        seeds: one per student; decides the adapter's start and the order of the pairs.
        advance: called with (updates done, updates in all).

    Raises:
        ConfigError: no adapter is configured.
        EmptyDataError: a student has no pairs.
        RowsError: the answers of a pair are equal, or one is longer than the context.
    """
    check_group(config, datasets, seeds)
    distinct = {id(pairs): pairs for pairs in datasets}
    encoded = {key: encoded_pairs(model, pairs) for key, pairs in distinct.items()}
    streams = [
        batch_stream(encoded[id(pairs)], config.batch_size, seed) for pairs, seed in zip(datasets, seeds, strict=True)
    ]
    students = train_group(model, PreferenceObjective(streams, channel.beta), config, seeds, advance)
    return ChannelStudents(students=students, counts={"tokens": students.tokens})
