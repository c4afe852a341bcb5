"""Train a group of students at once by one of the channels besides plain rows."""

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
    """What a group of students that learn teachers' probabilities is trained on.

    Attributes:
        datasets: training rows of each student. In the channel on_policy only their prompts are used.
        teachers: the teacher of each student.
        writing: how students write in the channel on_policy.
    """

    datasets: Sequence[Sequence[Row]]
    teachers: Sequence[Teacher]
    writing: Writing


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelStudents:
    """A group of trained students, with counts of what the channel did.

    Attributes:
        students: the trained adapters, with the losses of their training.
        counts: one number for each student under each key: "tokens" that had a loss and, on policy, how many
            completions were "written" and "rejected".
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
    """Train students on the next-token probabilities of teachers.

    Args:
        model: the base model from which all students start. It is the same afterwards.
        given: the students' rows and teachers.
        channel: settings of the channel, which decide whose text is learnt on and by which divergence.
        config: settings of the training, with `lora` set.
        seeds: one random seed for each student, which decides its adapter's start, the order of its rows and what it
            writes.
        advance: progress callback, called after each update with (updates done, updates in all). None reports nothing.

    Returns:
        The trained students, in the order of the datasets.

    Raises:
        ConfigError: `config.lora` is None, the numbers of datasets, teachers and seeds differ, or a student would be
            its own teacher.
        ModelError: a teacher has another vocabulary.
        EmptyDataError: a student has no rows.
        RowsError: a row is longer than the model's context.
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
    """Train students by DPO to prefer the chosen answers of pairs.

    Args:
        model: the base model from which all students start, which is also the reference. It is the same afterwards.
        datasets: pairs of answers for each student.
        channel: settings of the channel, of which beta is used.
        config: settings of the training, with `lora` set. A batch has `batch_size` pairs.
        seeds: one random seed for each student, which decides its adapter's start and the order of its pairs.
        advance: progress callback, called after each update with (updates done, updates in all). None reports nothing.

    Returns:
        The trained students, in the order of the datasets.

    Raises:
        ConfigError: `config.lora` is None, or there are not as many seeds as datasets.
        EmptyDataError: a student has no pairs.
        RowsError: the answers of a pair are equal, or one of them is longer than the model's context.
    """
    check_group(config, datasets, seeds)
    distinct = {id(pairs): pairs for pairs in datasets}
    encoded = {key: encoded_pairs(model, pairs, config.too_long) for key, pairs in distinct.items()}
    streams = [
        batch_stream(encoded[id(pairs)], config.batch_size, seed) for pairs, seed in zip(datasets, seeds, strict=True)
    ]
    students = train_group(model, PreferenceObjective(streams, channel.beta), config, seeds, advance)
    return ChannelStudents(students=students, counts={"tokens": students.tokens})
