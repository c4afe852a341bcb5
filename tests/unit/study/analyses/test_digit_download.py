"""MNIST is fetched from whichever mirror has it right, and never half."""

import gzip
import hashlib
import io
from http.client import IncompleteRead
from pathlib import Path
from urllib.error import URLError

import pytest

from undertow.errors import ArtifactError, StorageError
from undertow.study.analyses import digit_data as digit_download
from undertow.study.analyses.digit_data import CHECKSUMS, FILES, MIRRORS, download_mnist

CONTENT = {name: f"content of {name}".encode() for name in CHECKSUMS}
NAMES = tuple(f"{name}.gz" for name in CHECKSUMS)


class Mirrors:
    """Answers as mirrors would: a mirror's reply is bytes for a file's name, or an error."""

    def __init__(self, replies):
        self.replies, self.asked = replies, []

    def __call__(self, address, timeout):
        assert timeout > 0
        assert address.startswith("https://")
        self.asked.append(address)
        mirror, name = address.rsplit("/", 1)
        found = self.replies[mirror](name)
        if isinstance(found, Exception):
            raise found
        return io.BytesIO(found)


def good(name):
    return gzip.compress(CONTENT[name.removesuffix(".gz")])


def changed(name):
    return gzip.compress(b"another content")


def offline(name):
    return URLError("Name or service not known")


@pytest.fixture(autouse=True)
def checksums(monkeypatch):
    monkeypatch.setattr(
        digit_download, "CHECKSUMS", {name: hashlib.md5(content).hexdigest() for name, content in CONTENT.items()}
    )


@pytest.fixture
def mirrors(monkeypatch):
    def set_replies(*replies):
        opener = Mirrors(dict(zip(MIRRORS, replies, strict=True)))
        monkeypatch.setattr(digit_download, "urlopen", opener)
        return opener

    return set_replies


def test_the_files_are_those_that_the_reader_reads():
    assert set(CHECKSUMS) == {name for name, _ in FILES.values()}


def test_all_four_come_from_the_first_mirror_and_only_once(tmp_path, mirrors):
    opener = mirrors(good, offline)
    folder = tmp_path / "new" / "mnist"
    assert download_mnist(folder) == NAMES
    assert opener.asked == [f"{MIRRORS[0]}/{name}" for name in NAMES]
    assert {path.name: gzip.decompress(path.read_bytes()) for path in folder.iterdir()} == {
        f"{name}.gz": content for name, content in CONTENT.items()
    }
    assert download_mnist(folder) == ()
    assert len(opener.asked) == 4


@pytest.mark.parametrize(
    "first",
    [offline, changed, lambda name: TimeoutError(), lambda name: IncompleteRead(b""), lambda name: good(name)[:-9]],
)
def test_the_second_mirror_serves_where_the_first_fails(tmp_path, mirrors, first):
    opener = mirrors(first, good)
    assert download_mnist(tmp_path) == NAMES
    assert len(opener.asked) == 8


def test_only_what_is_missing_or_wrong_is_fetched(tmp_path, mirrors):
    opener = mirrors(good, good)
    right, plain, wrong = list(CONTENT)[:3]
    (tmp_path / f"{right}.gz").write_bytes(gzip.compress(CONTENT[right], compresslevel=1))
    (tmp_path / plain).write_bytes(CONTENT[plain])
    (tmp_path / f"{wrong}.gz").write_bytes(b"half of an arch")
    assert download_mnist(tmp_path) == (f"{wrong}.gz", NAMES[3])
    assert len(opener.asked) == 2
    assert gzip.decompress((tmp_path / f"{wrong}.gz").read_bytes()) == CONTENT[wrong]


def test_without_a_network_every_mirror_is_named(tmp_path, mirrors):
    mirrors(offline, offline)
    with pytest.raises(StorageError, match=r"train-images-idx3-ubyte\.gz could not be fetched") as caught:
        download_mnist(tmp_path)
    assert all(mirror in caught.value.value for mirror in MIRRORS)
    assert "Name or service not known" in caught.value.value
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("second", [offline, changed, lambda name: b"<html>not found</html>"])
def test_a_wrong_checksum_is_told_and_nothing_is_kept(tmp_path, mirrors, second):
    mirrors(changed, second)
    with pytest.raises(ArtifactError, match="wrong checksum") as caught:
        download_mnist(tmp_path)
    assert digit_download.CHECKSUMS["train-images-idx3-ubyte"] in caught.value.value
    assert not list(tmp_path.iterdir())


def test_what_came_before_a_failure_stays(tmp_path, mirrors):
    def only_first(name):
        return good(name) if name == NAMES[0] else URLError("gone")

    mirrors(only_first, offline)
    with pytest.raises(StorageError, match=NAMES[1]):
        download_mnist(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [NAMES[0]]
    mirrors(good, good)
    assert download_mnist(tmp_path) == NAMES[1:]


def test_a_plain_file_of_another_content_would_hide_the_right_one(tmp_path, mirrors):
    mirrors(good, good)
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(b"mine")
    with pytest.raises(ArtifactError, match="another content"):
        download_mnist(tmp_path)
    assert (tmp_path / "t10k-labels-idx1-ubyte").read_bytes() == b"mine"


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path, mirrors):
    mirrors(good, good)
    (tmp_path / "mnist").write_text("")
    with pytest.raises(StorageError, match="file where a folder"):
        download_mnist(Path(tmp_path / "mnist"))
