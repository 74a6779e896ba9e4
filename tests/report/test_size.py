"""Pages of long texts stay small enough to send and to open."""

from tests.marks import exhaustive
from tests.report.long import SINKS, TOKENS, long_page
from tests.report.pages import Html


@exhaustive
def test_a_page_of_16000_tokens_is_below_8_megabytes_and_leaves_no_token_out():
    source = long_page()
    assert len(source.encode()) < 8e6
    html = Html(source)
    marked = [attrs for attrs in html.of("mark") if "tabindex" in attrs]
    assert len(marked) >= SINKS + 1
    start = source.rindex('<p class="strip"')
    strip = source[start : source.index("</p>", start)]
    assert strip.count("<span>") + strip.count("<mark") == TOKENS
    assert strip.count("<mark") == SINKS + 1
