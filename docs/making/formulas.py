"""TeX as MathML, which browsers draw by themselves, without a script or a network."""

from __future__ import annotations

import re

from latex2mathml.converter import convert

DISPLAY = re.compile(r"\$\$(.+?)\$\$", flags=re.S)
INLINE = re.compile(r"(?<![\\$\w])\$([^\s$](?:[^$\n]|\n(?!\n))*?)\$(?![\w$])")
CODE = re.compile(r"(```.*?```|`[^`\n]*`)", flags=re.S)


def drawn(markdown: str) -> str:
    """Markdown with `$…$` and `$$…$$` outside code as MathML."""
    parts = CODE.split(markdown)
    return "".join(part if n % 2 else _formulas(part) for n, part in enumerate(parts))


def _formulas(text: str) -> str:
    text = DISPLAY.sub(
        lambda m: f'\n\n<div class="wide">{_mathml(m.group(1), "block")}</div>\n\n', text
    )
    return INLINE.sub(lambda m: _mathml(m.group(1), "inline"), text)


def _mathml(tex: str, display: str) -> str:
    return convert(" ".join(tex.split()), display=display).replace("\n", "")
