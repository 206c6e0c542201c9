"""Reading files of others: bounded, and with one clear error for whatever is wrong with them.

What a file may take is limited by the names below, so that a damaged or a hostile one ends in a
message and not in all of a machine's memory.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import re
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from neurosearch.core.errors import InputError

LONGEST_LINE = 16_000_000  # bytes
LONGEST_ID = 512  # characters
MOST_BYTES = 8_000_000_000  # of a file when it is unpacked
MOST_PACKING = 200  # times that a zipped file may grow
MOST_PIXELS = 50_000_000  # of a picture
MOST_BLANK = 100_000  # empty lines of a file of JSON lines
CHUNK = 1 << 20


def read_delimited(
    path: Path,
    needed: Sequence[str] | None,
    separator: str = ",",
    quote: str | None = '"',
    encoding: str = "utf-8",
) -> pl.DataFrame:
    """All columns of a delimited file (plain, or zipped under its name) as String.

    With `row`, the row's number in the file (the header is row 1). `needed`: columns that must be
    there once; None where that is to be so of all that are there, and rows must be as long as the
    header. Raises InputError for missing columns, text in another encoding, or with the parser's
    reason.
    """
    raw = _content(path)
    header = raw[: raw.find(b"\n") + 1 or None]
    if len(header) > LONGEST_LINE:
        raise InputError(f"{path} row 1: longer than {LONGEST_LINE:,} bytes (LONGEST_LINE)")
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError as error:
        row = raw[: error.start].count(b"\n") + 1
        raise InputError(f"{path} row {row}: not {encoding} ({error.reason})") from None
    options: dict[str, Any] = {"separator": separator, "quote_char": quote, "infer_schema": False}
    # First the header alone: a file of another shape need not be parsed whole.
    head = text[: text.find("\n") + 1 or None].removeprefix("\ufeff")
    names = _parsed(path, head.encode(), options).columns
    once = names if needed is None else needed
    again = [name for name in once if f"{name}_duplicated_0" in names]
    if again:
        raise InputError(f"{path} row 1: the column {again[0]!r} is there twice")
    require_columns(path, [name.removeprefix("\ufeff") for name in names], needed or ())
    # A row has a separator for each column but one; what has none is hardly a row.
    lines = raw.count(b"\n")
    if lines > len(raw) // max(1, len(names)) + 1000:
        raise InputError(f"{path}: most of its {lines:,} lines are empty")
    body = text.removeprefix("\ufeff")
    try:
        frame = _parsed(path, body.encode(), {**options, "row_index_name": "row"})
    except InputError:
        _check_widths(path, body, len(names), separator, quote)
        raise
    if needed is None:
        _check_short(path, body, len(names), separator, quote)
    return frame.with_columns(pl.col("row").cast(pl.Int64) + 2)


def _check_widths(path: Path, text: str, columns: int, separator: str, quote: str | None) -> None:
    """Raise InputError naming the first row with more columns than the header, or an open quote."""
    for row, line in enumerate(text.split("\n"), 1):
        if quote is not None and quote in line:
            if line.count(quote) % 2:
                raise InputError(f"{path} row {row}: a quote that begins or ends nothing")
        elif line.count(separator) >= columns:
            many = line.count(separator) + 1
            raise InputError(f"{path} row {row}: {many} columns, the header has {columns}")


def _check_short(path: Path, text: str, columns: int, separator: str, quote: str | None) -> None:
    """Raise InputError naming the first row with fewer columns than the header."""
    csv.field_size_limit(LONGEST_LINE)
    lines = io.StringIO(text, newline="")
    rows = (
        csv.reader(lines, delimiter=separator, quotechar=quote)
        if quote
        else csv.reader(lines, delimiter=separator, quoting=csv.QUOTE_NONE)
    )
    for row, parts in enumerate(rows, 1):
        if 0 < len(parts) < columns:
            message = f"{len(parts)} columns, the header has {columns}"
            raise InputError(f"{path} row {row}: {message}")


def _parsed(path: Path, content: bytes, options: dict[str, Any]) -> pl.DataFrame:
    try:
        return pl.read_csv(io.BytesIO(content), **options)
    except pl.exceptions.PolarsError as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path}: not readable as a table: {reason}") from None


def _content(path: Path) -> bytes:
    if path.suffix != ".zip":
        return path.read_bytes()
    try:
        with zipfile.ZipFile(path) as archive:
            info = archive.getinfo(path.name.removesuffix(".zip"))
            most = min(MOST_BYTES, MOST_PACKING * info.compress_size + CHUNK)
            with archive.open(info) as packed:
                raw = packed.read(most + 1)  # what the archive says of its size may be wrong
    except (zipfile.BadZipFile, zlib.error, KeyError, EOFError, RuntimeError, OSError) as error:
        raise InputError(f"{path}: not the published archive ({error})") from None
    if len(raw) > most:
        message = (
            f"at most {MOST_PACKING} times its packed size (MOST_PACKING), or {MOST_BYTES:,} bytes"
        )
        raise InputError(f"{path}: it unpacks to more than {message}")
    return raw


def read_parquet(path: Path, columns: Sequence[str] | None = None) -> pl.DataFrame:
    """The table, or some of its columns. Raises InputError where the file can't be read as one."""
    try:
        return pl.read_parquet(path, columns=None if columns is None else list(columns), glob=False)
    except Exception as error:
        raise InputError(f"{path}: not readable as parquet: {_reason(error)}") from None
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # of polars' Rust, on damaged pages
            raise
        raise InputError(f"{path}: not readable as parquet: {_reason(error)}") from None


