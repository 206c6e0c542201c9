"""The simulated shop's world: taxonomy, attribute vocabularies, fictional brands.

Every concept has the words that titles use (the first is canonical) and, apart from them, the
words that only queries use: the vocabulary gap that lexical retrieval has to suffer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# department > category: type | other title words | query-only words | accessory of | traits
# Traits: c colour, m material, s size, p pattern, n pack of n, d fits a device model.
_TAXONOMY = """
Home > Seating: sofa | settee | couch, place to sit for the living room | | cms
Home > Seating: armchair | accent chair | comfy reading chair | | cmp
Home > Seating: bar stool | counter stool | high kitchen seat | | cmn
Home > Seating: sofa cover | sofa slipcover | couch protector, furniture cover | sofa | csp
Home > Storage: bookcase | bookshelf | shelving for books | | cms
Home > Storage: wardrobe | armoire | clothes cupboard | | cms
Home > Storage: shoe rack | shoe organizer | footwear stand | | cmn
Home > Bedding: duvet cover | quilt cover | comforter case | duvet | csp
Home > Bedding: duvet | quilt insert | warm comforter for winter | | s
Home > Bedding: pillow | bed pillow | headrest for sleeping | | msn
Home > Bedding: pillow case | pillow sham | pillow slip | pillow | cpn
Home > Lighting: table lamp | desk lamp | bedside light | | cm
Home > Lighting: pendant light | hanging lamp | ceiling lights for kitchen island | | cm
Home > Lighting: light bulb | LED bulb | lamp globe, screw in lamp | table lamp | sn
Kitchen > Drinkware: travel mug | insulated tumbler | coffee cup to go, keeps coffee hot | | cms
Kitchen > Drinkware: water bottle | drink flask | something to drink from at the gym | | cms
Kitchen > Drinkware: wine glass | stemware | goblets | | sn
Kitchen > Drinkware: bottle brush | flask cleaning brush | tool to scrub bottles | water bottle | cn
Kitchen > Cookware: frying pan | skillet | pan for eggs | | ms
Kitchen > Cookware: stock pot | soup pot | big pan for stew | | ms
Kitchen > Cookware: baking tray | sheet pan | cookie sheet | | msn
Kitchen > Cookware: pan lid | skillet lid | cover for cookware | frying pan | ms
Kitchen > Appliances: coffee machine | espresso maker | brewer for the morning | | cd
Kitchen > Appliances: coffee filter | paper filter | brewing papers | coffee machine | nd
Kitchen > Appliances: stand mixer | food mixer | dough kneading machine | | cd
Kitchen > Appliances: mixer bowl | mixing bowl insert | spare bowl for kneading | stand mixer | md
Kitchen > Appliances: kettle | electric kettle | water boiler for tea | | cm
Electronics > Phones: smartphone | mobile phone | cell, handset | | cd
Electronics > Phones: phone case | phone cover | protective shell for my cell | smartphone | cmpd
Electronics > Phones: screen protector | tempered glass film | scratch guard | smartphone | nd
Electronics > Phones: charging cable | charger cord | lead to power my phone | smartphone | csn
Electronics > Audio: headphones | over-ear headset | cans, noise blocking for flights | | c
Electronics > Audio: earbuds | in-ear headset | tiny wireless ear speakers | | c
Electronics > Audio: ear pads | headphone cushions | replacement foam | headphones | cmn
Electronics > Audio: bluetooth speaker | portable speaker | music box for the beach | | cs
Electronics > Computing: laptop | notebook computer | portable pc | | cd
Electronics > Computing: laptop sleeve | notebook case | padded pouch for pc | laptop | cmps
Electronics > Computing: keyboard | wireless keyboard | typing board | | c
Electronics > Computing: mouse pad | desk mat | surface for my mouse | | cps
Garden > Outdoor: garden hose | water hose | pipe for watering plants | | cms
Garden > Outdoor: hose nozzle | spray gun | sprayer end | garden hose | cm
Garden > Outdoor: patio umbrella | parasol | sun shade for the terrace | | csp
Garden > Outdoor: plant pot | planter | flower container | | cmsn
Garden > Tools: pruning shears | secateurs | branch clippers | | m
Garden > Tools: leaf rake | lawn rake | fan tool for leaves | | ms
Garden > Tools: work gloves | gardening gloves | hand protection | | csn
Fashion > Shoes: running shoes | jogging trainers | sneakers for a marathon | | cs
Fashion > Shoes: hiking boots | trekking boots | footwear for mountains | | cms
Fashion > Shoes: shoe laces | boot laces | strings for sneakers | running shoes | csn
Fashion > Bags: backpack | rucksack | school bag, daypack | | cmsp
Fashion > Bags: suitcase | luggage trolley | cabin bag for travel | | cms
Fashion > Bags: luggage tag | suitcase tag | name label for bags | suitcase | cmn
Fashion > Clothing: rain jacket | waterproof coat | shell for wet weather | | cs
Fashion > Clothing: t-shirt | tee | short sleeve top | | csp
Fashion > Clothing: wool socks | warm socks | foot warmers | | cspn
Fashion > Clothing: leather belt | waist belt | strap for trousers | | cs
"""

# canonical | other title words | query-only words | red, green, blue
_COLOURS = """
black | jet black | | 25,25,28
white | snow white | | 245,245,242
grey | gray, charcoal | anthracite | 125,128,132
navy | navy blue, midnight | dark blue | 24,38,92
blue | cobalt | azure | 38,98,210
red | crimson | scarlet | 205,32,40
green | forest green | emerald | 32,128,66
beige | sand, taupe | cream coloured | 220,202,170
brown | walnut, chestnut | chocolate coloured | 110,70,38
pink | blush, rose | rosy | 240,150,178
yellow | mustard | golden | 238,198,42
purple | violet, plum | lilac | 120,60,160
"""

# canonical | other title words | query-only words | departments where it is used
_MATERIALS = """
stainless steel | SS, brushed steel | metal, inox | Home, Kitchen, Garden
cotton | 100% cotton | breathable cloth | Home, Fashion
leather | genuine leather | real hide | Home, Electronics, Garden, Fashion
oak | solid oak | real wood | Home, Garden
plastic | polypropylene, PP | lightweight polymer | Kitchen, Electronics, Garden, Fashion
silicone | food-grade silicone | rubbery | Kitchen, Electronics
glass | borosilicate glass | see through | Kitchen
ceramic | stoneware | porcelain | Kitchen, Garden
aluminium | aluminum, alu | light metal | Kitchen, Electronics, Garden
polyester | polyester fabric | synthetic cloth | Home, Electronics, Fashion
"""

_SIZES = """
extra small | XS | tiny
small | S size, compact | little
medium | M size, mid-size | average size
large | L size | big
extra large | XL, oversized | huge
"""

_PATTERNS = """
plain | solid colour |
striped | stripes | lines
dotted | polka dot | spots
chequered | checked, plaid | tartan
"""

PACKS = (1, 2, 3, 4, 6, 8, 12)
LETTERS = "ABCDEFGHJKLMNPRSTUVWXYZ"


@dataclass(frozen=True)
class Concept:
    """One value of an attribute: what titles call it, and what only queries call it."""

    words: tuple[str, ...]
    gap: tuple[str, ...]


@dataclass(frozen=True)
class ProductType:
    """A leaf of the taxonomy. `accessory_of` is another type's number, or -1."""

    department: str
    category: str
    concept: Concept
    accessory_of: int
    traits: frozenset[str]


