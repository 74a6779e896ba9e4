"""report.html in a real browser, opened from the disk as people open it."""

from pathlib import Path

import pytest

from secondary_sinks.plots.labels import make_visible
from tests.marks import exhaustive, thinned
from tests.plots import frames
from tests.plots.frames import HOSTILE
from tests.report.long import long_page
from tests.report.pages import attended, page, record, verdict
from tests.report.test_hostile_text import hostile_page

DRAWN = "() => [...document.querySelectorAll('.figure')].every(e => e.querySelector('svg'))"


@pytest.fixture
def opened(visit, tmp_path):
    """Visit a page that lies in a file, and wait until its figures are drawn."""

    def opened(content, **options):
        path = tmp_path / "report.html"
        path.write_text(content, encoding="utf-8", errors="backslashreplace")
        found = visit(path, **options)
        found.page.wait_for_function(DRAWN)
        return found

    return opened


@pytest.mark.parametrize("dark", thinned([False, True], [False]))
def test_a_report_opens_from_disk_and_is_quiet_and_asks_for_nothing(opened, dark):
    found = opened(page(), dark=dark)
    assert found.page.locator("h1").inner_text().endswith("tiny")
    assert found.page.locator(".figure svg").count() >= 4
    assert found.said == []
    assert found.asked == []
    print(f"load took {found.seconds:.2f} s")


TOGETHER = "".join(HOSTILE)


@pytest.mark.parametrize("text", thinned([*HOSTILE, TOGETHER], [TOGETHER]))
def test_hostile_tokens_do_nothing_and_are_shown(opened, text):
    found = opened(hostile_page(text))
    assert found.said == []
    assert found.asked == []
    shown = found.page.locator(".strip mark").first.evaluate("e => e.firstChild.textContent")
    assert shown == make_visible(text)
    assert found.page.locator("main img, main iframe, main script[src]").count() == 0
    assert found.page.locator(".texts details").evaluate("e => e.open"), (
        "a short text alone is open"
    )
    for mark in found.page.locator(".strip mark").all():
        mark.hover()
    assert found.said == []


def test_the_first_screen_has_the_answer_a_sink_with_its_life_and_the_verdicts(opened):
    found = opened(page(), width=1280)
    for part in ("#phenomenon", "#life", ".pair .strip", ".verdicts details"):
        box = found.page.locator(part).first.bounding_box()
        assert box["y"] + box["height"] <= 900, part


@exhaustive
def test_the_contents_stay_in_view(opened):
    found = opened(page())
    found.page.evaluate("scrollTo({top: document.body.scrollHeight, behavior: 'instant'})")
    assert found.page.evaluate("scrollY") > 0
    assert found.page.locator("nav").bounding_box()["y"] == 0


@exhaustive
def test_a_folded_reason_is_printed(opened):
    found = opened(page())
    reason = found.page.locator(".verdicts details p").first
    assert not reason.is_visible()
    found.page.emulate_media(media="print")
    assert reason.is_visible()


def test_text_and_tables_are_there_without_javascript(visit, tmp_path):
    path = tmp_path / "report.html"
    path.write_text(page(), encoding="utf-8")
    found = visit(path, javascript=False)
    found.page.locator("#all summary").click()
    assert found.page.locator("#all table").is_visible()
    assert "secondary sink" in found.page.locator("main").inner_text()


UNFOLD = "document.querySelectorAll('details.fold').forEach(e => e.open = true)"


@pytest.mark.parametrize("most", thinned([4, None], [4]))
def test_every_figure_gives_its_data_and_its_picture(opened, most):
    found = opened(page())
    found.page.evaluate(UNFOLD)
    names = [place.get_attribute("id") for place in found.page.locator(".figure").all()][:most]
    assert len(names) >= 4
    for number, name in enumerate(names):
        content = {}
        if number and number % 4 == 0:  # a browser asks before a page downloads more than ten files
            found = opened(page())
            found.page.evaluate(UNFOLD)
        for kind, suffix in (("table", "csv"), ("picture", "svg")):
            with found.page.expect_download() as download:
                found.page.locator(f"[data-{kind}={name}]").click()
            assert download.value.suggested_filename == f"secondary-sinks-{name}.{suffix}"
            content[suffix] = Path(download.value.path()).read_text(encoding="utf-8")
        assert len(content["csv"].splitlines()) > 1
        assert content["svg"].startswith("<svg")
        assert "</svg>" in content["svg"][-10:]
    assert found.said == []
    assert found.asked == []


def test_a_phone_sees_the_page_without_scrolling_sideways(opened):
    without_bars = record(verdicts=[verdict(low=float("nan"))])
    found = opened(page(answers=attended(), record=without_bars), width=390)
    found.page.evaluate(UNFOLD)
    assert found.page.evaluate("document.documentElement.scrollWidth") <= 390
    assert found.page.locator(".verdicts .what").first.bounding_box()["width"] > 250


