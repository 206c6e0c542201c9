"""A generation in PostgreSQL: its tables, how they are filled, and the statements that search."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from neurosearch.core.errors import InputError
from neurosearch.core.filters import Filters, Range
from neurosearch.engine.base import Asked, Batch, Collection, Shape
from neurosearch.engine.lists import check_filters, keys_of, padded, renamed

if TYPE_CHECKING:
    from neurosearch.engine.postgres import Postgres

FEW = 10_000  # products that pass a filter, up to which each is scored
WIDEST = 1_000  # nodes that pgvector keeps in sight, at most
WAYS = {"text": "hash", "path": "gin", "number": "btree"}  # btree takes no long texts
KINDS = {"text": "text", "path": "text[]", "number": "float8"}


class PostgresCollection(Collection):
    """A schema."""

    def __init__(self, recipe: Postgres, pool: Any, name: str, shape: Shape) -> None:
        self.recipe, self.pool, self.name, self.shape = recipe, pool, name, shape
        self.keys = keys_of(shape)
        self.type = "vector" if recipe.stored == "float" else "halfvec"

    def create(self) -> None:
        columns = [f"{key} {KINDS[self.shape.fields[name]]}" for name, key in self.keys.items()]
        if self.shape.width is not None:
            columns.append(f"vector {self.type}({self.shape.width})")
        listed = "".join(f", {column}" for column in columns)
        with self.pool.connection() as link, link.transaction():
            link.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", (self.name,))
            link.execute(f"CREATE SCHEMA IF NOT EXISTS {self.name}")
            link.execute(f"CREATE SEQUENCE IF NOT EXISTS {self.name}.batches")
            # Vectors lie beside the table, so that words and filters read narrow rows.
            link.execute(
                f"CREATE TABLE IF NOT EXISTS {self.name}.products "
                f"(number int PRIMARY KEY, batch int NOT NULL{listed}) "
                "WITH (toast_tuple_target = 128)"
            )
            if self.shape.width is not None:
                change = f"ALTER TABLE {self.name}.products ALTER vector SET STORAGE EXTERNAL"
                link.execute(change)
            link.execute(
                f"CREATE TABLE IF NOT EXISTS {self.name}.postings (term int, batch int, "
                "numbers int[], weights real[], PRIMARY KEY (term, batch))"
            )
            # Whether some weights are of products that were replaced or removed since.
            made = f"CREATE TABLE IF NOT EXISTS {self.name}.facts AS SELECT false AS changed"
            link.execute(made)

    def _is_there(self, link: Any) -> bool:
        asked = "SELECT to_regclass(%s) IS NOT NULL"
        return bool(link.execute(asked, (f"{self.name}.facts",)).fetchone()[0])

    def count(self) -> int:
        with self.pool.connection() as link:
            if not self._is_there(link):
                return 0
            return int(link.execute(f"SELECT count(*) FROM {self.name}.products").fetchone()[0])

    def has(self, numbers: np.ndarray) -> np.ndarray:
        with self.pool.connection() as link:
            asked = f"SELECT number FROM {self.name}.products WHERE number = ANY(%s)"
            found = link.execute(asked, (numbers.tolist(),)).fetchall()
        return np.isin(numbers, [number for (number,) in found])

    def add(self, batch: Batch) -> None:
        with self.pool.connection() as link, link.transaction():
            # A writer at a time: two that replace the same products would wait for each other.
            link.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", (self.name,))
            self._delete(link, batch.numbers)
            number = link.execute(f"SELECT nextval('{self.name}.batches')").fetchone()[0]
            self._copy_products(link, batch, number)
            if batch.words is not None:
                self._copy_postings(link, batch, number)

    def _delete(self, link: Any, numbers: np.ndarray) -> None:
        asked = f"DELETE FROM {self.name}.products WHERE number = ANY(%s)"
        if link.execute(asked, (numbers.tolist(),)).rowcount:
            link.execute(f"UPDATE {self.name}.facts SET changed = true")

    def _copy_products(self, link: Any, batch: Batch, number: int) -> None:
        names = list(self.keys.values()) + (["vector"] if self.shape.width is not None else [])
        listed = "".join(f", {name}" for name in names)
        with link.cursor().copy(
            f"COPY {self.name}.products (number, batch{listed}) FROM STDIN"
        ) as to:
            for place, product in enumerate(batch.numbers.tolist()):
                fields = renamed(batch.fields[place], self.keys)
                row = [product, number, *(fields.get(key) for key in self.keys.values())]
                if batch.vectors is not None:
                    vector = batch.vectors[place]
                    row.append(_literal(vector) if vector.any() else None)
                to.write_row(row)

    def _copy_postings(self, link: Any, batch: Batch, number: int) -> None:
        by_term = batch.words.tocsc()
        starts = by_term.indptr
        into = f"COPY {self.name}.postings (term, batch, numbers, weights) FROM STDIN"
        with link.cursor().copy(into) as to:
            for term in np.flatnonzero(np.diff(starts)).tolist():
                inside = slice(starts[term], starts[term + 1])
                numbers = batch.numbers[by_term.indices[inside]].tolist()
                to.write_row((term, number, numbers, by_term.data[inside].tolist()))

    def remove(self, numbers: np.ndarray) -> None:
        with self.pool.connection() as link, link.transaction():
            link.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", (self.name,))
            self._delete(link, numbers)

    def finish(self) -> None:
        with self.pool.connection() as link:
            link.execute("SET statement_timeout = 0")
            link.execute("SET maintenance_work_mem = '512MB'")
            link.execute("SET max_parallel_maintenance_workers = 4")
            try:
                for name, key in self.keys.items():
                    way = WAYS[self.shape.fields[name]]
                    made = f"CREATE INDEX IF NOT EXISTS {key} ON {self.name}.products"
                    link.execute(f"{made} USING {way} ({key})")
                if self.shape.width is not None:
                    options = f"m = {self.recipe.links}"
                    options += f", ef_construction = {self._construction()}"
                    link.execute(
                        f"CREATE INDEX IF NOT EXISTS graph ON {self.name}.products "
                        f"USING hnsw (vector {self.type}_ip_ops) WITH ({options})"
                    )
                for table in ("products", "postings"):
                    link.execute(f"VACUUM (ANALYZE) {self.name}.{table}")
            finally:
                link.execute("RESET ALL")

    def _construction(self) -> int:
        """At least twice the links, which pgvector demands."""
        return max(self.recipe.construction, 2 * self.recipe.links)

    def size(self) -> int:
        asked = "SELECT sum(pg_total_relation_size(c.oid)) FROM pg_class c "
        asked += "JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname = %s AND relkind = 'r'"
        with self.pool.connection() as link:
            return int(link.execute(asked, (self.name,)).fetchone()[0] or 0)

    def search(self, asked: Asked) -> tuple[np.ndarray, np.ndarray]:
        check_filters(asked.filters, self.shape)
        condition, values = _condition(asked.filters, self.shape)
        both = asked.words is not None and asked.vectors is not None
        depth = asked.candidates if both else asked.k
        lists = []
        with self.pool.connection() as link:
            if not self._is_there(link):
                raise InputError(f"PostgreSQL: generation {self.name} is not there")
            exact = False
            if asked.vectors is not None:
                effort = min(WIDEST, max(self.recipe.search, depth))
                exact = bool(condition) and self._is_narrow(link, condition, values)
                scan = "strict_order" if condition or depth > WIDEST else "off"
                link.execute(
                    "SELECT set_config('hnsw.ef_search', %s, false), "
                    "set_config('hnsw.iterative_scan', %s, false), "
                    "set_config('hnsw.max_scan_tuples', '1000000', false)",
                    (str(effort), scan),
                )
            changed = link.execute(f"SELECT changed FROM {self.name}.facts").fetchone()[0]
            joined = changed or bool(condition)
            parts = {}
            if asked.words is not None:
                parts["by_words"] = self._by_words(condition, joined)
            if asked.vectors is not None:
                parts["by_vectors"] = self._by_vectors(condition, exact)
            statement = _both(parts) if both else f"{next(iter(parts.values()))} LIMIT %(k)s"
            for place in range(len(asked)):
                given = {"k": asked.k, "depth": depth, "constant": asked.rank_constant, **values}
                if asked.words is not None:
                    given["terms"] = list(asked.words[place])
                    given["weights"] = list(asked.words[place].values())
                if asked.vectors is not None:
                    given["vector"] = _literal(asked.vectors[place])
                rows = link.execute(statement, given).fetchall()
                numbers = np.array([row[0] for row in rows], dtype=np.int64)
                lists.append((numbers, np.array([row[1] for row in rows], dtype=np.float64)))
        return padded(lists, asked.k)

    def _is_narrow(self, link: Any, condition: str, values: Mapping[str, Any]) -> bool:
        inside = f"SELECT 1 FROM {self.name}.products p WHERE {condition} LIMIT {FEW + 1}"
        statement = f"SELECT count(*) FROM ({inside}) AS inside"
        return int(link.execute(statement, values).fetchone()[0]) <= FEW

    def _by_words(self, condition: str, joined: bool) -> str:
        """Sums of weights: number and score, best first, without a limit."""
        join = f"JOIN {self.name}.products p ON p.number = found.number AND p.batch = s.batch "
        where = f"WHERE {condition} " if condition else ""
        return (
            "SELECT found.number AS number, sum(found.weight::float8 * q.weight) AS score "
            "FROM unnest(%(terms)s::int[], %(weights)s::float8[]) AS q(term, weight) "
            f"JOIN {self.name}.postings s ON s.term = q.term "
            "CROSS JOIN LATERAL unnest(s.numbers, s.weights) AS found(number, weight) "
            f"{join if joined else ''}{where}"
            "GROUP BY found.number ORDER BY score DESC, number"
        )

    def _by_vectors(self, condition: str, exact: bool) -> str:
        """The nearest: number and inner product, best first, without a limit."""
        distance = f"vector <#> %(vector)s::{self.type}"
        order = f"({distance}) + 0" if exact else distance  # an expression that no graph has
        where = "vector IS NOT NULL" + (f" AND {condition}" if condition else "")
        return (
            f"SELECT number, -({distance}) AS score FROM {self.name}.products p "
            f"WHERE {where} ORDER BY {order}"
        )


def _both(parts: Mapping[str, str]) -> str:
    """Reciprocal rank fusion of two lists, in one statement."""
    lists = ", ".join(
        f"{name} AS (SELECT number, row_number() OVER (ORDER BY score DESC, number) AS rank "
        f"FROM ({part} LIMIT %(depth)s) AS found)"
        for name, part in parts.items()
    )
    ranks = " UNION ALL ".join(f"SELECT number, rank FROM {name}" for name in parts)
    return (
        f"WITH {lists} SELECT number, sum(1.0::float8 / (%(constant)s + rank)) AS score "
        f"FROM ({ranks}) AS ranked GROUP BY number ORDER BY score DESC, number LIMIT %(k)s"
    )


def _condition(filters: Filters, shape: Shape) -> tuple[str, dict[str, Any]]:
    """SQL of filters, and its parameters; '' for none."""
    keys = keys_of(shape)
    parts: list[str] = []
    values: dict[str, Any] = {}
    for name, wanted in sorted(filters.items()):
        key = keys[name]
        if isinstance(wanted, Range):
            for sign, limit in ((">=", wanted.least), ("<=", wanted.most)):
                if limit is not None:
                    place = f"{key}_{'least' if sign == '>=' else 'most'}"
                    parts.append(f"p.{key} {sign} %({place})s")
                    values[place] = limit
            parts.append(f"p.{key} IS NOT NULL")
        else:
            path = shape.fields[name] == "path"
            parts.append(f"p.{key} && %({key})s::text[]" if path else f"p.{key} = ANY(%({key})s)")
            values[key] = list(wanted)
    return " AND ".join(parts), values


def _literal(vector: np.ndarray) -> str:
    """A vector as pgvector reads it."""
    return "[" + ",".join(map(repr, vector.astype(np.float32).tolist())) + "]"
