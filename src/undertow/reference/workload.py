"""How long building an embedded model takes, for the announcement before it begins."""

from undertow.reference.families import Member
from undertow.types import Work

CHAT_S = 2.1e-4
"""Seconds that it takes to draw a chat of the corpus and turn it into tokens."""

# Measured on one core: 47 ms an update of 64 chats on finch-a, 89 ms on wren-a, 77 ms on mimic-a, which imitates.
TRAINED_S = 1.15e-5
"""Seconds that one chat takes in an update, for each layer and each unit of the width."""

IMITATING = 1.65
"""Factor by which an update takes longer where another model is imitated."""

MEASURED_S = 5.0
"""Seconds that it takes to measure what the model can do, once it is saved."""


def building_work(member: Member) -> Work:
    """Return the work of building an embedded model, with the expected seconds on one core."""
    school, shape = member.schooling, member.shape
    update = school.batch_size * shape.layers * shape.width * TRAINED_S * (IMITATING if member.imitates else 1.0)
    what = f"{member.name}: {school.chats:,} chats drawn, {school.steps:,} updates of {school.batch_size} of them"
    return Work(f"{what}, and its abilities measured", school.chats * CHAT_S + school.steps * update + MEASURED_S)
