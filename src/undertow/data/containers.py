"""Open text files by their first bytes: decompress, decode UTF-16 and UTF-32, and name what is no text.

The name of a file decides nothing here. Every stream is read once from its beginning, so that pipes can be read too.
"""

import bz2
import codecs
import contextlib
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from undertow.errors import MissingExtraError, RowsError

_HEAD = 1 << 16
"""Number of first bytes by which the kind of a file is recognised."""

PARQUET_MAGIC = b"PAR1"

_FOREIGN = (
    (b"PK\x03\x04", "a zip archive or an Excel workbook", "Unpack it, or export the sheet as CSV."),
    (b"PK\x05\x06", "an empty zip archive", "Give the file that should be in it."),
    (b"SQLite format 3\x00", "an SQLite database", "Export the table as CSV or JSON lines."),
    (b"%PDF", "a PDF", "Give the rows as JSON lines."),
    (b"ARROW1", "an Arrow file", "Write it as Parquet, or give the folder that datasets saved."),
    (b"ORC", "an ORC file", "Write it as Parquet."),
    (b"Obj\x01", "an Avro file", "Write it as JSON lines."),
    (b"\xd0\xcf\x11\xe0", "an old Excel or Word file", "Export the sheet as CSV."),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "Unpack it first."),
    (b"Rar!", "a RAR archive", "Unpack it first."),
    (b"\x04\x22\x4d\x18", "compressed by lz4", "Unpack it first: unlz4 FILE."),
    (b"\x89PNG", "an image", "Give the rows as JSON lines."),
    (b"\xff\xd8\xff", "an image", "Give the rows as JSON lines."),
    (b"GGUF", "a GGUF model", "Give the rows, not the model."),
    (b"\x93NUMPY", "an array of NumPy", "Give the rows as JSON lines."),
    (b"\x89HDF", "an HDF5 file", "Give the rows as JSON lines."),
    (b"\x80\x04\x95", "a pickle, which may run any code when it is read", "Write the rows as JSON lines."),
    (b"\x80\x05\x95", "a pickle, which may run any code when it is read", "Write the rows as JSON lines."),
    (b"version https://git-lfs", "a pointer of Git LFS in place of the file", "Fetch the file: git lfs pull."),
    (b"<!DOCTYPE", "a web page", "Download the file itself, such as by its address with /resolve/ in it."),
    (b"<!doctype", "a web page", "Download the file itself, such as by its address with /resolve/ in it."),
    (b"<html", "a web page", "Download the file itself, such as by its address with /resolve/ in it."),
)

_PLAIN = frozenset({b"version https://git-lfs", b"<!DOCTYPE", b"<!doctype", b"<html"})
"""First bytes of foreign files that are text, and so hold no zero byte."""

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    # Without a mark, JSON still shows it: its first two characters are ASCII.
    (b"{\x00\x00\x00", "utf-32-le"),
    (b"[\x00\x00\x00", "utf-32-le"),
    (b"{\x00", "utf-16-le"),
    (b"[\x00", "utf-16-le"),
    (b"\x00{", "utf-16-be"),
    (b"\x00[", "utf-16-be"),
)

_DAMAGE = (EOFError, gzip.BadGzipFile, zlib.error, lzma.LZMAError, OSError, ValueError)
"""Exceptions that the libraries raise on compressed files that are damaged or cut off."""


def _zstd(stream: IO[bytes]) -> IO[bytes]:
    """Return the decompressed stream of a zstd stream, by pyarrow, which the extra `data` installs for tables too."""
    try:
        import pyarrow
    except ImportError as error:
        fix = "Run pip install 'undertow[data]', or unpack it first: unzstd FILE."
        raise MissingExtraError("A file compressed by zstd needs a library.", error.name, fix) from error
    return cast(Any, pyarrow).input_stream(stream, compression="zstd")


_PACKED: tuple[tuple[bytes, Callable[[IO[bytes]], IO[bytes]]], ...] = (
    (b"\x1f\x8b", lambda stream: cast(IO[bytes], gzip.GzipFile(fileobj=stream))),
    (b"\x28\xb5\x2f\xfd", _zstd),
    (b"BZh91AY&SY", lambda stream: cast(IO[bytes], bz2.BZ2File(stream))),
    (b"\xfd7zXZ\x00", lambda stream: cast(IO[bytes], lzma.LZMAFile(stream))),  # noqa: SIM115 - closed with its file
)


