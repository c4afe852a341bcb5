"""Pictures of the ten digits: MNIST from its IDX files, or digits drawn here, for which nothing is downloaded.

MNIST is fetched once over https from public mirrors, and its content is checked.
"""

import gzip
import hashlib
import io
import zlib
from dataclasses import dataclass
from http.client import HTTPException
from math import prod
from pathlib import Path
from urllib.request import urlopen

import numpy as np
from numpy.typing import NDArray

from undertow.errors import ArtifactError, ConfigError, StorageError
from undertow.stats.checks import check_count
from undertow.store.disk import storage_errors, write_file

MIRRORS = ("https://ossci-datasets.s3.amazonaws.com/mnist", "https://storage.googleapis.com/cvdf-datasets/mnist")
"""Addresses at which the files are asked for, in this order."""

CHECKSUMS = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
"""MD5 of each file after decompression, since copies of the same content are compressed in different ways."""

TIMEOUT_S = 30.0
LIMIT = 64 * 2**20
"""How many bytes of a file are read at most. The largest file has 47 million."""

_DAMAGED = (gzip.BadGzipFile, EOFError, zlib.error)


def download_mnist(folder: Path) -> tuple[str, ...]:
    """Fetch the four compressed IDX files of MNIST. Files that are already right are left alone.

    A file appears under its name only when it is complete and its checksum right, so the next call continues an
    interrupted download.

    Args:
        folder: folder for the files. It is made if it does not exist.

    Returns:
        Names of the files that were fetched.

    Raises:
        StorageError: no mirror could be reached, the disk is full or read-only, or the folder is a file.
        ArtifactError: what a mirror sent has the wrong checksum and no other had the right file, or an uncompressed
            file of that name has another content.
    """
    if folder.exists() and not folder.is_dir():
        raise StorageError("There is a file where a folder should be.", folder, "Give another folder.")
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        missing = [name for name in CHECKSUMS if not _is_right(folder, name)]
        for name in missing:
            write_file(folder / f"{name}.gz", _fetch(name))
    return tuple(f"{name}.gz" for name in missing)


def _is_right(folder: Path, name: str) -> bool:
    """Tell whether the file that `read_idx` would read has the right content."""
    plain, packed = folder / name, folder / f"{name}.gz"
    if plain.is_file():
        if _checksum(plain.read_bytes()) == CHECKSUMS[name]:
            return True
        fix = "Remove it: a plain file is read before a compressed one, so the right one would not be seen."
        raise ArtifactError(f"{name} is there with another content.", plain, fix)
    return packed.is_file() and _unpacked_checksum(packed.read_bytes()) == CHECKSUMS[name]


def _fetch(name: str) -> bytes:
    """Return the compressed file from the first mirror that has it right."""
    problems: list[str] = []
    damaged = False
    for mirror in MIRRORS:
        address = f"{mirror}/{name}.gz"
        try:
            with urlopen(address, timeout=TIMEOUT_S) as response:
                content: bytes = response.read(LIMIT)
        except (OSError, HTTPException) as error:
            problems.append(f"{address}: {error or type(error).__name__}")
            continue
        found = _unpacked_checksum(content)
        if found == CHECKSUMS[name]:
            return content
        damaged = True
        problems.append(f"{address}: MD5 {found}, expected {CHECKSUMS[name]}")
    reasons = "; ".join(problems)
    if damaged:
        raise ArtifactError(f"{name}.gz has the wrong checksum.", reasons, "Try again later, or get it elsewhere.")
    fix = "Check the network, or put the four files of MNIST into the folder yourself."
    raise StorageError(f"{name}.gz could not be fetched.", reasons, fix)


def _unpacked_checksum(content: bytes) -> str:
    """Return the MD5 of the decompressed content, or a word that no MD5 equals."""
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as packed:
            return _checksum(packed.read(LIMIT))
    except _DAMAGED:
        return "unreadable"


