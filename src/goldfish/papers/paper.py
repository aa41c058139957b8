"""`goldfish paper`: one PDF with every experiment's figures, captions and verdicts, from the kept results."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from goldfish.figures.style import DPI
from goldfish.papers import check, results
from goldfish.papers import experiment as experiments

if TYPE_CHECKING:
    from fpdf import FPDF

_PICTURE = re.compile(r"!\[(.*?)\]\((results/\S+\.png)\)")
_WIDTH = 180  # mm, A4 without margins of 15
_COLUMNS = ("claim", "told", "verdict", "rule")
_SHARES = (34, 36, 14, 10)


def paper(to: Path, scale: str) -> int:
    """Write the PDF and return the number of experiments in it; those without results at this scale are left out."""
    from fpdf import FPDF

    pdf = FPDF(format="A4")
    pdf.set_margin(15)
    _fonts(pdf)
    count = 0
    for name in sorted(experiments.folders()):
        experiment = experiments.read(name)
        place = results.published(experiment, scale)
        if (place / results.MANIFEST).is_file():
            _chapter(pdf, name, experiment.folder, place)
            count += 1
    to.parent.mkdir(parents=True, exist_ok=True)
    pdf.output(str(to))
    return count


def _fonts(pdf: FPDF) -> None:
    """The fonts of the figures: they have the signs that captions need."""
    import matplotlib

    fonts = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    pdf.add_font("DejaVu", "", fonts / "DejaVuSans.ttf")
    pdf.add_font("DejaVu", "B", fonts / "DejaVuSans-Bold.ttf")


def _chapter(pdf: FPDF, name: str, folder: Path, place: Path) -> None:
    """Title, the README's first paragraphs, its pictures with their captions, the verdicts."""
    text = (folder / "README.md").read_text(encoding="utf-8")
    pdf.add_page()
    pdf.set_font("DejaVu", "B", 13)
    pdf.multi_cell(_WIDTH, 7, text.partition("\n")[0].lstrip("# "), align="L", new_x="LMARGIN", new_y="NEXT")
    pdf.set_font("DejaVu", "", 8)
    for paragraph in _paragraphs(text):
        pdf.multi_cell(_WIDTH, 4, paragraph, align="L", new_x="LMARGIN", new_y="NEXT")
        pdf.ln(2)
    for caption, picture in _PICTURE.findall(text):
        if (folder / picture).is_file() and (folder / picture).parent == place:
            _picture(pdf, folder / picture, caption)
    if (place / check.VERDICTS).is_file():
        _verdicts(pdf, pd.read_csv(place / check.VERDICTS, keep_default_na=False, dtype=str))


def _paragraphs(text: str) -> list[str]:
    """The README's text between the commands and the results, without Markdown's signs."""
    body = text.partition("## Results")[0].partition("\n")[2]
    blocks = [" ".join(block.split()) for block in body.split("\n\n") if not block.strip("\n").startswith("    ")]
    plain = [re.sub(r"\[(.*?)\]\(.*?\)", r"\1", block).replace("**", "").replace("`", "") for block in blocks]
    return [block for block in plain if block]


def _picture(pdf: FPDF, path: Path, caption: str) -> None:
    from PIL import Image

    with Image.open(path) as image:
        width, height = image.size
    across = min(_WIDTH, 230 * width / height, 25.4 * width / DPI)
    if pdf.get_y() + across * height / width + 8 > pdf.h - 15:
        pdf.add_page()
    pdf.image(str(path), w=across)
    pdf.multi_cell(_WIDTH, 4, f"{caption}. {path.parent.name}, {path.name}", new_x="LMARGIN", new_y="NEXT")
    pdf.ln(3)


def _verdicts(pdf: FPDF, verdicts: pd.DataFrame) -> None:
    pdf.set_font("DejaVu", "", 6.5)
    with pdf.table(width=_WIDTH, col_widths=_SHARES, text_align="LEFT", line_height=3.6) as table:
        table.row(("claim", "ours", "verdict", "rule"))
        for row in verdicts.to_dict("records"):
            table.row([row[column] for column in _COLUMNS])
