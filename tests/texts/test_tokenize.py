"""What is fed to a model is exactly what its own tokenizer and template make of a text."""

import pytest
import torch
from tokenizers import Regex, normalizers

from secondary_sinks.errors import TextError
from secondary_sinks.texts import Text, tokenize
from secondary_sinks.texts.tokenize import encode
from tests.tiny import REFUSING, TEMPLATE, tiny_tokenizer

PLAIN = Text(text_id="p", plain="Hello, caf\u00e9 \U0001f600!")
TALK = Text(
    text_id="t",
    messages=({"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Me."}),
)
ASKED = [{"role": "user", "content": PLAIN.raw}]


@pytest.fixture(scope="module")
def with_template():
    return tiny_tokenizer(TEMPLATE)


@pytest.fixture(scope="module")
def without_template():
    return tiny_tokenizer()


def template_ids(tokenizer, messages):
    return tokenizer.apply_chat_template(messages, tokenize=True, return_dict=False)


@pytest.mark.parametrize("text", [PLAIN, TALK])
def test_raw_is_the_tokenizer_itself(text, with_template):
    fed = tokenize(text, with_template, "raw")
    assert fed.tokens.tolist() == with_template(text.raw)["input_ids"]
    assert (fed.text_id, fed.feed, fed.fed) == (text.text_id, "raw", text.raw)


def test_raw_keeps_the_special_tokens_that_the_tokenizer_adds(with_template):
    from tokenizers.processors import TemplateProcessing

    tokenizer = tiny_tokenizer(TEMPLATE)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", tokenizer.bos_token_id)]
    )
    plain = with_template(PLAIN.raw)["input_ids"]
    assert tokenize(PLAIN, tokenizer, "raw").tokens.tolist() == [tokenizer.bos_token_id, *plain]
    chat = tokenize(TALK, tokenizer, "chat").tokens.tolist()
    assert chat == template_ids(tokenizer, list(TALK.messages)), "the template alone writes <s>"


def adding(before, after=""):
    """A tokenizer that adds special tokens around a text."""
    from tokenizers.processors import TemplateProcessing

    tokenizer = tiny_tokenizer(TEMPLATE)
    tokens = [("<s>", tokenizer.bos_token_id), ("</s>", tokenizer.eos_token_id)]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{before} $A {after}".strip(), special_tokens=tokens
    )
    return tokenizer