def _checksum(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


SIDE = 28
BOX = 20
CLASSES = 10
"""Pixels of a picture's side, pixels of the box in which a digit of size 1 is drawn, and number of digits."""

DRAWN_IMAGES = 12_000
"""How many pictures are drawn to train on, where no others are given."""

Bytes = NDArray[np.uint8]
Pixels = NDArray[np.float32]

FILES = {
    "train_images": ("train-images-idx3-ubyte", 3),
    "train_labels": ("train-labels-idx1-ubyte", 1),
    "test_images": ("t10k-images-idx3-ubyte", 3),
    "test_labels": ("t10k-labels-idx1-ubyte", 1),
}
"""Name of each file of MNIST, and its number of dimensions."""

STROKES: tuple[str, ...] = (
    "50,5 25,15 14,35 14,65 25,86 50,95 75,86 86,65 86,35 75,15 50,5",
    "30,25 55,5 55,95",
    "15,28 25,10 50,5 75,12 82,30 70,52 40,75 15,95 88,95",
    "15,15 45,5 75,12 80,30 65,45 40,48 65,52 84,68 78,88 50,96 15,87",
    "64,95 64,5 12,66 90,66",
    "82,6 26,6 20,45 50,38 78,50 84,70 72,90 45,96 15,86",
    "74,6 45,20 22,48 16,72 28,92 52,96 76,88 82,70 70,54 46,50 20,66",
    "12,7 86,7 62,48 42,95",
    "52,48 24,34 22,16 50,5 78,16 76,34 52,48 22,64 18,84 50,96 82,84 78,64 52,48",
    "80,30 62,46 36,44 20,28 28,10 52,4 74,10 80,30 78,60 66,95",
)
"""Path of the pen for each digit: points x,y in hundredths of the box, with y downwards."""

BLOCK = 256
"""How many pictures are drawn at once."""

JITTER = 0.06
ROTATION = 0.25
SHEAR = 0.30
SCALE = (0.75, 1.10)
SHIFT = 0.05
PEN = (0.04, 0.08)
EDGE = (0.02, 0.05)
"""How pictures vary: standard deviation of the pen's points, largest rotation in radians, largest shear, range of size,
largest shift, and ranges of the pen's half width and soft edge. Lengths are fractions of the box, which is `BOX`
pixels wide."""


@dataclass(frozen=True, slots=True)
class Digits:
    """Pictures of digits with their labels, to train on and to test on.

    Attributes:
        train_images: pictures to train on, uint8 (n, 28, 28), where 0 is background and 255 is full ink.
        train_labels: their digits, uint8 (n,), 0 to 9.
        test_images: pictures to test on, uint8 (m, 28, 28).
        test_labels: their digits, uint8 (m,), 0 to 9.

    Raises:
        ConfigError: a shape is wrong, there are no images, or a label is above 9.
    """

    train_images: Bytes
    train_labels: Bytes
    test_images: Bytes
    test_labels: Bytes

    def __post_init__(self) -> None:
        for part in ("train", "test"):
            images, labels = getattr(self, f"{part}_images"), getattr(self, f"{part}_labels")
            if len(images) == 0 or images.shape != (len(labels), SIDE, SIDE):
                shapes = f"{images.shape} and {labels.shape}"
                raise ConfigError(
                    f"The {part} images and labels do not belong together.", shapes, "Pass [n, 28, 28] and [n]."
                )
            if labels.max() >= CLASSES:
                raise ConfigError(f"A {part} label is not a digit.", labels.max(), "Pass labels from 0 to 9.")


def load_digits(source: str | None, seed: int) -> Digits:
    """Return the digits of MNIST, or drawn ones.

    Args:
        source: folder with the IDX files of MNIST. None draws `DRAWN_IMAGES` pictures.
        seed: random seed of the drawn pictures.

    Raises:
        StorageError: the folder or one of its files is missing.
        ArtifactError: a file is not what it should be, as in `read_idx`.
        ConfigError: the images are not 28 x 28, or a label is above 9.
    """
    return drawn_digits(DRAWN_IMAGES, seed) if source is None else read_idx(_folder(source))


def digits_identity(source: str | None) -> str | None:
    """Return 20 hexadecimal digits of the SHA-256 of the four files' contents. None for drawn digits.

    Drawn digits follow from their seed. Compressed and plain files with the same content have the same identity.

    Args:
        source: folder with the IDX files of MNIST. None for drawn digits.

    Raises:
        StorageError, ArtifactError, ConfigError: the files are missing or not valid, as in `load_digits`.
    """
    if source is None:
        return None
    data, found = read_idx(_folder(source)), hashlib.sha256()
    for part in FILES:
        values: Bytes = getattr(data, part)
        found.update(f"{part} {values.shape}\n".encode())
        found.update(values.tobytes())
    return found.hexdigest()[:20]


def _folder(source: str) -> Path:
    """Return the folder of digits, or refuse one that does not exist."""
    folder = Path(source).expanduser()
    if not folder.is_dir():
        fix = "Give a folder with the four IDX files of MNIST; `download_mnist` fetches them."
        raise StorageError("There is no folder of digits here.", source, fix)
    return folder


def read_idx(folder: Path) -> Digits:
    """Read MNIST from its four IDX files (LeCun, Cortes and Burges), plain or compressed with the suffix .gz.

    Args:
        folder: folder with the four files, plain or compressed.

    Raises:
        StorageError: a file is missing.
        ArtifactError: a file is too short or too long, or is not an IDX file of its kind, or images and labels differ
            in number.
        ConfigError: the images are not 28 x 28, or a label is above 9.
    """
    parts = {part: _read_file(folder, name, dimensions) for part, (name, dimensions) in FILES.items()}
    for part in ("train", "test"):
        counts = len(parts[f"{part}_images"]), len(parts[f"{part}_labels"])
        if counts[0] != counts[1]:
            names = " and ".join(FILES[f"{part}_{kind}"][0] for kind in ("images", "labels"))
            raise ArtifactError(
                f"{names} differ in number.", f"{counts[0]} and {counts[1]} in {folder}", "Fetch both files again."
            )
    return Digits(**parts)


def _read_file(folder: Path, name: str, dimensions: int) -> Bytes:
    """Read one IDX file of bytes with this many dimensions."""
    found = [path for path in (folder / name, folder / f"{name}.gz") if path.is_file()]
    if not found:
        fix = f"Put {name} or {name}.gz of MNIST there, or fetch all four with `undertow reference mnist {folder}`."
        raise StorageError(f"{name} is missing.", folder, fix)
    path = found[0]
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise ArtifactError(f"{path.name} cannot be decompressed.", f"{path}: {error}", "Fetch it again.") from error
    header = 4 * (1 + dimensions)
    magic, wanted = content[:4], bytes((0, 0, 8, dimensions))
    if magic != wanted:
        raise ArtifactError(
            f"{path.name} is not an IDX file of bytes with {dimensions} dimension(s).",
            f"{path}: starts with {magic.hex()}, expected {wanted.hex()}",
            "Check that the file has the right name.",
        )
    sizes = [int.from_bytes(content[start : start + 4], "big") for start in range(4, header, 4)]
    if len(content) != header + prod(sizes):
        expected = f"{header + prod(sizes)} for {sizes}" if len(content) >= header else f"at least {header}"
        raise ArtifactError(
            f"{path.name} has the wrong length.",
            f"{path}: {len(content)} bytes, expected {expected}",
            "Fetch it again.",
        )
    return np.frombuffer(content, dtype=np.uint8, offset=header).reshape(sizes).copy()


def drawn_digits(n: int, seed: int, n_test: int = 2000) -> Digits:
    """Draw digits with a pen whose path, slant, size, place and width vary at random.

    Args:
        n: how many pictures to train on are drawn.
        seed: random seed of every draw. Another seed gives other pictures of the same kind.
        n_test: how many pictures to test on are drawn.

    Raises:
        ConfigError: a number of pictures is below 1.
    """
    check_count("number of pictures", n, 1)
    check_count("number of test pictures", n_test, 1)
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, size=n + n_test, dtype=np.uint8)
    images = np.concatenate([_draw(labels[start : start + BLOCK], rng) for start in range(0, len(labels), BLOCK)])
    return Digits(images[:n], labels[:n], images[n:], labels[n:])