@exhaustive
def test_a_printed_page_has_its_figures_and_no_buttons(opened):
    found = opened(page())
    content = found.page.pdf(format="A4")
    assert content.startswith(b"%PDF")
    found.page.emulate_media(media="print")
    assert not found.page.locator(".get").first.is_visible()
    assert found.page.locator(".figure svg").first.is_visible()
    assert found.said == []


@exhaustive
def test_a_long_text_opens(opened):
    """How quickly depends on the machine, so that is printed and not judged."""
    found = opened(long_page())
    assert found.page.locator(".strip span").count() > 15_000
    assert found.page.evaluate("document.documentElement.scrollHeight") < 5_000
    assert found.said == []
    size = len(found.page.content()) / 1e6
    print(f"16,000 tokens, {size:.1f} MB: load took {found.seconds:.2f} s")


ROWS = "() => [...document.querySelectorAll('table.sinks tbody tr')].filter(e => !e.hidden)"
PEAKS = ROWS + ".map(e => parseFloat(e.lastElementChild.textContent))"


def three_sinks():
    """A page of a primary and two secondary sinks."""
    secondary = [frames.sink(pos=pos, mass_max=mass) for pos, mass in ((5, 0.07), (7, 0.3))]
    return page(sinks=frames.sinks(frames.sink(pos=0, kind="primary", mass_max=0.6), *secondary))


@pytest.fixture
def table_of_sinks(opened):
    """Such a page with its table of all sinks open."""
    found = opened(three_sinks())
    found.page.locator("#all summary").click()
    return found.page


@exhaustive
def test_without_scripts_the_table_of_sinks_is_a_plain_table(visit, tmp_path):
    path = tmp_path / "report.html"
    path.write_text(three_sinks(), encoding="utf-8")
    found = visit(path, javascript=False).page
    found.locator("#all summary").click()
    assert found.locator("table.sinks tbody tr").count() == 3
    assert found.locator(".filter, table.sinks th button").count() == 0


@exhaustive
def test_the_table_of_sinks_is_sorted_by_any_column_and_filtered(table_of_sinks):
    page = table_of_sinks
    n_rows = page.locator("table.sinks tbody tr").count()
    heading = page.locator("table.sinks th", has_text="peak mass")
    heading.locator("button").press("Enter")
    assert heading.get_attribute("aria-sort") == "descending"
    peaks = page.evaluate(PEAKS)
    assert peaks == sorted(peaks, reverse=True)
    heading.locator("button").click()
    assert page.evaluate(PEAKS) == sorted(peaks)
    page.locator(".filter input").fill("primary")
    shown = page.evaluate(ROWS + ".length")
    assert 0 < shown < n_rows
    assert page.locator(".filter output").inner_text() == f"{shown} of {n_rows} shown"
    page.locator(".filter input").fill("")
    assert page.evaluate(ROWS + ".length") == n_rows


@pytest.mark.parametrize("by_key", thinned([False, True], [True]))
def test_a_row_leads_to_its_token_and_the_token_to_its_row(by_key, table_of_sinks):
    page = table_of_sinks
    row = page.locator("table.sinks tbody tr").nth(1)
    key = row.get_attribute("data-sink")
    row.press("Enter") if by_key else row.click()
    mark = page.locator(f".texts mark[data-sink='{key}']")
    assert mark.is_visible()
    assert page.evaluate(
        "document.activeElement.dataset.sink + document.activeElement.tagName"
    ) == (key + "MARK")
    assert {one.get_attribute("data-sink") for one in page.locator(".chosen").all()} == {key}
    mark.press("Enter") if by_key else mark.click()
    assert page.evaluate("document.activeElement.tagName") == "TR"
    assert row.get_attribute("class") == "chosen"


PLACE = """([id, x, y]) => {
    const e = document.getElementById(id), { xaxis, yaxis } = e._fullLayout;
    const box = e.getBoundingClientRect();
    return [box.x + xaxis._offset + xaxis.d2p(x), box.y + yaxis._offset + yaxis.d2p(y)]; }"""
FRAMES = "id => document.getElementById(id).layout.shapes?.length ?? 0"


def click_in(page, figure, x, y):
    page.locator(f"#{figure}").scroll_into_view_if_needed()
    page.mouse.click(*page.evaluate(PLACE, [figure, x, y]))


def chosen(page, kind):
    return {one.get_attribute("data-sink") for one in page.locator(f"{kind}.chosen").all()}


