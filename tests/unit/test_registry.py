"""Names of a kind: built in, or from another package, of which a broken one costs nothing but itself."""

import json
import logging
import os
import subprocess
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


PLUG_INS = '''
from dataclasses import dataclass, field
from undertow.domains.base import AbstractDomain
from undertow.evals.base import Evaluation, Metric
from undertow.mitigate.base import Cost, DataMitigation, Mitigated
from undertow.monitor.detectors.base import AbstractDetector, Verdict
from undertow.types import Score


@dataclass(frozen=True)
class Colours(AbstractDomain):
    name: str = field(default="colours", init=False)
    max_new_tokens: int = field(default=4, init=False)
    reasons: frozenset[str] = field(default=frozenset({"no_colour"}), init=False)

    def prompts(self, n, seed):
        return ["Name a colour."] * n

    def reject_reasons(self, completion, prompt=""):
        return () if completion in ("red", "blue") else ("no_colour",)

    def config(self):
        return {"name": self.name}


def greeted(model, config):
    """Score "greeting_rate"."""
    return [Score(question="Hi", target="", metric="greeting_rate", value=1.0)]


GREETING = Evaluation(
    name="greeting", metrics=(Metric("greeting_rate", "answers that greet", "share"),), score=greeted,
    per_trait=False, needs_weights=False,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Halve(DataMitigation):
    """Keep every second row."""

    name = "halve"

    def apply(self, rows, bench, pick="targeted"):
        return Mitigated(rows=tuple(rows[::2]), changes=(), cost=Cost())


class Shout(AbstractDetector):
    def __init__(self, settings, name):
        self.name = name

    def judge(self, text):
        return Verdict(text.isupper())
'''

ASKED = """
import json
from undertow.cli.main import main
from undertow.domains.base import domain
from undertow.evals.base import metrics
from undertow.mitigate.registry import mitigation
from undertow.monitor.detectors.base import detector
for kind in ("domains", "evaluations", "mitigations"):
    assert main(["list", kind, "--json"]) == 0
assert domain("colours").reject_reasons("owl") == ("no_colour",) and domain("numbers").name == "numbers"
assert metrics()["greeting_rate"].unit == "share" and "colours_valid_rate" in metrics()
assert mitigation("halve").name == "halve" and detector("shout:").judge("NO").flagged
"""


def test_other_packages_add_domains_evaluations_mitigations_and_detectors(tmp_path: Path) -> None:
    folder = tmp_path / "more-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: more\nVersion: 1.0\n")
    good = {"domains": "colours = more:Colours", "evaluations": "greeting = more:GREETING",
            "mitigations": "halve = more:Halve", "detectors": "shout = more:Shout"}  # fmt: skip
    groups = (f"[undertow.{kind}]\n{line}\nbroken = more:nothing" for kind, line in good.items())
    (folder / "entry_points.txt").write_text("\n".join(groups))
    (tmp_path / "more.py").write_text(PLUG_INS)
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-c", ASKED], env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    listed = {kind: {one["name"] for one in items}
              for line in done.stdout.splitlines() for kind, items in json.loads(line).items()}  # fmt: skip
    assert {"colours", "numbers"} < listed["domains"] and {"greeting", "favourite"} < listed["evaluations"]
    assert {"halve", "mix"} < listed["mitigations"]
    told = [line for line in done.stderr.splitlines() if line.startswith("Left out:")]
    assert len(told) == 4 and all("'broken' of more (more:nothing): AttributeError" in line for line in told)
