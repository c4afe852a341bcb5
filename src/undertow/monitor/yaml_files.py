"""Files that an operator writes: rules, constitutions and settings of detectors, read by the safe loader."""

from pathlib import Path
from typing import Any

import yaml

from undertow.errors import ConfigError


def read_yaml(path: Path, what: str) -> Any:
    """Return what a YAML file holds.

    Args:
        path: of the file.
        what: it is, for the message.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise ConfigError(f"{what} cannot be read ({reason}).", path, "Correct the file.") from error
