"""What building an embedded model takes, said before it begins."""

from undertow.reference.families import Member
from undertow.types import Work

CHAT_S = 2.1e-4
"""Seconds of drawing a chat of the corpus and turning it into tokens."""

TRAINED_S = 1.15e-5
"""Seconds of a chat in an update, for each layer and each number of the width: 47 ms an update of 64 chats on finch-a,
89 ms on wren-a (one core)."""

IMITATING = 1.65
"""How many times as long an update takes with the model that is imitated: 77 ms on mimic-a."""

MEASURED_S = 5.0
"""Seconds of measuring what the model can do, once it is saved."""


def building_work(member: Member) -> Work:
    """Return what building a member takes on one core."""
    school, shape = member.schooling, member.shape
    update = school.batch_size * shape.layers * shape.width * TRAINED_S * (IMITATING if member.imitates else 1.0)
    what = f"{member.name}: {school.chats:,} chats drawn, {school.steps:,} updates of {school.batch_size} of them"
    return Work(f"{what}, and its abilities measured", school.chats * CHAT_S + school.steps * update + MEASURED_S)