def _reason(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return re.sub(r" ?<[^<>]*>", "", lines[0])[:200] if lines else type(error).__name__


def json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Row numbers and objects of a file of JSON lines, plain or `.gz`; blank lines are skipped.

    Raises InputError naming the row that is no JSON object, not UTF-8, or longer than LONGEST_LINE.
    """
    row, total, blank = 0, 0, 0
    opened: Any = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rb") as lines:
            while line := lines.readline(LONGEST_LINE + 1):
                row += 1
                total += len(line)
                if len(line) > LONGEST_LINE:
                    message = f"longer than {LONGEST_LINE:,} bytes (LONGEST_LINE)"
                    raise InputError(f"{path} row {row}: {message}")
                if total > MOST_BYTES and path.suffix == ".gz":
                    raise InputError(f"{path}: it unpacks to more than {MOST_BYTES:,} bytes")
                if not line.strip():
                    blank += 1
                    if blank > MOST_BLANK:
                        message = f"more than {MOST_BLANK:,} empty lines (MOST_BLANK)"
                        raise InputError(f"{path} row {row}: {message}")
                    continue
                value = json.loads(
                    line.decode("utf-8"), parse_constant=_no_number, object_pairs_hook=_unique
                )
                if not isinstance(value, dict):
                    raise InputError(f"{path} row {row}: not a JSON object")
                _check_text(value)
                yield row, value
    except (ValueError, RecursionError, OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path} row {max(row, 1)}: not JSON ({_reason(error)})") from None


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object's values. Raises ValueError for a key that is there twice: which one is meant?"""
    mapping = dict(pairs)
    if len(mapping) < len(pairs):
        keys = [key for key, _ in pairs]
        again = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {again!r} is there twice")
    return mapping


def _check_text(value: Any) -> None:
    """Raise ValueError for a text that is half of a character (a lone surrogate)."""
    if isinstance(value, str):
        if not value.isascii():
            value.encode("utf-8")
    elif isinstance(value, dict):
        for key, item in value.items():
            _check_text(key)
            _check_text(item)
    elif isinstance(value, list):
        for item in value:
            _check_text(item)


def id_of(path: Path, row: int, record: dict[str, Any], *names: str) -> str:
    """The id under the first of `names` that is there: a text, or an integer.

    Raises InputError for a missing or blank one, and for what is no id.
    """
    for name in names:
        value = record.get(name)
        if value is None or value == "":
            continue
        is_text = isinstance(value, str) and len(value.strip()) > 0 and len(value) <= LONGEST_ID
        if is_text or (isinstance(value, int) and not isinstance(value, bool)):
            return str(value)
        raise InputError(
            f"{path} row {row}: column {name!r} is {str(value)[:60]!r}, which is no id"
        )
    there = next((name for name in names if name in record), names[-1])
    raise InputError(f"{path} row {row}: column {there!r} is empty")


def check_picture(where: str, content: bytes) -> None:
    """Raise InputError, which names `where`, for what is no picture or larger than MOST_PIXELS."""
    import warnings

    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of PIL's own, higher limit
            picture = Image.open(io.BytesIO(content))
            if picture.width * picture.height > MOST_PIXELS:
                size = f"{picture.width}×{picture.height}"
                raise InputError(f"{where}: {size} pixels, at most {MOST_PIXELS:,} (MOST_PIXELS)")
            picture.load()
    except InputError:
        raise
    except Exception as error:  # decoders raise whatever they meet
        raise InputError(f"{where}: no picture ({_reason(error)})") from None


def require_columns(path: Path, columns: Sequence[str], needed: Sequence[str]) -> None:
    """Raise InputError naming the columns that `path` lacks."""
    missing = [column for column in needed if column not in columns]
    if missing:
        has = ", ".join(repr(str(name))[1:-1][:60] for name in columns[:20])
        raise InputError(f"{path}: missing column {', '.join(map(repr, missing))} (it has {has})")


def hashed_fraction(text: str, salt: str = "") -> float:
    """A number in [0, 1) that depends on the text alone: stable splits without a generator."""
    return int(hashlib.sha1((salt + text).encode()).hexdigest()[:13], 16) / 16**13
