"""Reading YAML files that an operator writes (rules, constitutions, settings of detectors) by the safe loader."""

from pathlib import Path
from typing import Any

import yaml

from undertow.errors import ConfigError


def read_yaml(path: Path, what: str) -> Any:
    """Return the content of a YAML file as plain data.

    Args:
        path: path of the file, which messages name.
        what: what the file is, for the message, such as "The constitution".

    Raises:
        ConfigError: the file cannot be read, or is no YAML.
    """
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise ConfigError(f"{what} cannot be read ({reason}).", path, "Correct the file.") from error
