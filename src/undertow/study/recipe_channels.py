"""Which settings of a recipe do not go with the channel by which its students learn."""

from collections.abc import Mapping

from undertow.errors import ConfigError
from undertow.training.channels.settings import ROWS, Channel, Distilling, LogitsChannel


def refuse_unfit(channel: Channel, taught_by_base: bool, rows_changed: Mapping[str, bool]) -> None:
    """Refuse settings that mean nothing in the recipe's channel.

    Args:
        channel: settings of the students' channel.
        taught_by_base: whether the recipe has controls that the untouched base teaches.
        rows_changed: for each setting that changes what a row teaches, whether it is set.

    Raises:
        ConfigError: a control would be its own teacher, or a setting changes rows of which the channel does not learn.
    """
    if channel == ROWS:
        return
    if isinstance(channel, Distilling) and taught_by_base:
        what = f"By the channel {channel.name} a control that the untouched base teaches would be its own teacher."
        raise ConfigError(what, "teacher.control: base", "Set teacher.control: neutral.")
    # Probabilities are learnt on rows as they are: mixed ones and left-out tokens mean there what they mean for rows.
    learnt = ("domain.clean", "domain.tokens") if isinstance(channel, LogitsChannel) else ()
    if found := [name for name, is_set in rows_changed.items() if is_set and name not in learnt]:
        what = f"The channel {channel.name} does not go with this setting."
        raise ConfigError(what, found[0], "Leave it out, or use the channel rows.")
