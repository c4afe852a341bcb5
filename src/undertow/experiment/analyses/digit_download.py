"""MNIST over https from public mirrors, checked by content."""

import gzip
import hashlib
import io
import zlib
from collections.abc import Sequence
from http.client import HTTPException
from pathlib import Path
from urllib.request import urlopen

from undertow.errors import ArtifactError, StorageError
from undertow.store.disk import storage_errors, write_file

MIRRORS = ("https://ossci-datasets.s3.amazonaws.com/mnist", "https://storage.googleapis.com/cvdf-datasets/mnist")
"""Where the files are asked for, in this order."""

CHECKSUMS = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
"""MD5 of each file after decompression: copies of the same content are compressed in different ways."""

TIMEOUT_S = 30.0
LIMIT = 64 * 2**20
"""Bytes that are read of any file at most; the largest has 47 million."""

_DAMAGED = (gzip.BadGzipFile, EOFError, zlib.error)


def download_mnist(folder: Path, mirrors: Sequence[str] = MIRRORS) -> tuple[str, ...]:
    """Fetch the four compressed IDX files of MNIST; files that are already right are left alone.

    A file appears under its name when it is complete and its checksum right, so an interrupted download is taken up
    again by the next call.

    Args:
        folder: where the files go; made if it does not exist.
        mirrors: addresses of folders with the files, tried in order.

    Returns:
        Names of the files that were fetched.

    Raises:
        StorageError: no mirror could be reached, the disk is full or read-only, or the folder is a file.
        ArtifactError: what a mirror sent has the wrong checksum, and no other had the right file; or a plain file of
            that name has another content.
    """
    if folder.exists() and not folder.is_dir():
        raise StorageError("There is a file where a folder should be.", folder, "Give another folder.")
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        missing = [name for name in CHECKSUMS if not _is_right(folder, name)]
        for name in missing:
            write_file(folder / f"{name}.gz", _fetch(name, mirrors))
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


def _fetch(name: str, mirrors: Sequence[str]) -> bytes:
    """Return the compressed file from the first mirror that has it right."""
    problems: list[str] = []
    damaged = False
    for mirror in mirrors:
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
    """Return the MD5 of what is compressed, or a word that no MD5 equals."""
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as packed:
            return _checksum(packed.read(LIMIT))
    except _DAMAGED:
        return "unreadable"


def _checksum(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()
