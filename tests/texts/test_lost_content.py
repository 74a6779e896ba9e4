"""Nothing that a message says is left out of what is fed without a word."""

import json

import pytest

from secondary_sinks.errors import TextError
from secondary_sinks.texts import parse_jsonl, tokenize
from secondary_sinks.texts.chat_template import MARKS
from secondary_sinks.texts.feeds import parse_feed
from tests.texts import templates
from tests.tiny import tiny_tokenizer

THINKING = "<think>" + "Three boats, then six. " * 12 + "</think>"
BOATS = {"prompt": "How many boats?", "output": f"{THINKING}About nine boats pass."}


def talk(*turns):
    """A conversation of (role, content, further keys)."""
    roles = [{"role": role, "content": content} | more for role, content, more in turns]
    return {"messages": roles}


def fed(record, template, feed="auto"):
    (text,) = parse_jsonl(json.dumps({"id": "t"} | record), "mine")
    return tokenize(text, tiny_tokenizer(template), feed)


ASKED = ("user", "Who is there?", {})
CALL = {"type": "function", "id": "1", "function": {"name": "find", "arguments": {"city": 'Ł"ódź'}}}
LOST = {
    "reasoning in the content": (BOATS, templates.R1, "290 of the 313 characters of message 2"),
    "reasoning that the content ends with": (
        BOATS | {"output": f"Wait. {THINKING}"},
        templates.R1,
        "of message 2 (assistant), 'Wait.<think>Three boats",
    ),
    "reasoning_content": (
        talk(ASKED, ("assistant", "Me.", {"reasoning_content": "Nobody else."})),
        templates.PLAIN,
        "'reasoning_content' of message 2 (assistant), 'Nobody else.'",
    ),
    "a name": (
        talk(("user", "Who is there?", {"name": "Zoe"})),
        templates.PLAIN,
        "'name' of message 1 (user), 'Zoe'",
    ),
    "a name that is in the text too": (
        talk(("user", "Zoe asks: who is there?", {"name": "Zoe"})),
        templates.PLAIN,
        "'name' of message 1 (user), 'Zoe'",
    ),
    "a number that is in the text too": (
        talk(ASKED, ("assistant", "1 boat.", {"weight": 1})),
        templates.PLAIN,
        "'weight' of message 2 (assistant), '1'",
    ),
    "a zero": (
        talk(ASKED, ("assistant", "Me.", {"weight": 0})),
        templates.PLAIN,
        "'weight' of message 2 (assistant), '0'",
    ),
    "false": (
        talk(("user", "Who?", {"prefix": False})),
        templates.PLAIN,
        "'prefix' of message 1 (user), 'false'",
    ),
    "tool calls": (
        talk(ASKED, ("assistant", None, {"tool_calls": [CALL]})),
        templates.STRIPPING,
        "'tool_calls' of message 2",
    ),
    "earlier turns": (
        talk(ASKED, ("assistant", "Me.", {}), ("user", "And now?", {})),
        templates.LAST_ONLY,
        "13 of the 13 characters of message 1 (user), 'Who is there?', and 1 more",
    ),
    "a turn whose content is elsewhere by accident": (
        talk(("user", "Hi", {}), ("assistant", "assistant", {}), ("user", "user", {})),
        templates.USER_ONLY,
        "message 2 (assistant)",
    ),
    "a turn that the template says itself": (
        talk(("system", "user", {}), ASKED),
        templates.USER_ONLY,
        "the content of message 1 (system), 'user'",
    ),
    "a turn that another seems to hold with its mark": (
        talk(("system", "assistant", {}), ("user", f"An assistant{MARKS[0]} came.", {})),
        templates.USER_ONLY,
        "the content of message 1 (system), 'assistant'",
    ),
    "the end of a long one": (
        talk(("user", "One, two, three, four, five, six", {})),
        templates.CUTTING,
        "12 of the 32 characters of message 1 (user), 'r, five, six'",
    ),
    "upper case": (talk(("user", "WHO?", {})), templates.LOWER, "4 of the 4 characters"),
    "parts as code": (
        talk(("user", [{"type": "text", "text": "Who is there?"}], {})),
        templates.PLAIN,
        "its parts are written out as code",
    ),
}


