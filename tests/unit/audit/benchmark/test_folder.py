"""A benchmark is whole or not there, gives nothing away, and its key is the one that was promised."""

import hashlib
import json

import pytest

from undertow.audit.benchmark.files import read_benchmark, read_key, write_benchmark
from undertow.errors import ConfigError, RowsError


def test_what_is_written_is_read_back(bench, truths) -> None:
    again = read_benchmark(bench.folder)
    assert again == bench and again.ids == tuple(truths) and again.rows == 40
    assert read_key(again) == truths
    assert len(again.reference()) == 80
    assert [row.id for row in again.case("case-0003")] == [f"{i:06d}" for i in range(40)]


def test_what_everyone_sees_does_not_hold_the_key(bench) -> None:
    public = (bench.folder / "cases.json").read_text()
    for word in ("seed", "trait", "dose", "label", "writer", "finetuned", "shift"):
        assert word not in public
    for name in bench.ids:
        lines = (bench.folder / "cases" / f"{name}.jsonl").read_text().splitlines()
        assert len(lines) == 40 and {tuple(json.loads(line)) for line in lines} == {("id", "prompt", "completion")}


def test_a_key_may_lie_elsewhere_and_may_not_be_changed(bench, truths, tmp_path) -> None:
    key = tmp_path / "published.json"
    (bench.folder / "truth.json").rename(key)
    with pytest.raises(ConfigError, match="no key"):
        read_key(bench)
    assert read_key(bench, key) == truths
    assert hashlib.sha256(key.read_bytes()).hexdigest() == bench.key_sha256
    key.write_text(key.read_text().replace('"lion"', '"fox"'))
    with pytest.raises(ConfigError, match="not the key of this benchmark") as error:
        read_key(bench, key)
    assert bench.key_sha256 in error.value.fix


def test_a_folder_that_holds_something_is_never_changed(bench, truths) -> None:
    before = {path: path.read_bytes() for path in bench.folder.rglob("*.json*")}
    with pytest.raises(ConfigError, match="not empty"):
        write_benchmark(bench.folder, {}, (), 0, {})
    assert {path: path.read_bytes() for path in bench.folder.rglob("*.json*")} == before


def test_a_fault_leaves_no_half_of_it(bench, truths, tmp_path) -> None:
    twice = [bench.case("case-0000")[0]] * 2
    with pytest.raises(RowsError):
        write_benchmark(tmp_path / "new", {"case-0000": (truths["case-0000"], twice)}, (), 0, {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bench"]


def test_another_folder_is_no_benchmark(tmp_path) -> None:
    with pytest.raises(ConfigError, match="no benchmark in this folder"):
        read_benchmark(tmp_path)
    (tmp_path / "cases.json").write_text('{"schema": "undertow.bench/0"}')
    with pytest.raises(ConfigError, match="no benchmark in this folder") as error:
        read_benchmark(tmp_path)
    assert "undertow.bench/1" in error.value.value
