"""The simulated shop's product pictures: shape, colour and pattern drawn from the attributes.

What a picture shows is what the codes say: the category gives the silhouette, the colour its
paint, the pattern its texture, the size its scale. Text and image share these factors; the
picture's background tone and the shape's tilt are private to the image.
"""

from __future__ import annotations

import io

import numpy as np

from neurosearch.data.simulation.products import Codes, Draws
from neurosearch.data.simulation.world import World

SIDE = 48


def draw(world: World, codes: Codes, seed: int, chunk: int) -> list[bytes]:
    """One encoded PNG (48×48 RGB) a product."""
    from PIL import Image

    pixels = rasterise(world, codes, seed, chunk)
    encoded = []
    for picture in pixels:
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, format="PNG", compress_level=1)
        encoded.append(buffer.getvalue())
    return encoded


def rasterise(world: World, codes: Codes, seed: int, chunk: int) -> np.ndarray:
    """N×48×48×3 uint8 pictures."""
    count = len(codes)
    draws = Draws(seed, 5, chunk, count)
    categories = list(dict.fromkeys(t.category for t in world.types))
    shape = np.array([categories.index(t.category) for t in world.types])[codes.type]
    lobes = np.arange(len(world.types))[codes.type] % 5  # the type, within its category
    scale = 0.55 + 0.08 * np.where(codes.size < 0, 2, codes.size)
    tilt, tones = 0.15 * draws.normal(), 195 + 40 * draws.uniform()
    pictures = np.empty((count, SIDE, SIDE, 3), np.uint8)
    axis = (np.arange(SIDE) + 0.5) / SIDE * 2 - 1
    for start in range(0, count, 2000):
        part = slice(start, start + 2000)
        angle = tilt[part, None, None]
        x = axis[None, None, :] * np.cos(angle) - axis[None, :, None] * np.sin(angle)
        y = axis[None, None, :] * np.sin(angle) + axis[None, :, None] * np.cos(angle)
        x, y = x / scale[part, None, None], y / scale[part, None, None]
        inside = _inside(x, y, shape[part, None, None], lobes[part, None, None])
        paint = world.rgb[np.where(codes.colour < 0, 2, codes.colour)[part]].astype(np.float32)
        paint = paint[:, None, None, :] * _texture(x, y, codes.pattern[part])[..., None]
        tone = tones[part, None, None, None].astype(np.float32)
        picture = np.where(inside[..., None], paint, tone)
        pictures[part] = np.clip(picture, 0, 255).astype(np.uint8)
    return pictures


def _inside(x: np.ndarray, y: np.ndarray, shape: np.ndarray, lobes: np.ndarray) -> np.ndarray:
    """Which pixels the silhouette covers: a superellipse, waisted and lobed by its codes."""
    radius = np.hypot(x, y)
    power = np.array([2.0, 8.0, 1.2, 3.0])[shape % 4]
    aspect = np.array([1.0, 0.6, 1.5, 0.8, 1.25])[(shape // 4) % 5]
    body = (np.abs(x * aspect) ** power + np.abs(y / aspect) ** power) < 0.8
    wave = 1 + 0.25 * np.cos((lobes + 2) * np.arctan2(y, x))
    hole = (radius < 0.18 + 0.03 * lobes) & (shape % 3 == 1)
    inside: np.ndarray = body & (radius < 1.05 * wave) & ~hole
    return inside


def _texture(x: np.ndarray, y: np.ndarray, pattern: np.ndarray) -> np.ndarray:
    """Brightness of the paint: plain, striped, dotted or chequered."""
    stripes = np.where(np.sin(x * 16) > 0, 1.0, 0.55)
    dots = np.where((np.sin(x * 14) > 0.4) & (np.sin(y * 14) > 0.4), 0.45, 1.0)
    checks = np.where((np.sin(x * 11) > 0) ^ (np.sin(y * 11) > 0), 1.0, 0.6)
    code = pattern[:, None, None]
    return np.select([code == 1, code == 2, code == 3], [stripes, dots, checks], 1.0)