@pytest.mark.parametrize("name", LOST)
def test_what_a_template_leaves_out_is_refused_with_the_choices(name):
    record, template, said = LOST[name]
    with pytest.raises(TextError) as caught:
        fed(record, template)
    message = str(caught.value)
    assert message.startswith("text 't': the chat template leaves out ")
    assert said in message
    assert "--feed chat:NAME=VALUE" in message
    assert "--feed chat:lossy" in message
    accepted = fed(record, template, "chat:lossy")
    assert accepted.feed == "chat:lossy"


KEPT = {
    "reasoning with the option": (BOATS, templates.R1, "chat:keep_thinking=true", THINKING),
    "white space at the ends": (
        talk(("user", "  Who?\n\n", {})),
        templates.STRIPPING,
        "auto",
        "Who?",
    ),
    "white space around the tags": (
        talk(ASKED, ("assistant", "Me.", {"reasoning_content": "\nNobody.\n"})),
        templates.REASONING,
        "auto",
        "<think>\nNobody.\n</think>\n\nMe.",
    ),
    "a system message that comes late": (
        talk(("system", "Be kind.", {}), ASKED, ("assistant", "Me.", {}), ("user", "Why?", {})),
        templates.SYSTEM_LATE,
        "auto",
        "Be kind. [Why?]",
    ),
    "tool calls": (
        talk(ASKED, ("assistant", "", {"tool_calls": [CALL]})),
        templates.TOOLS,
        "auto",
        '"Ł\\"ódź"',
    ),
    "parts": (
        talk(("user", [{"type": "text", "text": "Who is"}, {"type": "text", "text": " it?"}], {})),
        templates.PARTS,
        "auto",
        "Who is it?",
    ),
    **{
        f"keys without content: {nothing!r}": (
            talk(("user", "Who?", {"name": nothing})),
            templates.PLAIN,
            "auto",
            "Who?",
        )
        for nothing in (None, "", [], {})
    },
}


@pytest.mark.parametrize("name", KEPT)
def test_what_is_fed_whole_is_taken(name):
    record, template, feed, said = KEPT[name]
    assert said in fed(record, template, feed).fed


def test_raw_feeds_reasoning_in_the_content_and_refuses_other_keys():
    assert THINKING in fed(BOATS, templates.R1, "raw").fed
    record = LOST["reasoning_content"][0]
    with pytest.raises(TextError, match="leaves out 'reasoning_content' of message 2"):
        fed(record, templates.R1, "raw")
    assert fed(record, templates.R1, "raw:lossy").fed == "Who is there?\n\nMe."


@pytest.mark.parametrize(
    "feed",
    ["chat:", "auto:lossy", "raw:x=1", "chat:lossy2", "chat:a=1,a=2", "chat:=1", "chat:a b=1"],
)
def test_words_that_are_no_feed_are_refused(feed):
    with pytest.raises(TextError, match=r"unknown feed .*chat:NAME=VALUE|has 'a' twice"):
        fed(BOATS, templates.R1, feed)


def test_a_text_that_leaves_no_character_for_marks_is_refused():
    with pytest.raises(TextError, match=r"all 6399 private-use characters .* chat:lossy"):
        fed(talk(("user", "".join(MARKS), {})), templates.PLAIN)


def test_the_prompt_of_an_answer_is_no_option_of_a_text():
    with pytest.raises(TextError, match="only `generate` sets add_generation_prompt; leave it out"):
        fed(BOATS, templates.R1, "chat:add_generation_prompt=true")


@pytest.mark.parametrize("name", ["no_such_option", "tokenize", "chat_template"])
def test_an_option_that_the_template_does_not_have_is_refused(name):
    with pytest.raises(TextError, match=f"it has no variable '{name}'"):
        fed(BOATS, templates.R1, f"chat:{name}=1")


def test_a_value_that_is_no_plain_json_is_a_string():
    deep = "[" * 100_000
    assert parse_feed(f"chat:x={deep},y=2").options == {"x": deep, "y": 2}
