"""The simulated shop's queries and judgments.

A query is a set of constraints taken from a real product (so it always has an answer), put
into words. Labels follow by rule: E satisfies every constraint; S is the right type with one
constraint violated; C is an accessory of what was asked for (or what it is an accessory to);
everything else is I. Judgments are then pooled as real ones are: the union of the top of a
few imperfect systems and some random products, so E products stay unjudged (holes).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from neurosearch.data.simulation.products import Codes, device_name, model_number
from neurosearch.data.simulation.world import Concept, World

# Kinds of query and how often each is asked.
KINDS = {
    "type": 0.12,
    "attribute": 0.28,
    "specific": 0.16,
    "brand": 0.12,
    "model": 0.08,
    "compatible": 0.08,
    "negation": 0.08,
    "gap": 0.08,
}
FACETS = ("colour", "material", "size", "pattern")
TYPO_RATE = 0.12
LABELS = np.array(["I", "C", "S", "E"])


@dataclass(frozen=True)
class Intent:
    """What a query asks for: a type and constraints; `without` is a colour not wanted."""

    kind: str
    type: int
    wants: dict[str, int]
    without: int
    source: int  # the product it was derived from


def draw_queries(
    world: World, codes: Codes, seed: int, count: int
) -> tuple[pl.DataFrame, list[Intent]]:
    """`count` distinct queries (fewer where the shop is too small) with their intents."""
    rng = np.random.default_rng([seed, 3])
    chance = codes.popularity.astype(np.float64)
    rows: list[dict[str, Any]] = []
    intents: list[Intent] = []
    seen: set[str] = set()
    for source in rng.choice(len(codes), count * 8, p=chance / chance.sum()):
        if len(rows) == count:
            break
        kind = str(rng.choice(list(KINDS), p=list(KINDS.values())))
        intent = _intent(world, codes, int(source), kind, rng)
        text = _words(world, intent, codes, rng)
        typo = bool(rng.random() < TYPO_RATE) and kind != "model"
        text = _typo(text, rng) if typo else text
        if text in seen:
            continue
        seen.add(text)
        intents.append(intent)
        rows.append({"text": text, "kind": intent.kind, "typo": typo})
    frame = pl.DataFrame(rows).with_columns(
        pl.Series("query_id", [f"Q{i:05d}" for i in range(len(rows))]),
        # Two fifths test, one fifth dev: small shops need dev and test queries more than train.
        pl.Series("split", rng.permutation(np.arange(len(rows)) % 5)).replace_strict(
            {0: "test", 1: "test", 2: "dev", 3: "train", 4: "train"}
        ),
    )
    return frame.select("query_id", "text", "split", "kind", "typo"), intents


def disturbed(
    world: World, frame: pl.DataFrame, seed: int, typos: float, synonyms: float
) -> pl.DataFrame:
    """The queries with more words that products don't have; what is looked for stays.

    Args:
        world: whose concepts have words that no product text uses.
        frame: of `draw_queries`.
        seed: of the shop; the numbers are drawn apart from those of the queries.
        typos: share of the queries without a slip, model numbers excepted, that get one.
        synonyms: share of the words and phrases with such a synonym that are replaced by it.

    Returns:
        The frame; a text that another query has already stays as it was.
    """
    rng = np.random.default_rng([seed, 6])
    groups = (world.colours, world.materials, world.sizes, world.patterns)
    concepts = [concept for group in groups for concept in group]
    concepts += [each.concept for each in world.types]
    gaps = {w.lower(): c.gap for c in concepts if c.gap for w in c.words}
    known = sorted(gaps, key=len, reverse=True)
    phrase = re.compile(rf"\b({'|'.join(map(re.escape, known))})\b")

    def other(match: re.Match[str]) -> str:
        replaced = rng.random() < synonyms
        return str(rng.choice(gaps[match.group()])).lower() if replaced else match.group()

    seen, texts, slips = set(frame["text"]), [], []
    for text, kind, typo in frame.select("text", "kind", "typo").iter_rows():
        new = text if typo or kind == "model" else phrase.sub(other, text)
        slip = bool(not typo and kind != "model" and rng.random() < typos)
        new = _typo(new, rng) if slip else new
        if new in seen:
            new, slip = text, False
        seen.add(new)
        texts.append(new)
        slips.append(typo or slip)
    return frame.with_columns(text=pl.Series(texts), typo=pl.Series(slips))


def _intent(world: World, codes: Codes, source: int, kind: str, rng: np.random.Generator) -> Intent:
    attributes = {
        name: int(getattr(codes, name)[source]) for name in (*FACETS, "brand", "model", "device")
    }
    facets = [name for name in FACETS if attributes[name] >= 0]
    rng.shuffle(facets)
    wants: dict[str, int] = {}
    without = -1
    if kind == "compatible" and attributes["device"] < 0:
        kind = "attribute"
    if kind in ("attribute", "gap", "specific"):
        wanted = 1 if kind == "gap" else int(rng.integers(1, 3)) if kind == "attribute" else 3
        wants = {name: attributes[name] for name in facets[:wanted]}
    if kind in ("brand", "specific", "model"):
        wants["brand"] = attributes["brand"]
    if kind == "model":
        wants["model"] = attributes["model"]
    if kind == "compatible":
        wants["device"] = attributes["device"]
    if kind == "negation":
        if attributes["colour"] >= 0:
            others = [c for c in range(len(world.colours)) if c != attributes["colour"]]
            without = int(rng.choice(others))
        else:
            kind = "type"
    return Intent(kind, int(codes.type[source]), wants, without, source)


def _words(world: World, intent: Intent, codes: Codes, rng: np.random.Generator) -> str:
    """The query's text. Two words in five come from the gap where a concept has one."""
    gap_rate = 0.9 if intent.kind == "gap" else 0.15

    def say(concept: Concept) -> str:
        if concept.gap and rng.random() < gap_rate:
            return str(rng.choice(concept.gap))
        return str(rng.choice(concept.words)) if rng.random() < 0.4 else concept.words[0]

    plural = {"colour": world.colours, "material": world.materials}
    plural |= {"size": world.sizes, "pattern": world.patterns}
    words = [say(plural[name][code]) for name, code in intent.wants.items() if name in plural]
    noun = say(world.types[intent.type].concept)
    if intent.kind == "model":
        number = model_number(world, intent.wants["brand"], intent.wants["model"])
        return number if rng.random() < 0.6 else f"{world.brands[intent.wants['brand']]} {number}"
    if "brand" in intent.wants:
        words.insert(0, world.brands[intent.wants["brand"]])
    words.append(noun)
    if "device" in intent.wants:
        words.append(f"for {device_name(world, intent.wants['device'])}")
    if intent.without >= 0:
        negation = str(rng.choice(["not {}", "without {}", "no {}"]))
        words.append(negation.format(world.colours[intent.without].words[0]))
    return " ".join(words).lower()