@dataclass(frozen=True)
class World:
    """Everything that is not random per product; brands come from `seed`."""

    types: tuple[ProductType, ...]
    colours: tuple[Concept, ...]
    rgb: np.ndarray  # colours×3 uint8
    materials: tuple[Concept, ...]
    material_share: np.ndarray  # departments×materials, rows sum to 1
    sizes: tuple[Concept, ...]
    patterns: tuple[Concept, ...]
    brands: tuple[str, ...]
    prefixes: tuple[str, ...]  # a brand's letters in its model numbers
    home: np.ndarray  # brand's department number
    departments: tuple[str, ...]


def build_world(seed: int, n_brands: int = 60) -> World:
    """The world of a seed; `n_brands` fictional brands, each at home in one department."""
    rng = np.random.default_rng([seed, 0])
    lines = [_cells(line) for line in _TAXONOMY.strip().splitlines()]
    names = [cells[0].split(":", 1)[1].strip() for cells in lines]
    types = []
    for cells, name in zip(lines, names, strict=True):
        department, category = cells[0].split(":", 1)[0].split(" > ")
        concept = Concept((name, *_words(cells[1])), _words(cells[2]))
        parent = names.index(cells[3]) if cells[3] else -1
        types.append(ProductType(department, category, concept, parent, frozenset(cells[4])))
    departments = tuple(dict.fromkeys(t.department for t in types))
    brands = _brands(rng, n_brands)
    prefixes = tuple("".join(rng.choice(list(LETTERS), 2)) for _ in brands)
    colours = [_cells(line) for line in _COLOURS.strip().splitlines()]
    used = [_words(_cells(line)[3]) for line in _MATERIALS.strip().splitlines()]
    share = np.array([[float(d in where) for where in used] for d in departments])
    return World(
        types=tuple(types),
        colours=tuple(_concept(cells) for cells in colours),
        rgb=np.array([[int(x) for x in cells[3].split(",")] for cells in colours], np.uint8),
        materials=_concepts(_MATERIALS),
        material_share=share / share.sum(axis=1, keepdims=True),
        sizes=_concepts(_SIZES),
        patterns=_concepts(_PATTERNS),
        brands=brands,
        prefixes=prefixes,
        home=rng.permutation(np.arange(n_brands) % len(departments)),
        departments=departments,
    )


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.split("|")]


def _words(cell: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in cell.split(",") if word.strip())


def _concept(cells: list[str]) -> Concept:
    return Concept((cells[0], *_words(cells[1])), _words(cells[2]))


def _concepts(table: str) -> tuple[Concept, ...]:
    return tuple(_concept(_cells(line)) for line in table.strip().splitlines())


def _brands(rng: np.random.Generator, count: int) -> tuple[str, ...]:
    onsets, vowels = list("bdfgklmnprstvz"), list("aeiou")
    codas = ["n", "r", "x", "lis", "vo", "ta", "m", "dor", "kka", "ne", "rro", "th"]
    names: dict[str, None] = {}
    while len(names) < count:
        middle = "".join(rng.choice(onsets) + rng.choice(vowels) for _ in range(rng.integers(1, 3)))
        names[(middle + rng.choice(codas)).capitalize()] = None
    return tuple(names)