@pytest.mark.parametrize("after", ["", "</s>"])
@pytest.mark.parametrize("given", ["Hi", "<s>Hi", "<s>Hi</s>", "Hi</s>", "<s><s>Hi"])
def test_raw_is_fed_with_each_special_token_once_and_fed_says_it(given, after):
    tokenizer = adding("<s>", after)
    fed = tokenize(Text(text_id="t", plain=given), tokenizer, "raw")
    exact = given if given.startswith("<s>") else f"<s>{given}"
    exact = exact if exact.endswith(after) else exact + after
    assert fed.fed == exact
    assert fed.tokens.tolist() == tokenizer(exact, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize(("text", "messages"), [(PLAIN, ASKED), (TALK, list(TALK.messages))])
def test_chat_is_the_template(text, messages, with_template):
    fed = tokenize(text, with_template, "chat")
    assert fed.tokens.tolist() == template_ids(with_template, messages)
    assert fed.fed == with_template.apply_chat_template(messages, tokenize=False)
    assert fed.fed.startswith("<s>user: ")
    assert fed.feed == "chat"


@pytest.mark.parametrize(("text", "template", "feed"), [(PLAIN, True, "raw"), (TALK, True, "chat")])
def test_auto_is_chat_for_conversations_only(text, template, feed, with_template):
    assert tokenize(text, with_template).feed == feed


def test_auto_is_raw_without_a_template(without_template):
    assert tokenize(TALK, without_template).feed == "raw"


def test_nothing_is_truncated(with_template):
    long = Text(text_id="long", plain="x" * 5000)
    assert len(tokenize(long, with_template).tokens) == 5000


@pytest.mark.parametrize("feed", ["chatt", "", "RAW"])
def test_an_unknown_feed_is_named(feed, with_template):
    with pytest.raises(TextError, match=f"unknown feed {feed!r}; expected one of auto, chat, raw"):
        tokenize(PLAIN, with_template, feed)


def test_chat_without_a_template_is_refused(without_template):
    with pytest.raises(TextError, match="no chat template; use --feed raw"):
        tokenize(PLAIN, without_template, "chat")


def test_a_template_that_refuses_says_so():
    with pytest.raises(
        TextError, match=r"'t' does not fit the chat template .*roles must alternate"
    ):
        tokenize(TALK, tiny_tokenizer(REFUSING))


def test_a_broken_template_is_a_text_error():
    with pytest.raises(TextError, match="chat template"):
        tokenize(TALK, tiny_tokenizer("{% for m in messages %}"))


def test_a_model_without_tokenizer_cannot_be_fed_text():
    with pytest.raises(TextError, match="no tokenizer"):
        tokenize(PLAIN, None)


def test_one_token_is_too_short(with_template):
    with pytest.raises(TextError, match=r"'one' has 1 token;"):
        tokenize(Text(text_id="one", plain="x"), with_template)
    assert len(tokenize(Text(text_id="two", plain="xy"), with_template).tokens) == 2


def test_a_tokenizer_that_panics_is_an_error_and_an_interrupt_is_none():
    """A panic in Rust is no `Exception`: here of an expression that tries for too long."""
    tokenizer = tiny_tokenizer()
    tokenizer.backend_tokenizer.normalizer = normalizers.Replace(Regex("(a+)+$"), "")
    with pytest.raises(TextError, match="the tokenizer cannot read 'aaaa"):
        encode(tokenizer, "a" * 40 + "b")

    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        encode(interrupted, "a")


TURN = {"role": "user", "content": "Who?"}
NO_TEXTS = {
    "both": ({"plain": "a b", "messages": (TURN,)}, "both of plain and messages"),
    "neither": ({}, "neither of plain and messages"),
    "another role": ({"messages": (TURN | {"role": "alien"},)}, "each message needs a role"),
    "no content": ({"messages": (TURN | {"content": ""},)}, "the content of a message is empty"),
    "no name": ({"text_id": "", "plain": "a b"}, "text_id is ''; expected a name"),
    "half a pair in the name": ({"text_id": "\ud800", "plain": "a b"}, "half a surrogate pair"),
    "stored": (
        {"text_id": "a", "plain": "a b", "stored": [1]},
        "stored is .1.; expected StoredIds",
    ),
    "messages as a string": (
        {"text_id": "a", "messages": "hi"},
        "messages is 'hi'; expected a list",
    ),
    **{
        f"a message with {what}": (
            {"text_id": "a", "messages": ({"role": "user", "content": "Hi", "k": value},)},
            f"text 'a': {named}",
        )
        for what, value, named in (
            ("bytes", b"x", "a message holds what JSON cannot"),
            ("NaN", float("nan"), "a message holds what JSON cannot"),
            ("numbers as keys", {1: "x"}, r"a message holds what JSON cannot \(it would come back"),
            ("half a pair", "\ud800", "half a surrogate pair"),
        )
    },
    "tokens as a tensor": ({"text_id": "a", "plain": "b", "first": torch.tensor([1])}, "first is"),
    "a number as a name": ({"text_id": 5, "plain": "a b"}, "text_id is 5; expected a name"),
    "a number": ({"plain": 5}, "plain is 5; expected a string"),
    "half a pair": ({"plain": "a \ud83d"}, "half a surrogate pair; expected whole characters"),
}


@pytest.mark.parametrize(("given", "named"), NO_TEXTS.values(), ids=NO_TEXTS)
def test_a_text_in_python_is_checked_as_its_file_is(given, named):
    text = Text(text_id="t", plain="a b")
    for name, value in ({"text_id": "t", "plain": None, "messages": ()} | given).items():
        object.__setattr__(text, name, value)
    with pytest.raises(TextError, match=named):
        text.__post_init__()
