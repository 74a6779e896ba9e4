"""Chat templates run apart: the same text as in transformers, and an end to all of them."""

import time

import pytest
from transformers import PreTrainedTokenizerFast

from secondary_sinks.errors import TextError
from secondary_sinks.texts import Text, template_process, tokenize
from tests.texts import templates as published
from tests.tiny import TEMPLATE, tiny_tokenizer

TALK = [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Me. 😀\u2028"}]
FOREVER = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"


def rendered(template, **variables):
    return template_process.render_template(tiny_tokenizer(template), TALK, variables)


@pytest.mark.parametrize(
    "template",
    [
        TEMPLATE,
        published.R1,
        "{{ bos_token }}{{ eos_token }}{% if add_generation_prompt %}!{% endif %}",
        "{% generation %}{{ messages | tojson }}{% endgeneration %}",
        "{{ strftime_now('%Y') }}{% for m in messages %}{% break %}{% endfor %}",
    ],
)
@pytest.mark.parametrize("answer", [True, False])
def test_it_is_what_transformers_renders(template, answer):
    theirs = tiny_tokenizer(template).apply_chat_template(
        TALK, tokenize=False, add_generation_prompt=answer
    )
    assert rendered(template, add_generation_prompt=answer) == theirs


def test_a_template_without_end_is_ended_and_others_go_on(monkeypatch):
    rendered(TEMPLATE)  # the process is there
    monkeypatch.setattr(template_process, "SECONDS", 0.3)
    start = time.monotonic()
    with pytest.raises(TextError, match=r"it takes longer than 0\.3 s"):
        rendered(FOREVER)
    assert time.monotonic() - start < 5
    monkeypatch.undo()
    assert "Who?" in rendered(TEMPLATE)


BOUNDED = {
    "memory": ("{{ 'a' * 10**11 }}", "more memory than a template may have"),
    "length": ("{{ 'a' * 1500000 }}", r"writes 1,500,000 characters, expected at most 1,000,\d+"),
    "code": ("{{ ().__class__.__base__ }}", "unsafe"),
    "a fault of its own": ("{{ messages.foo.bar.baz }}", "foo"),
    "its own refusal": ("{{ raise_exception('roles must alternate') }}", "roles must alternate"),
}


@pytest.mark.parametrize("name", BOUNDED)
def test_what_a_template_must_not_do_is_refused(name):
    template, said = BOUNDED[name]
    with pytest.raises(TextError, match=said):
        rendered(template)


class WithOwnCode(PreTrainedTokenizerFast):
    """A tokenizer whose chats are written by a function that never ends."""

    def apply_chat_template(self, *arguments, **options):
        while True:
            time.sleep(0.01)


@pytest.mark.parametrize("of_class", [True, False], ids=["of its class", "put on it"])
def test_a_tokenizer_that_writes_chats_by_its_own_code_is_refused(of_class):
    tokenizer = tiny_tokenizer(TEMPLATE)
    if of_class:
        backend = tokenizer.backend_tokenizer
        tokenizer = WithOwnCode(tokenizer_object=backend, chat_template=TEMPLATE)
    else:
        tokenizer.apply_chat_template = lambda *arguments, **options: "something else"
    text = Text(text_id="t", messages=tuple(TALK))
    with pytest.raises(TextError, match=r"writes chats by code of its own.*; use --feed raw"):
        tokenize(text, tokenizer, "chat")
    assert len(tokenize(text, tokenizer, "raw").tokens) > 2


def test_of_several_templates_one_must_be_the_default():
    tokenizer = tiny_tokenizer({"one": TEMPLATE, "two": TEMPLATE})
    with pytest.raises(TextError, match="no default"):
        template_process.render_template(tokenizer, TALK, {})
