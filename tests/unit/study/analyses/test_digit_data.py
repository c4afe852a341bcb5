import gzip

import numpy as np
import pytest

from undertow.errors import ArtifactError, ConfigError, StorageError
from undertow.study.analyses import digit_data
from undertow.study.analyses.digit_data import FILES, Digits, digits_identity, drawn_digits, load_digits, read_idx


def idx(array):
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return bytes((0, 0, 8, array.ndim)) + sizes + array.tobytes()


@pytest.fixture
def parts():
    rng = np.random.default_rng(0)
    counts = {"train": 5, "test": 3}
    images = {f"{part}_images": rng.integers(0, 256, (n, 28, 28), dtype=np.uint8) for part, n in counts.items()}
    return images | {f"{part}_labels": np.arange(n, dtype=np.uint8) for part, n in counts.items()}


@pytest.fixture
def folder(tmp_path, parts):
    for part, (name, _) in FILES.items():
        (tmp_path / name).write_bytes(idx(parts[part]))
    return tmp_path


def test_reads_plain_and_compressed_files(folder, parts):
    path = folder / FILES["test_images"][0]
    path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    data = read_idx(folder)
    for part, expected in parts.items():
        np.testing.assert_array_equal(getattr(data, part), expected)
        assert getattr(data, part).flags.writeable


def test_a_missing_file_is_named(folder):
    (folder / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(StorageError, match="t10k-labels-idx1-ubyte") as caught:
        read_idx(folder)
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize("cut", [-1, 17, 9])
def test_a_truncated_file_is_named_with_the_length(folder, cut):
    path = folder / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ArtifactError, match=r"train-images-idx3-ubyte has the wrong length\.(.|\n)*expected") as caught:
        read_idx(folder)
    assert "3936" in caught.value.value or "at least 16" in caught.value.value


def test_a_longer_file_is_refused(folder):
    path = folder / "train-labels-idx1-ubyte"
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(ArtifactError, match="14 bytes, expected 13"):
        read_idx(folder)


def test_a_wrong_magic_number_is_shown(folder):
    labels = folder / "train-labels-idx1-ubyte"
    labels.write_bytes((folder / "train-images-idx3-ubyte").read_bytes())
    with pytest.raises(ArtifactError, match="starts with 00000803, expected 00000801"):
        read_idx(folder)


@pytest.mark.parametrize("damage", [lambda content: content[:-12], lambda content: b"plain text"])
def test_a_broken_archive_is_named(folder, damage):
    path = folder / "train-labels-idx1-ubyte"
    (folder / f"{path.name}.gz").write_bytes(damage(gzip.compress(path.read_bytes())))
    path.unlink()
    with pytest.raises(ArtifactError, match=r"train-labels-idx1-ubyte\.gz cannot be decompressed"):
        read_idx(folder)


def test_counts_must_agree(folder, parts):
    (folder / "train-labels-idx1-ubyte").write_bytes(idx(parts["train_labels"][:4]))
    with pytest.raises(ArtifactError, match="5 and 4"):
        read_idx(folder)


@pytest.mark.parametrize(
    "change",
    [
        {"train_images": np.zeros((5, 20, 20), np.uint8)},
        {"test_images": np.zeros((0, 28, 28), np.uint8), "test_labels": np.zeros(0, np.uint8)},
        {"test_labels": np.array([1, 2, 10], np.uint8)},
    ],
)
def test_records_are_checked(parts, change):
    with pytest.raises(ConfigError):
        Digits(**(parts | change))


def test_drawn_digits_depend_on_the_seed_alone():
    first, again, other = (drawn_digits(40, seed, n_test=20) for seed in (3, 3, 4))
    for part in FILES:
        np.testing.assert_array_equal(getattr(first, part), getattr(again, part))
    assert (first.train_images != other.train_images).any()
    assert first.train_images.shape == (40, 28, 28)
    assert first.test_images.shape == (20, 28, 28)


def test_drawn_digits_show_ink_on_an_empty_border():
    data = drawn_digits(500, 1, n_test=1)
    assert set(data.train_labels) == set(range(10))
    ink = data.train_images.reshape(500, -1).mean(axis=1) / 255
    assert 0.02 < ink.min() < ink.max() < 0.45
    border = np.concatenate([data.train_images[:, :1].ravel(), data.train_images[:, -1:].ravel()])
    assert border.mean() < 5


def test_a_nearest_mean_reads_drawn_digits_far_above_chance_but_with_errors():
    data = drawn_digits(1500, 2, n_test=500)
    train, test = (images.reshape(len(images), -1) / 255 for images in (data.train_images, data.test_images))
    means = np.stack([train[data.train_labels == digit].mean(axis=0) for digit in range(10)])
    guesses = ((test[:, None] - means) ** 2).sum(axis=2).argmin(axis=1)
    assert 0.4 < (guesses == data.test_labels).mean() < 0.95


@pytest.mark.parametrize("arguments", [{"n": 0}, {"n": 5, "n_test": 0}])
def test_no_pictures_are_refused(arguments):
    with pytest.raises(ConfigError):
        drawn_digits(seed=0, **arguments)


def test_digits_come_from_a_folder_or_are_drawn(folder, parts, monkeypatch):
    monkeypatch.setattr(digit_data, "DRAWN_IMAGES", 30)
    np.testing.assert_array_equal(load_digits(str(folder), 0).train_images, parts["train_images"])
    drawn = load_digits(None, 4)
    np.testing.assert_array_equal(drawn.train_images, drawn_digits(30, 4).train_images)


def test_the_identity_is_that_of_the_content(folder, tmp_path_factory):
    before = digits_identity(str(folder))
    assert len(before) == 20
    other = tmp_path_factory.mktemp("packed")
    for path in folder.iterdir():
        (other / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
    assert digits_identity(str(other)) == before
    labels = folder / "t10k-labels-idx1-ubyte"
    labels.write_bytes(labels.read_bytes()[:-1] + b"\x09")
    assert digits_identity(str(folder)) != before
    assert digits_identity(None) is None


@pytest.mark.parametrize("read", [lambda source: load_digits(source, 0), digits_identity])
@pytest.mark.parametrize("name", ["nowhere", "train-labels-idx1-ubyte"])
def test_a_source_that_is_no_folder_is_refused(folder, read, name):
    with pytest.raises(StorageError, match="no folder of digits") as caught:
        read(str(folder / name))
    assert name in caught.value.value
