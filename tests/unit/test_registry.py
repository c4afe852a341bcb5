"""Names of a kind: built in, or from another package, of which a broken one costs nothing but itself."""

import logging
import sys
from pathlib import Path

import pytest

from undertow.errors import UnknownNameError
from undertow.registry import Registry

GROUP = "undertow.shapes"


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Install packages on a temporary path: entry points by name, and the modules' text."""

    def install(points: dict[str, str], **modules: str) -> None:
        folder = tmp_path / f"shapes{len(list(tmp_path.iterdir()))}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {folder.name.partition('-')[0]}\nVersion: 1.0\n"
        )
        lines = [f"[{GROUP}]", *(f"{name} = {value}" for name, value in points.items())]
        (folder / "entry_points.txt").write_text("\n".join(lines) + "\n")
        for name, text in modules.items():
            (tmp_path / f"{name}.py").write_text(text)
            monkeypatch.delitem(sys.modules, name, raising=False)
        monkeypatch.syspath_prepend(tmp_path)

    return install


def shapes(group: str | None = GROUP) -> Registry[object]:
    built_in = {"circle": 1, "root": "math:sqrt", "gone": "undertow.no_such_module:x"}
    return Registry("shape", built_in, group, lambda name, thing: thing != "not a shape")


def test_built_in_things_are_loaded_when_they_are_asked_for() -> None:
    import math

    known = shapes(None)
    assert list(known) == ["circle", "root", "gone"] and len(known) == 3 and "root" in known
    assert (known["circle"], known["root"]) == (1, math.sqrt)
    with pytest.raises(ModuleNotFoundError):
        known["gone"]


def test_an_unknown_name_lists_the_valid_ones() -> None:
    with pytest.raises(UnknownNameError, match="There is no shape of this name") as caught:
        shapes(None)["x"]
    assert caught.value.fix == "Valid names: circle, gone, root."
    with pytest.raises(UnknownNameError, match="Did you mean circle"):
        shapes(None)["circel"]


def test_a_plug_in_works_and_broken_ones_are_named_and_left_out(installed, caplog: pytest.LogCaptureFixture) -> None:
    installed({"square": "good_shapes:square", "circle": "good_shapes:square", "bad": "good_shapes:bad"},
              good_shapes="square, bad = 4, 'not a shape'")  # fmt: skip
    installed(
        {"wedge": "broken_shapes:wedge", "lost": "good_shapes:lost"}, broken_shapes="raise RuntimeError('no luck')"
    )
    known = shapes()
    with caplog.at_level(logging.WARNING, "undertow.registry"):
        assert list(known) == ["circle", "root", "gone", "square"] and len(known) == 4
    assert known["square"] == 4 and known["circle"] == 1 and "wedge" not in known
    told = sorted(record.getMessage() for record in caplog.records)
    assert len(told) == 4
    assert "'bad' of shapes0" in told[0] and "no shape of this name" in told[0]
    assert "'circle' of shapes0" in told[1] and "already" in told[1]
    assert "'wedge' of shapes2 (broken_shapes:wedge): RuntimeError: no luck" in told[3]
    assert "'lost' of shapes2" in told[2]
    with pytest.raises(UnknownNameError, match=r"wedge[\s\S]*circle, gone, root, square"):
        known["wedge"]


def test_built_in_names_do_not_look_at_other_packages(installed, caplog: pytest.LogCaptureFixture) -> None:
    installed({"wedge": "broken_shapes:wedge"}, broken_shapes="raise RuntimeError")
    assert shapes()["circle"] == 1 and "circle" in shapes()
    assert not caplog.records