class _Whole(io.RawIOBase):
    """A stream whose first bytes were taken, with these bytes put back before the rest."""

    def __init__(self, head: bytes, rest: IO[bytes]) -> None:
        self._head, self._rest = head, rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        size = len(buffer)
        part, self._head = (self._head[:size], self._head[size:]) if self._head else (self._rest.read(size), b"")
        buffer[: len(part)] = part
        return len(part)


@dataclass(frozen=True, slots=True)
class Text:
    """An opened text file.

    Attributes:
        name: path of the file, for messages.
        encoding: encoding of its bytes, such as "utf-8".
        head: its first characters; bytes that cannot be decoded are left out.
        stream: stream of all its bytes, decompressed.
        packed: whether the file is compressed.
    """

    name: str
    encoding: str
    head: str
    stream: IO[bytes]
    packed: bool

    def lines(self) -> Iterator[bytes]:
        r"""Yield lines as UTF-8, split at "\n" alone; in a file without any, at "\r" alone.

        Raises:
            RowsError: the compressed file is damaged, or it is not of the encoding that its first bytes show.
        """
        # Bytes: text would also be split at U+2028 and its like, which JSON strings may hold.
        old = "\r" in self.head and "\n" not in self.head
        with _damage(self):
            if self.encoding == "utf-8" and not old:
                source: Iterator[bytes] = iter(self.stream)
            else:
                coded = "latin-1" if self.encoding == "utf-8" else self.encoding
                decoded = io.TextIOWrapper(cast(Any, self.stream), coded, newline="\r" if old else "\n")
                back = "latin-1" if self.encoding == "utf-8" else "utf-8"
                source = (line.encode(back) for line in decoded)
            for number, line in enumerate(source):
                yield line.removeprefix(codecs.BOM_UTF8) if number == 0 else line

    def text(self) -> Iterator[str]:
        """Yield lines as text, their line ends kept as they are.

        Raises:
            RowsError: the file is damaged, as for `lines`, or is not of its encoding.
        """
        encoding = "utf-8-sig" if self.encoding == "utf-8" else self.encoding
        with _damage(self):
            yield from io.TextIOWrapper(cast(Any, self.stream), encoding, newline="")


@contextlib.contextmanager
def open_text(path: Path) -> Generator[Text]:
    """Open a text file, whatever its compression and encoding are.

    Raises:
        RowsError: the file is no text; the message says what it is and what to do.
        MissingExtraError: the file is compressed by zstd, and no library for it is installed.
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(_HEAD)
        stream = cast(IO[bytes], io.BufferedReader(_Whole(head, file), _HEAD))
        unpack = next((one for magic, one in _PACKED if head.startswith(magic)), None)
        if unpack is not None:
            packed = Text(str(path), "utf-8", "", stream, True)
            with _damage(packed):
                inner = unpack(stream)
                head = inner.read(_HEAD)
            stream = cast(IO[bytes], io.BufferedReader(_Whole(head, inner), _HEAD))
        _refuse_foreign(path, head, packed=unpack is not None)
        encoding = next((name for mark, name in _MARKS if head.startswith(mark)), "utf-8")
        found = head.decode(encoding, "ignore").removeprefix("\ufeff")
        yield Text(str(path), encoding, found, stream, unpack is not None)


def _refuse_foreign(path: Path, head: bytes, *, packed: bool) -> None:
    kinds = (*_FOREIGN, *((magic, "compressed twice", "Unpack it first.") for magic, _ in _PACKED if packed))
    if packed:
        kinds = (*kinds, (PARQUET_MAGIC, "a Parquet file that was compressed", "Unpack it first; Parquet is small."))
    if head[257:262] == b"ustar":
        kinds = ((head[:1], "a tar archive", "Unpack it first."), *kinds)
    for magic, kind, fix in kinds:
        # A text may begin with the letters of most of these; none holds a zero byte.
        if head.startswith(magic) and (b"\x00" in head or magic in _PLAIN):
            raise RowsError("The file is no text.", f"{path}: this is {kind}", fix)


@contextlib.contextmanager
def _damage(text: Text) -> Generator[None]:
    try:
        yield
    except UnicodeDecodeError as error:
        where = f"{text.name}: {error.reason} at byte {error.start}"
        fix = "Check that the file is whole, or write it as UTF-8."
        raise RowsError(f"The file is not {text.encoding.upper()} throughout.", where, fix) from None
    except _DAMAGE as error:
        if not text.packed:
            raise
        fix = "Fetch or pack it again."
        raise RowsError("The compressed file is damaged or cut off.", f"{text.name}: {error}", fix) from error
