"""How figures are written: the same bytes every time, fonts embedded, nothing left behind."""

from __future__ import annotations

import re
from pathlib import Path

import matplotlib
import pytest
from PIL import Image

from goldfish.figures import style


@style.paper()
def figure(label: str = "lag"):
    made, axes = style.panels(1, 2, width=style.ONE_COLUMN, note="n = 4 seeds " * 12)
    for ax in axes.flat:
        ax.plot([0, 1, 2], [3, 1, 2])
        ax.set_xlabel(label)
    return made


def test_pdf_and_png_are_the_same_bytes_when_drawn_again(tmp_path: Path):
    first = [path.read_bytes() for path in style.save(figure(), tmp_path / "first" / "one")]
    again = [path.read_bytes() for path in style.save(figure(), tmp_path / "again" / "one")]
    other = [path.read_bytes() for path in style.save(figure("step"), tmp_path / "other" / "one")]
    assert first == again
    assert first[0] != other[0]
    assert first[1] != other[1]


def test_a_users_settings_change_neither_the_bytes_nor_are_they_changed(tmp_path: Path):
    plain = [path.read_bytes() for path in style.save(figure(), tmp_path / "plain")]
    with matplotlib.rc_context({"font.size": 20, "axes.spines.top": True, "pdf.fonttype": 3, "savefig.dpi": 30}):
        matplotlib.rcParams["backend"]  # looked up once, it is no longer a placeholder
        before = matplotlib.rcParams.copy()
        assert [path.read_bytes() for path in style.save(figure(), tmp_path / "loud")] == plain
        assert matplotlib.rcParams == before


def test_fonts_are_embedded_as_truetype(tmp_path: Path):
    pdf = style.save(figure("lag $k$"), tmp_path / "fonts")[0].read_bytes()
    fonts = re.findall(rb"/BaseFont /([\w+-]+)", pdf)
    assert fonts
    assert all(b"DejaVuSans" in font for font in fonts)
    assert pdf.count(b"/FontFile2") == pdf.count(b"/Type /FontDescriptor") > 0
    assert b"/Subtype /Type3" not in pdf
    assert b"CreationDate" not in pdf


def test_widths_are_exact_and_the_note_makes_room_for_itself(tmp_path: Path):
    png = style.save(figure(), tmp_path / "wide")[1]
    with Image.open(png) as image:
        assert image.width == pytest.approx(style.ONE_COLUMN * style.DPI, abs=1)
    short, _ = style.panels(1, 1)
    long, axes = style.panels(1, 1, note="one\ntwo\nthree")
    assert short.get_figwidth() == long.get_figwidth() == style.TWO_COLUMNS
    assert long.get_figheight() > short.get_figheight()
    box = axes[0, 0].get_position()
    assert box.height * long.get_figheight() == pytest.approx(1.3)


@pytest.mark.parametrize(
    ("places", "numbered"),
    [
        ([10, 20, 40, 80, 160], ["10", "20", "40", "80", "160"]),
        ([10, 20, 40, 80, 160, 320, 640, 1000], ["10", "20", "40", "80", "160", "320", "", "1000"]),
        ([64, 65, 66, 128], ["64", "", "", "128"]),
        ([64, 127, 128], ["64", "", "128"]),
        ([64, 65], ["64", ""]),
    ],
)
def test_ticks_are_numbered_where_there_is_room(places: list[int], numbered: list[str]):
    _, axes = style.panels(1, 3)
    ax = axes[0, 0]
    ax.set_xscale("log")
    ax.set_xlim(places[0] / 1.2, places[-1] * 1.2 if len(places) > 2 else 1e4)
    style.log_ticks(ax, places)
    assert ax.get_xticks().tolist() == places
    assert [label.get_text() for label in ax.get_xticklabels()] == numbered


def test_no_figure_is_left_to_pyplot():
    import matplotlib.pyplot as plt

    figure()
    assert plt.get_fignums() == []
