"""Commands that are shown can be pasted, and name no file that is there."""

import shlex
from pathlib import Path

from undertow.cli.options import free_name, quoted


def test_a_free_name_is_the_name_itself_or_a_numbered_one_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "kept.jsonl"
    assert free_name(path) == path
    path.touch()
    (tmp_path / "kept-2.jsonl").symlink_to(tmp_path / "nowhere")
    assert free_name(path) == tmp_path / "kept-3.jsonl"


def test_a_quoted_path_is_one_word() -> None:
    assert quoted(Path("rows.jsonl")) == "rows.jsonl"
    assert shlex.split(quoted("my rows?ids=new.jsonl")) == ["my rows?ids=new.jsonl"]
