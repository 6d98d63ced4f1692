"""Scene → antialiased 64 x 64 picture: drawn four times too large, shrunk, then occluded, shaded and made noisy."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageChops, ImageDraw

from weightgen.data.scenes.world import Object, Scene

SIDE = 64
_SCALE = 4  # supersampling factor: edges are smooth after a box filter


def _polygon(turn: float, radii: list[float], start: float = -math.pi / 2) -> list[tuple[float, float]]:
    step = 2 * math.pi / len(radii)
    return [
        (r * math.cos(start + turn + i * step), r * math.sin(start + turn + i * step))
        for i, r in enumerate(radii)
    ]


def _turned(points: list[tuple[float, float]], turn: float) -> list[tuple[float, float]]:
    cos, sin = math.cos(turn), math.sin(turn)
    return [(x * cos - y * sin, x * sin + y * cos) for x, y in points]


def _outline(shape: str, turn: float) -> list[tuple[float, float]]:
    """The shape's polygon in a unit circle, turned by `turn` radians."""
    if shape == "square":
        return _polygon(turn, [1.1] * 4, start=-math.pi / 4)
    if shape == "triangle":
        return _polygon(turn, [1.15] * 3)
    if shape == "star":
        return _polygon(turn, [1.15, 0.48] * 5)
    if shape == "cross":
        a, b = 0.36, 1.05
        corners = [
            (-a, -b),
            (a, -b),
            (a, -a),
            (b, -a),
            (b, a),
            (a, a),
            (a, b),
            (-a, b),
            (-a, a),
            (-b, a),
            (-b, -a),
            (-a, -a),
        ]
        return _turned(corners, turn)
    if shape == "heart":
        ts = [2 * math.pi * i / 40 for i in range(40)]
        curve = [
            (
                math.sin(t) ** 3,
                -(13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)) / 16,
            )
            for t in ts
        ]
        return _turned([(1.1 * x, 1.1 * y) for x, y in curve], turn)
    return _polygon(turn, [1.0] * 40)  # circle, ring and moon start from a disc


def _mask(item: Object, side: int) -> Image.Image:
    """Coverage of the object, an "L" image of `side` pixels with the object in its middle."""
    radius, middle = item.radius * _SCALE, side / 2
    mask = Image.new("L", (side, side), 0)
    draw = ImageDraw.Draw(mask)
    draw.polygon(
        [(middle + radius * x, middle + radius * y) for x, y in _outline(item.shape, item.angle)], fill=255
    )
    if item.shape == "ring":
        inner = 0.52 * radius
        draw.ellipse((middle - inner, middle - inner, middle + inner, middle + inner), fill=0)
    if item.shape == "moon":
        x, y = middle + 0.55 * radius * math.cos(item.angle), middle + 0.55 * radius * math.sin(item.angle)
        inner = 0.85 * radius
        draw.ellipse((x - inner, y - inner, x + inner, y + inner), fill=0)
    return mask


def _pattern(item: Object, side: int) -> Image.Image:
    """The object's fill: its colour, with the pattern in a darker shade (a lighter one on dark colours)."""
    rgb = np.array(item.rgb, dtype=np.float32)
    ink = rgb * 0.38 if rgb.mean() > 70 else rgb * 0.4 + 150
    rows, columns = np.mgrid[0:side, 0:side].astype(np.float32) / _SCALE
    cos, sin = math.cos(item.angle), math.sin(item.angle)
    u, v = columns * cos + rows * sin, rows * cos - columns * sin
    if item.pattern == "striped":
        inked = (v % 5.0) < 2.3
    elif item.pattern == "dotted":
        inked = ((u % 5.0 - 2.5) ** 2 + (v % 5.0 - 2.5) ** 2) < 2.0
    elif item.pattern == "checkered":
        inked = ((u // 3.6) % 2) != ((v // 3.6) % 2)
    else:
        inked = np.zeros((side, side), dtype=bool)
    return Image.fromarray(np.where(inked[..., None], ink, rgb).astype(np.uint8))


def render(scene: Scene) -> Image.Image:
    """Picture of a scene, RGB, 64 x 64 pixels; a pure function of the scene."""
    noise = np.random.default_rng(scene.noise_seed)
    canvas = Image.new("RGB", (SIDE * _SCALE, SIDE * _SCALE), scene.background_rgb)
    for item in scene.objects:
        side = 2 * math.ceil(item.radius * 1.2 * _SCALE)
        corner = (round(item.x * _SCALE - side / 2), round(item.y * _SCALE - side / 2))
        mask = _mask(item, side)
        edge = ImageChops.offset(mask, 2, 3).point(
            lambda value: value // 3
        )  # a soft shadow parts like-coloured neighbours
        canvas.paste((20, 20, 20), corner, edge)
        canvas.paste(_pattern(item, side), corner, mask)
    if noise.random() < 0.3:  # a thin bar in front of everything
        x, y, slope = noise.uniform(0.2, 0.8, 3) * SIDE * _SCALE
        line = [
            (x - 2 * _SCALE * SIDE, y + slope - SIDE * _SCALE),
            (x + 2 * _SCALE * SIDE, y - slope + SIDE * _SCALE),
        ]
        ImageDraw.Draw(canvas).line(
            line, fill=tuple(int(c) for c in noise.integers(60, 200, 3)), width=int(1.6 * _SCALE)
        )
    pixels = np.asarray(canvas.reduce(_SCALE), dtype=np.float32)
    shade = np.linspace(-1, 1, SIDE, dtype=np.float32)
    light = noise.uniform(-10, 10, 2)
    pixels = pixels + light[0] * shade[:, None, None] + light[1] * shade[None, :, None]
    pixels = pixels + noise.normal(0, noise.uniform(2, 9), pixels.shape)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