def _typo(text: str, rng: np.random.Generator) -> str:
    """One slip in the longest word: letters swapped, dropped, doubled or replaced."""
    words = text.split()
    at = int(np.argmax([len(word) for word in words]))
    word = words[at]
    if len(word) < 4:
        return text
    i = int(rng.integers(1, len(word) - 1))
    slips = (
        word[:i] + word[i + 1] + word[i] + word[i + 2 :],
        word[:i] + word[i + 1 :],
        word[:i] + word[i] + word[i:],
        word[:i] + str(rng.choice(list("aeiorstn"))) + word[i + 1 :],
    )
    words[at] = slips[int(rng.integers(len(slips)))]
    return " ".join(words)


def label(world: World, codes: Codes, rows: np.ndarray, intent: Intent) -> np.ndarray:
    """Label numbers (index into LABELS) of the products `rows` for an intent."""
    types = codes.type[rows]
    violated = np.zeros(len(rows), np.int64)
    for name, wanted in intent.wants.items():
        violated += getattr(codes, name)[rows] != wanted
    if intent.without >= 0:
        violated += codes.colour[rows] == intent.without
    if "model" in intent.wants:
        # The same brand and type with another number is a substitute, another brand is not.
        violated += codes.brand[rows] != intent.wants["brand"]
    right = types == intent.type
    labels = np.where(right & (violated == 0), 3, np.where(right & (violated == 1), 2, 0))
    accessory_of = np.array([t.accessory_of for t in world.types])
    related = accessory_of[types] == intent.type
    related |= types == accessory_of[intent.type]
    if "device" in intent.wants:
        related &= codes.device[rows] == intent.wants["device"]
    return np.where(related & ~right, 1, labels)


def pool(
    world: World, codes: Codes, by_type: list[np.ndarray], intent: Intent, seed: int, query: int
) -> tuple[np.ndarray, np.ndarray]:
    """Judged product rows of a query and their label numbers.

    Three systems of different faults each give twenty products; ten random ones and the
    product that the query came from are added. Candidates are all products of the type, of
    its category, and of related types (`by_type`: rows by type number).
    """
    rng = np.random.default_rng([seed, 4, query])
    mine = world.types[intent.type]
    near = [
        number
        for number, other in enumerate(world.types)
        if other.category == mine.category
        or other.accessory_of == intent.type
        or number == mine.accessory_of
    ]
    rows = np.concatenate([by_type[number] for number in near])
    grades = label(world, codes, rows, intent)
    same_type = codes.type[rows] == intent.type
    fame = np.log(codes.popularity[rows])
    systems = (
        grades + rng.normal(0, 0.7, len(rows)),  # a good one
        2.0 * same_type + 0.8 * fame + rng.normal(0, 0.5, len(rows)),  # best sellers
        same_type + rng.normal(0, 1.0, len(rows)) + 0.5 * grades,  # a poor one
    )
    top = [rows[np.argsort(-score, kind="stable")[:20]] for score in systems]
    random = rng.integers(0, len(codes), 10)
    judged = np.unique(np.concatenate([*top, random, [intent.source]]))
    return judged, label(world, codes, judged, intent)