def _paths() -> Pixels:
    """Return the pen's points, float (10, points, 2), from -0.5 to 0.5. Short paths stay at their last point."""
    paths = [[[float(number) for number in point.split(",")] for point in path.split()] for path in STROKES]
    longest = max(map(len, paths))
    padded = [path + [path[-1]] * (longest - len(path)) for path in paths]
    return np.array(padded, dtype=np.float32) / 100.0 - 0.5


def _draw(labels: Bytes, rng: np.random.Generator) -> Bytes:
    """Return pictures of these digits, uint8 (n, 28, 28)."""
    n = len(labels)
    paths = _paths()[labels]
    jitter = rng.normal(0.0, JITTER, paths.shape).astype(np.float32)
    for point in range(1, paths.shape[1]):
        stays = (paths[:, point] == paths[:, point - 1]).all(axis=1, keepdims=True)
        jitter[:, point] = np.where(stays, jitter[:, point - 1], jitter[:, point])
    shift = rng.uniform(-SHIFT, SHIFT, (n, 1, 2)).astype(np.float32)
    points = ((paths + jitter) @ _slants(n, rng) + shift).astype(np.float32)
    pen, edge = (rng.uniform(*bounds, (n, 1)).astype(np.float32) for bounds in (PEN, EDGE))
    ink = np.clip((pen - _distances(points)) / edge + 0.5, 0.0, 1.0)
    return np.rint(255.0 * ink).astype(np.uint8).reshape(n, SIDE, SIDE)


def _slants(n: int, rng: np.random.Generator) -> Pixels:
    """Return matrices (n, 2, 2) that scale, shear and rotate row vectors."""
    turn, shear = rng.uniform(-ROTATION, ROTATION, n), rng.uniform(-SHEAR, SHEAR, n)
    turned = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]]).transpose(2, 0, 1)
    slanted = np.array([[np.ones(n), np.zeros(n)], [shear, np.ones(n)]]).transpose(2, 0, 1)
    return (rng.uniform(*SCALE, (n, 2, 1)) * (slanted @ turned)).astype(np.float32)


def _distances(points: Pixels) -> Pixels:
    """Return the distance of each pixel to the path (n, points, 2), float (n, 784)."""
    grid = (np.arange(SIDE, dtype=np.float32) - (SIDE - 1) / 2) / BOX
    across, down = (part.reshape(1, -1) for part in np.meshgrid(grid, grid))
    least = np.full((len(points), SIDE * SIDE), np.inf, dtype=np.float32)
    for index in range(points.shape[1] - 1):
        start, along = points[:, index], points[:, index + 1] - points[:, index]
        length = np.maximum((along**2).sum(axis=1), 1e-12)[:, None]
        right, below = across - start[:, :1], down - start[:, 1:]
        share = np.clip((right * along[:, :1] + below * along[:, 1:]) / length, 0.0, 1.0)
        squares = (right - share * along[:, :1]) ** 2 + (below - share * along[:, 1:]) ** 2
        np.minimum(least, squares, out=least)
    return np.sqrt(least)
