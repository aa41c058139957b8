"""Results in a README: between `<!-- results/… -->` and `<!-- end -->` stands what that file says."""

from __future__ import annotations

import re
from pathlib import Path

_BLOCK = re.compile(r"(<!-- (results/\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


def embed(folder: Path) -> None:
    """Bring an experiment's README.md up to date with its results."""
    readme = folder / "README.md"
    if readme.is_file():
        readme.write_text(embedded(readme.read_text(encoding="utf-8"), folder), encoding="utf-8")


def embedded(text: str, folder: Path) -> str:
    """The text with every block as its file in `folder` has it; a block without a file stays as it is."""

    def block(match: re.Match[str]) -> str:
        file = folder / match[2]
        return f"{match[1]}{file.read_text(encoding='utf-8')}{match[3]}" if file.is_file() else match[0]

    return _BLOCK.sub(block, text)
