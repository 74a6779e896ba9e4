"""The explorer in a real browser, without a notebook: a page that stands between it and Python."""

import base64
import json

import pytest

from secondary_sinks.notebook import SinkExplorer
from tests.browser.explorer import planted, says, use
from tests.marks import exhaustive

HOST = """
async ({ script, style, state }) => {
  const listeners = {};
  const told = (name, ...rest) => [...(listeners[name] ?? [])].forEach((act) => act(...rest));
  let changed = {};
  const received = (answer) => {
    Object.assign(state, answer.state);
    Object.keys(answer.state).forEach((name) => told(`change:${name}`));
    for (const [content, buffers] of answer.messages) {
      const bytes = buffers.map((one) => Uint8Array.from(atob(one), (char) => char.charCodeAt(0)));
      told("msg:custom", content, bytes.map((one) => new DataView(one.buffer)));
    }
  };
  const model = {
    get: (name) => state[name],
    set: (name, value) => ((changed[name] = state[name] = value), told(`change:${name}`)),
    save_changes: async () => {
      const sent = changed;
      changed = {};
      received(await window.kernel("state", sent));
    },
    send: async (content) => received(await window.kernel("message", content)),
    on: (name, act) => (listeners[name] ??= []).push(act),
    off: (name, act) => (listeners[name] = listeners[name].filter((one) => one !== act)),
  };
  const url = URL.createObjectURL(new Blob([script], { type: "text/javascript" }));
  const { default: widget } = await import(url);
  document.head.append(Object.assign(document.createElement("style"), { textContent: style }));
  widget.render({ model, el: document.body });
}
"""
SHOWN = (
    "setup",
    "choice",
    "page",
    "map",
    "marks",
    "curves",
    "table",
    "trials",
    "code",
    "status",
    "error",
)
SHOWN += ("progress",)


class Kernel:
    """What a notebook's kernel is to the page: it takes what is sent, and answers with changes."""

    def __init__(self, explorer):
        self.explorer, self.messages = explorer, []
        explorer.send = lambda content, buffers: self.messages.append((content, buffers))
        self.known = self.state()

    def state(self):
        return json.loads(json.dumps({name: getattr(self.explorer, name) for name in SHOWN}))

    def answer(self, kind, content):
        if kind == "state":
            self.known |= content
            self.explorer.set_state(content)
        else:
            self.explorer._handle_custom_msg(content, [])
        now, sent = self.state(), self.messages
        changed = {name: value for name, value in now.items() if value != self.known[name]}
        self.known, self.messages = now, []
        encoded = [[one, [base64.b64encode(b).decode() for b in many]] for one, many in sent]
        return {"state": changed, "messages": encoded}


@pytest.fixture
def shown(visit, tmp_path):
    """The explorer of a text with hostile tokens, in a page of its own."""

    def show(**options):
        (tmp_path / "page.html").write_text("<!doctype html><title>explorer</title>", "utf-8")
        found, kernel = visit(tmp_path / "page.html", **options), Kernel(SinkExplorer(*planted()))
        found.page.expose_function("kernel", kernel.answer)
        sources = {"script": str(kernel.explorer._esm), "style": str(kernel.explorer._css)}
        found.page.evaluate(HOST, sources | {"state": kernel.known})
        return found

    return show


def test_mouse_keyboard_and_hostile_tokens(shown, tmp_path):
    found = shown()
    use(found.page, tmp_path)
    assert found.said == [], "nor did any token run, nor the console complain"
    assert found.asked == []


@exhaustive
def test_it_fits_a_narrow_window_in_the_dark(shown):
    found = shown(width=420, dark=True)
    page = found.page
    page.get_by_label("zero", exact=True).check()
    says(page, "lifetime 3 to 0 layers")
    page.locator(".sinks .main-svg").nth(1).wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= 420


def test_strip_map_edit_outcome_and_curves_are_on_one_screen(shown):
    page = shown(width=900, height=900).page
    page.get_by_label("zero", exact=True).check()
    says(page, "lifetime 3 to 0 layers")
    page.locator(".sinks .main-svg").nth(3).wait_for()
    boxes = [page.locator(f".sinks {part}") for part in (".strip", "fieldset", ".status", "table")]
    boxes += [page.locator(".sinks .figure").nth(number) for number in (0, 1)]
    for box in (one.bounding_box() for one in boxes):
        assert 0 <= box["y"] < box["y"] + box["height"] <= 900
        assert box["x"] + box["width"] <= 900
    table = page.locator(".sinks .scroll")
    assert table.evaluate("e => e.scrollWidth <= e.clientWidth"), "no column is cut off"


@exhaustive
def test_single_heads_are_chosen_in_a_field_that_other_sites_lack(shown):
    page = shown().page
    field = page.get_by_label("heads", exact=True)
    page.get_by_label("of the", exact=True).select_option("z")
    field.fill("0-1")
    field.press("Enter")
    page.get_by_label("zero", exact=True).check()
    says(page, "Zero the head outputs of layer")
    says(page, "(heads 0-1)")
    field.fill("99")
    field.press("Enter")
    page.get_by_text("head 99 is out of range").wait_for()
    assert field.input_value() == "0-1", "what is not possible changes nothing"
    page.get_by_label("of the", exact=True).select_option("mlp_out")
    assert page.get_by_label("coordinates", exact=True).input_value() == ""


@exhaustive
def test_every_control_has_a_name_that_is_read_out(shown):
    page = shown().page
    page.get_by_label("zero", exact=True).check()
    says(page, "lifetime 3 to 0 layers")
    nameless = """() => [...document.querySelectorAll(".sinks button, .sinks input, .sinks select")]
        .filter((one) => !(one.labels?.length || one.textContent.trim() || one.ariaLabel))
        .map((one) => one.outerHTML)"""
    assert page.evaluate(nameless) == []
    stops = page.locator(".sinks .strip button[tabindex='0']")
    assert stops.count() == 1, "the strip is one stop of the tab key"
    assert page.locator(".sinks [role=status]").count() == 1
    assert page.locator(".sinks [role=alert]").count() == 1
