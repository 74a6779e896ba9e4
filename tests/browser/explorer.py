"""What a person does with the explorer in a browser, wherever it is shown."""

from secondary_sinks.testing import Plant, plant


class Words:
    """A tokenizer whose tokens would like to be markup."""

    padding_side, bos_token_id, pad_token_id = "right", None, None

    def decode(self, ids):
        hostile = {1: "<img src=x onerror=alert(1)>", 20: "</script>", 21: "%{x}<b>"}
        return hostile.get(ids[0], " word")

    def convert_ids_to_tokens(self, ids):
        return self.decode([ids]) if isinstance(ids, int) else [self.decode([one]) for one in ids]


def planted():
    """A text of two pages with a sink on each, the stronger one on the second; and its model."""
    sinks = [Plant(pos=20, forming=(3,)), Plant(pos=300, forming=(5,))]
    made = plant([Plant(pos=0, forming=(1,), strength=400.0), *sinks], n_pos=320)
    made.model.tokenizer = Words()
    return made.model, made.tokens


def says(page, text):
    """Wait until the explorer says this."""
    page.locator(".sinks .status").filter(has_text=text).wait_for()


def use(page, folder):
    """Everything that can be done: by mouse, then by keyboard alone."""
    _by_mouse(page, folder)
    _by_keyboard(page)
    assert page.locator(".sinks img").count() == 0, "no token became markup"


def _by_mouse(page, folder):
    explorer, strip = page.locator(".sinks"), page.locator(".sinks .strip button")

    def button(name):
        return explorer.get_by_role("button", name=name, exact=True)

    # A token and an edit: the result is there, beside its control.
    assert strip.count() == 320 - 256, "it begins at the strongest sink, on the second page"
    button("Earlier tokens").click()
    strip.nth(255).wait_for()
    assert strip.nth(20).inner_text() == "<img\u2423src=x\u2423onerror=alert(1)>"
    strip.nth(20).click()
    explorer.get_by_role("slider", name="Layer").fill("3")
    explorer.get_by_label("zero", exact=True).check()
    says(page, "lifetime 5 to 0 layers")
    assert "control (twin)" in explorer.locator("table").inner_text()

    # The map is plotly's own, and a click in it chooses a token and a layer.
    explorer.locator(".main-svg").nth(1).wait_for()
    area = explorer.locator(".figure").first.locator(".nsewdrag").bounding_box()
    page.mouse.click(area["x"] + area["width"] * 100.5 / 256, area["y"] + area["height"] * 2.5 / 8)
    says(page, "layer 5 at ")
    says(page, "(position 100)")
    button("Undo").click()
    says(page, "lifetime 5 to 0 layers")

    # Total effects, Python, the list of trials, and what is refused.
    button("Total effect").click()
    explorer.locator("tbody tr").nth(6).wait_for()
    assert "direct_and_total" in explorer.locator("pre").text_content()
    explorer.locator("ol button").nth(1).click()
    says(page, "(position 100)")
    explorer.get_by_label("Run folder").fill(str(folder / "explored"))
    button("Export").click()
    says(page, "Written to ")
    button("Export").click()
    explorer.locator(".error").filter(has_text="not empty").wait_for()


def _by_keyboard(page):
    strip = page.locator(".sinks .strip button")
    strip.nth(40).focus()
    for key in ("Enter", "ArrowRight", "ArrowRight", "d"):
        page.keyboard.press(key)
    says(page, "from position 42")
    strip.nth(40).focus()
    page.keyboard.press("ArrowDown")
    says(page, "of layer 4 ")
    assert strip.count() == 256
    page.keyboard.press("End")
    page.keyboard.press("ArrowRight")  # over the edge of the page
    page.locator(":focus[aria-label*='position 256']").wait_for()
    assert strip.count() == 320 - 256
    page.keyboard.press("Enter")
    says(page, "(position 256)")
