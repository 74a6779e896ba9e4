"""Formulas of the pages become MathML when the site is built."""

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

markdown = pytest.importorskip("markdown")
pytest.importorskip("latex2mathml", reason="latex2mathml is not installed")

from tools.formulas import BLOCK, INLINE, as_mathml  # noqa: E402

DOCS = Path(__file__).parents[2] / "docs"
PAGES = [page.read_text("utf-8") for page in sorted(DOCS.glob("*.md"))]
EXTENSIONS = ["tables", "pymdownx.superfences", "tools.formulas"]


def html(page):
    return markdown.markdown(page, extensions=EXTENSIONS)


def formulas_of(page):
    return BLOCK.findall(page) + re.findall(INLINE, page)


def test_every_formula_of_the_pages_is_understood_and_none_is_left_as_text():
    assert sum(len(formulas_of(page)) for page in PAGES) > 60
    for page in PAGES:
        found = formulas_of(page)
        assert html(page).count("<math ") == len(found)
        for tex in found:
            ElementTree.fromstring(as_mathml(tex.replace("\n", " ")))


def test_formulas_stand_in_lines_in_tables_and_alone():
    shown = html(
        "a $`x_i`$ b\n\n| a |\n|---|\n| $`\\lvert x \\rvert`$ |\n\n```math\n\\frac{1}{2}\n```\n"
    )
    assert re.search(r"<p>a <math[^>]*>.*<msub><mi>x</mi><mi>i</mi></msub>.*</math> b</p>", shown)
    assert re.search(r"<td><math[^>]*>.*</math></td>", shown)
    assert re.search(r'^<math[^>]*display="block"[^>]*>.*<mfrac>', shown, re.MULTILINE)


def test_code_with_a_dollar_stays_code():
    assert html("`$x$` and `echo $HOME`") == "<p><code>$x$</code> and <code>echo $HOME</code></p>"


@pytest.mark.parametrize("tex", [r"\nosuch x", r"\begin{aligned}a&=b\end{aligned}"])
def test_what_is_not_understood_is_refused(tex):
    with pytest.raises(ValueError, match=r"expected a formula in TeX, but .* is unknown"):
        as_mathml(tex)
