"""What a source file must fulfil; errors name the file, the row and the column."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from neurosearch.core.errors import InputError


def require_file(path: Path, role: str) -> Path:
    """`path`, which must exist; `role` says what it holds and where it is published."""
    if not path.is_file():
        raise InputError(f"{path}: no such file ({role})")
    return path


def is_there(path: Path) -> bool:
    """Whether a file that may be missing exists. Raises InputError for a broken link, a folder."""
    if path.is_symlink() and not path.exists():
        raise InputError(f"{path}: a link to a file that does not exist")
    if path.exists() and not path.is_file():
        raise InputError(f"{path}: not a file")
    return path.exists()


def require_unique(path: Path, frame: pl.DataFrame, *key: str) -> None:
    """Raise InputError naming the first row whose `key` an earlier row has.

    `frame` has a column `row` with the row's number in the file.
    """
    again = frame.filter(~pl.struct(key).is_first_distinct())
    if again.height:
        row, value = again[0, "row"], "/".join(str(again[0, column]) for column in key)
        same = [pl.col(column) == again[0, column] for column in key]
        first = frame.filter(pl.all_horizontal(same))[0, "row"]
        what = "/".join(key)
        raise InputError(f"{path} row {row}: duplicate {what} {value!r}, first at row {first}")


def require_present(path: Path, frame: pl.DataFrame, *columns: str) -> None:
    """Raise InputError naming the first row with nothing in one of these columns."""
    for column in columns:
        value = pl.col(column)
        blank = value.is_null()
        if frame.schema[column] == pl.String:
            blank = blank | (value.str.strip_chars().str.len_chars() == 0)
        empty = frame.filter(blank)
        if empty.height:
            raise InputError(f"{path} row {empty[0, 'row']}: column {column!r} is empty")


def require_known(
    path: Path, frame: pl.DataFrame, column: str, known: pl.Series, where: str
) -> None:
    """Raise InputError naming the first row whose `column` is not among `known`."""
    other = frame.filter(~pl.col(column).is_in(known.implode()).fill_null(False))
    if other.height:
        value = other[0, column]
        raise InputError(f"{path} row {other[0, 'row']}: {column} {value!r} is not in {where}")