def test_a_row_of_a_map_leads_to_its_sink_and_the_sink_is_framed_in_the_map(opened):
    found = opened(page())
    report = found.page
    for figure in ("sinks", "controls"):
        click_in(report, figure, 1, 0)
        assert chosen(report, "tr") == chosen(report, ".texts mark") != set()
        row = report.locator("tr.chosen")
        assert "secondary" in row.inner_text()
        assert row.is_visible()
        assert report.evaluate("document.activeElement.tagName") == "TR"
    assert [report.evaluate(FRAMES, one) for one in ("sinks", "controls", "levels")] == [1, 1, 1]
    report.locator("tr[data-sink]", has_text="primary").click()
    assert report.evaluate(FRAMES, "sinks") == 0, "no map has the primary"
    assert found.said == []


@exhaustive
def test_an_impossible_cell_says_why_and_leads_to_its_sink_as_others_do(opened):
    late = frames.effects()
    late["impossible"] = ["loss" if layer else "none" for layer in late["layer"]]
    report = opened(page(effects=late)).page
    report.locator("#sinks").scroll_into_view_if_needed()
    report.mouse.move(*report.evaluate(PLACE, ["sinks", 1, 0]))
    note = report.locator("#sinks .hoverlayer .hovertext")
    assert "impossible, too late to take any attention" in note.text_content()
    click_in(report, "sinks", 1, 0)
    assert chosen(report, "tr") != set()
    assert "secondary" in report.locator("tr.chosen").inner_text()


@exhaustive
def test_a_figure_that_was_folded_is_as_wide_as_its_place_once_it_is_shown(opened):
    report = opened(page()).page
    assert not report.locator("#judged-necessity svg").first.is_visible()
    report.locator("summary", has_text="Statistics of the verdicts").click()
    place = report.locator("#judged-necessity").bounding_box()
    report.wait_for_function(
        "w => document.querySelector('#judged-necessity svg').getBoundingClientRect().width === w",
        arg=place["width"],
    )


@pytest.fixture
def attention(opened):
    """A page on which the attention to the secondary sink was chosen in the table of all sinks."""
    found = opened(page(answers=attended()))
    found.page.locator("#all summary").first.click()
    rows = found.page.locator("table.sinks tbody tr")
    assert [row.locator("button").count() for row in rows.all()] == [0, 1]
    rows.nth(1).locator("button").press("Enter")
    assert found.said == []
    return found.page


COLOUR = "e => getComputedStyle(e).getPropertyValue('--a')"


@exhaustive
def test_the_tokens_that_attend_to_a_chosen_sink_are_coloured_by_layer_and_head(attention):
    report, lists = attention, attention.locator(".pick select")
    tokens = report.locator(".attended > *")
    assert tokens.count() == frames.POSITIONS - 1
    assert tokens.first.evaluate("e => e.tagName") == "MARK"
    assert lists.nth(1).evaluate("e => e.selectedOptions[0].text") == "3", "the strongest layer"
    assert tokens.nth(1).get_attribute("title") == "50% of the attention of “⏎” at position 2"
    assert [float(tokens.nth(n).evaluate(COLOUR)) for n in (1, 3)] == [0.75, 0.38]
    lists.nth(1).select_option(label="2")
    assert tokens.nth(1).get_attribute("title").startswith("20% of")
    lists.nth(2).select_option(label="head 1, which reads it most")
    assert tokens.nth(1).get_attribute("title").startswith("40% of")
    assert report.locator("#attention-said").inner_text().startswith("These 10 tokens pay it 16%")


@exhaustive
def test_the_arrow_keys_tell_what_each_token_pays_until_another_sink_is_chosen(attention):
    strip, said = attention.locator(".attended"), attention.locator("#attention-said")
    for key, words in (
        ("ArrowRight", "50% of the attention of “⏎” at position 2"),
        ("ArrowRight", "33% of the attention of “a” at position 3"),
        ("ArrowLeft", "50% of"),
        ("End", "9.1% of the attention of “w7” at position 11"),
        ("ArrowRight", "9.1% of"),
    ):
        strip.press(key)
        assert said.inner_text().startswith(words)
    assert strip.locator(".chosen").count() == 1
    attention.locator("table.sinks tbody tr").nth(0).click()
    assert said.inner_text().startswith("9.1% of"), "the view has no numbers for the primary"
    attention.locator("table.sinks tbody tr").nth(1).click()
    assert said.inner_text().startswith("These 10 tokens pay it")


@exhaustive
def test_a_cell_of_the_level_map_shows_the_rows_of_its_sinks_only(opened):
    report = opened(three_sinks()).page
    click_in(report, "levels", 1, 2)
    assert report.evaluate(ROWS + ".length") == 2
    assert report.locator(".filter output").inner_text() == "2 of 3 shown"
    assert len(chosen(report, "tr")) == len(chosen(report, ".texts mark")) == 2
    report.locator(".filter input").fill("primary")
    assert report.evaluate(ROWS + ".length") == 1
