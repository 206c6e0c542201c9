"""The simulated shop's products: attribute codes, then texts from templates, chunk by chunk.

A chunk depends on the seed and its own number only, so any catalogue size streams in bounded
memory and the first thousand products are the same in a catalogue of a million.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import polars as pl

from neurosearch.data.simulation.world import LETTERS, PACKS, Concept, World

CHUNK = 50_000
NONE = -1


@dataclass(frozen=True)
class Codes:
    """Attribute codes of products, one array each; -1 where the type has no such attribute."""

    type: np.ndarray
    brand: np.ndarray
    colour: np.ndarray
    material: np.ndarray
    size: np.ndarray
    pattern: np.ndarray
    pack: np.ndarray  # index into PACKS
    device: np.ndarray  # series of devices that the product is, or fits
    model: np.ndarray  # model number within its brand
    popularity: np.ndarray  # float32, heavy-tailed (Zipf)

    def __len__(self) -> int:
        return len(self.type)

    def take(self, rows: np.ndarray) -> Codes:
        return Codes(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})

    @staticmethod
    def concatenate(parts: list[Codes]) -> Codes:
        names = [f.name for f in fields(Codes)]
        return Codes(**{name: np.concatenate([getattr(p, name) for p in parts]) for name in names})


def draw_codes(world: World, seed: int, chunk: int, size: int) -> Codes:
    """Codes of the first `size` products of a chunk."""
    rng, count = np.random.default_rng([seed, 1, chunk]), CHUNK
    types = rng.choice(len(world.types), count, p=_zipf(len(world.types), 0.5, seed))
    traits = {t: np.array([t in x.traits for x in world.types])[types] for t in "cmspnd"}
    department = np.array([world.departments.index(t.department) for t in world.types])[types]

    def attribute(trait: str, size: int, exponent: float, salt: int) -> np.ndarray:
        drawn = rng.choice(size, count, p=_zipf(size, exponent, salt))
        return np.where(traits[trait], drawn, NONE).astype(np.int16)

    shares = world.material_share.cumsum(axis=1)[department]
    material = (rng.random((count, 1)) > shares).sum(axis=1)

    # A brand at home in the product's department, one in ten from anywhere.
    key = rng.random((count, len(world.brands)), dtype=np.float32)
    key *= np.where(world.home[None, :] == department[:, None], 1.0, 0.1).astype(np.float32)
    codes = Codes(
        type=types.astype(np.int16),
        brand=key.argmax(axis=1).astype(np.int16),
        colour=attribute("c", len(world.colours), 0.8, 1),
        material=np.where(traits["m"], material, NONE).astype(np.int16),
        size=attribute("s", len(world.sizes), 0.3, 3),
        pattern=attribute("p", len(world.patterns), 0.9, 4),
        pack=attribute("n", len(PACKS), 0.9, 5),
        device=attribute("d", 24, 0.7, 6),
        model=rng.integers(100, 10_000, count).astype(np.int16),
        popularity=(rng.pareto(1.1, count) + 1).astype(np.float32),
    )
    return codes.take(np.arange(size))


class Draws:
    """Random numbers of a chunk's products, drawn for a whole chunk whatever its size, so
    that a product's texts and picture don't depend on how many products there are."""

    def __init__(self, seed: int, purpose: int, chunk: int, count: int) -> None:
        self._rng = np.random.default_rng([seed, purpose, chunk])
        self.count = count

    def integers(self, high: int) -> np.ndarray:
        return self._rng.integers(0, high, CHUNK)[: self.count]

    def uniform(self) -> np.ndarray:
        return self._rng.random(CHUNK)[: self.count]

    def normal(self) -> np.ndarray:
        return self._rng.normal(size=CHUNK)[: self.count]


def _zipf(size: int, exponent: float, salt: int) -> np.ndarray:
    """Zipf probabilities in an order that `salt` shuffles."""
    weights = 1.0 / np.arange(1, size + 1) ** exponent
    return np.random.default_rng([7, salt]).permutation(weights / weights.sum())


def device_name(world: World, code: int) -> str:
    """Name of a device series, such as "Nova KX-7": what accessories are compatible with."""
    letters = LETTERS[code % len(LETTERS)] + LETTERS[(code * 7 + 3) % len(LETTERS)]
    return f"{world.brands[code % len(world.brands)]} {letters}-{code % 9 + 1}"


def model_number(world: World, brand: int, model: int) -> str:
    return f"{world.prefixes[brand]}-{model}"


def write_texts(world: World, codes: Codes, seed: int, chunk: int, first: int) -> pl.DataFrame:
    """The canonical text columns of a chunk; `first` is its first product's row.

    Which word a title uses for a concept, and which attributes it leaves to the bullets or
    the description, is drawn per product.
    """
    count = len(codes)
    draws = Draws(seed, 2, chunk, count)
    plural = {"colour": "colours", "material": "materials", "size": "sizes", "pattern": "patterns"}
    said = {
        name: _said(draws, getattr(world, many), getattr(codes, name))
        for name, many in plural.items()
    }
    canonical = {
        name: _names(getattr(world, many), getattr(codes, name)) for name, many in plural.items()
    }
    noun = _said(draws, tuple(t.concept for t in world.types), codes.type)
    brand = pl.Series(world.brands).gather(codes.brand)
    letters = np.char.add(np.array(world.prefixes)[codes.brand], "-")
    number = pl.Series(np.char.add(letters, codes.model.astype(str)))
    devices = pl.Series([device_name(world, i) for i in range(24)])
    device = _gather(devices, codes.device)
    pieces = np.array([0, *PACKS])[codes.pack + 1]
    ways = ("Pack of {}", "{}-pack", "Set of {}", "{} pcs")
    packs = [[way.format(n) if n > 1 else None for n in (0, *PACKS)] for way in ways]
    flat = pl.Series([word for way in packs for word in way])
    pack = flat.gather(draws.integers(len(ways)) * (len(PACKS) + 1) + codes.pack + 1)

    frame = pl.DataFrame(
        {
            "brand": brand,
            "noun": noun,
            "number": number,
            "device": device,
            "pack": pack,
            **said,
            **{f"plain_{name}": value for name, value in canonical.items()},
            "template": draws.integers(4),
            "is_device": np.array(["d" in t.traits and t.accessory_of < 0 for t in world.types])[
                codes.type
            ],
            # A third of the titles keep an attribute to themselves.
            **{f"hide_{n}": draws.uniform() < 0.33 for n in (*plural, "number")},
            "quality": pl.Series(_QUALITIES).gather(draws.integers(len(_QUALITIES))),
            "promise": pl.Series(_PROMISES).gather(draws.integers(len(_PROMISES))),
        }
    )
    shown = {n: pl.when(~pl.col(f"hide_{n}")).then(pl.col(n)) for n in (*plural, "number")}
    fits = pl.when(pl.col("is_device")).then("device").otherwise(_prefix("for ", "device"))
    order = (
        ("brand", "number", "colour", "material", "pattern", "noun", fits, "size", "pack"),
        ("brand", "noun", fits, "material", "size", "colour", "pattern", "number", "pack"),
        ("size", "pattern", "material", "noun", fits, "colour", "pack", "brand", "number"),
        ("brand", "pack", "noun", fits, "number", "pattern", "colour", "size", "material"),
    )
    titles = [
        pl.concat_str(
            [shown.get(w, pl.col(w)) if isinstance(w, str) else w for w in words],
            separator=" ",
            ignore_nulls=True,
        )
        for words in order
    ]
    title = pl.coalesce(
        pl.when(pl.col("template") == i).then(text) for i, text in enumerate(titles)
    )
    bullets = pl.concat_str(
        _prefix("Colour: ", "plain_colour"),
        _prefix("Material: ", "plain_material"),
        _prefix("Size: ", "plain_size"),
        _prefix("Design: ", "plain_pattern"),
        _prefix("Compatible with ", "device"),
        _prefix("Model ", "number"),
        separator=" | ",
        ignore_nulls=True,
    )
    description = pl.concat_str(
        pl.lit("This "),
        pl.col("quality"),
        pl.lit(" "),
        pl.col("noun"),
        pl.lit(" by "),
        pl.col("brand"),
        pl.lit(" "),
        pl.col("promise"),
        pl.lit("."),
    )
    paths = [f"{t.department} > {t.category} > {t.concept.words[0]}" for t in world.types]
    attributes = pl.DataFrame(
        {"pattern": canonical["pattern"], "pieces": pieces, "popularity": codes.popularity}
    ).select(pl.struct(pl.all()).struct.json_encode())
    return frame.select(
        title=title,
        brand="brand",
        bullets=bullets,
        description=description,
        colour="plain_colour",
    ).with_columns(
        pl.Series(
            "product_id", np.char.add("P", np.char.zfill((first + np.arange(count)).astype(str), 8))
        ),
        pl.Series("category", paths).gather(codes.type),
        attributes.to_series().alias("attributes"),
    )


_QUALITIES = ("sturdy", "lightweight", "premium", "everyday", "compact", "hard-wearing", "modern")
_PROMISES = (
    "is easy to clean and made to last",
    "makes a thoughtful gift",
    "comes with a two-year warranty",
    "was designed for daily use",
    "fits small spaces",
    "ships fully assembled",
)


def _prefix(text: str, column: str) -> pl.Expr:
    return pl.concat_str(pl.lit(text), pl.col(column))


def _gather(names: pl.Series, codes: np.ndarray) -> pl.Series:
    """Names by code, null for -1."""
    return pl.concat([pl.Series([None], dtype=pl.String), names]).gather(codes + 1)


def _names(concepts: tuple[Concept, ...], codes: np.ndarray) -> pl.Series:
    return _gather(pl.Series([c.words[0] for c in concepts]), codes)


def _said(draws: Draws, concepts: tuple[Concept, ...], codes: np.ndarray) -> pl.Series:
    """A title's word for each code: the canonical one three times in five."""
    width = max(len(c.words) for c in concepts)
    table = pl.Series([c.words[i % len(c.words)] for c in concepts for i in range(width)])
    choice = np.where(draws.uniform() < 0.6, 0, draws.integers(width))
    flat = np.where(codes >= 0, codes.astype(np.int64) * width + choice, NONE)
    return _gather(table, flat)
