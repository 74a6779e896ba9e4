"""Readers: every fault has one error that names the place; nothing else is ever raised."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secondary_sinks.errors import SinkWarning, TextError
from secondary_sinks.texts import Text, bundled_corpus, parse_jsonl, read_texts, tokenize

GOOD = '{"text": "good as gold"}\n'
BAD_LINES = {
    "broken": ('{"text": ', "broken JSON"),
    "two-values": ('{"text": "a b"} {}', "broken JSON"),
    "nan": ('{"text": "a b", "score": NaN}', "NaN"),
    "infinity": ('{"text": "a b", "score": -Infinity}', "-Infinity"),
    "deep": ("[" * 200_000, "broken JSON: lists or objects are nested too deeply"),
    "huge-number": ('{"text": "a b", "score": ' + "9" * 5000 + "}", "broken JSON"),
    "list": ('["a", "b"]', "got list"),
    "string": ('"a b"', "got str"),
    "null": ("null", "got NoneType"),
    "key-twice": ('{"text": "a b", "text": "c d"}', "key 'text' appears twice"),
    "key-twice-inside": (
        '{"messages": [{"role": "user", "content": "a", "content": "b"}]}',
        "key 'content' appears twice",
    ),
    "id-twice": ('{"id": 1, "text": "a b", "id": 2}', "key 'id' appears twice"),
    "two-forms": ('{"text": "a b", "messages": []}', "got ['messages', 'text']"),
    "prompt-and-text": ('{"text": "a b", "prompt": "c"}', "got ['prompt', 'text']"),
    "half-surrogate-elsewhere": (
        '{"messages": [{"role": "user", "content": "a", "name": "\\udfff"}]}',
        "surrogate",
    ),
    "part-image": (
        '{"messages": [{"role": "user", "content": [{"type": "image", "url": "x"}]}]}',
        "expected only parts such as",
    ),
    "part-number": (
        '{"messages": [{"role": "user", "content": [{"type": "text", "text": 1}]}]}',
        "expected only parts such as",
    ),
    "parts-blank": (
        '{"messages": [{"role": "user", "content": [{"type": "text", "text": " "}]}]}',
        "content",
    ),
    "content-number": ('{"messages": [{"role": "user", "content": 7, "name": "n"}]}', "content"),
    "stored-list": ('{"text": "a b", "stored_ids": [1, 2]}', "'stored_ids' must be an object"),
    "no-text": ('{"body": "a b"}', "'body'"),
    "prompt-only": ('{"prompt": "a b"}', "'prompt'"),
    "text-number": ('{"text": 7}', "empty"),
    "text-blank": ('{"text": " \\t "}', "empty"),
    "half-surrogate": ('{"text": "a \\ud800 b"}', "surrogate"),
    "half-surrogate-id": ('{"id": "\\udfff", "text": "a b"}', "surrogate"),
    "id-null": ('{"id": null, "text": "a b"}', "None"),
    "id-blank": ('{"id": " ", "text": "a b"}', "' '"),
    "id-true": ('{"id": true, "text": "a b"}', "True"),
    "id-list": ('{"id": [1], "text": "a b"}', "[1]"),
    "messages-empty": ('{"messages": []}', "'messages'"),
    "messages-dict": ('{"messages": {"role": "user"}}', "'messages'"),
    "message-string": ('{"messages": ["hello"]}', "role"),
    "role-wrong": ('{"messages": [{"role": "robot", "content": "a"}]}', "role"),
    "role-missing": ('{"messages": [{"content": "a"}]}', "role"),
    "role-list": ('{"messages": [{"role": ["user"], "content": "a"}]}', "role"),
    "content-empty": ('{"messages": [{"role": "user", "content": ""}]}', "content"),
    "content-null": ('{"messages": [{"role": "user", "content": null}]}', "content"),
    "system-beside": (
        '{"prompt": "a", "output": "b", "system": "be terse"}',
        "unknown key 'system'; write it as a message with the role 'system' in 'messages'",
    ),
    "of another format": (
        '{"prompt": "a", "output": "b", "input": "c"}',
        "unknown key 'input'; move it into the content",
    ),
    "misspelt": ('{"text": "a b", "texts": "c"}', "unknown key 'texts'"),
    "tools": ('{"messages": [{"role": "user", "content": "a"}], "tools": []}', "key 'tools'"),
    "other-case": ('{"text": "a b", "Text": "other"}', "unknown key 'Text'"),
    "output-empty": ('{"prompt": "a", "output": ""}', "content"),
}


def test_remarks_of_a_data_set_are_named_once_and_not_fed(tmp_path):
    path = tmp_path / "mine.jsonl"
    path.write_text('{"text": "a b", "source": "web", "score": 1}\n')
    with pytest.warns(SinkWarning, match="is not fed to the model") as said:
        (text,) = read_texts(str(path))
    assert [str(one.message).split("'")[1] for one in said] == ["score", "source"]
    assert text.plain == "a b"


@pytest.mark.parametrize(("line", "said"), BAD_LINES.values(), ids=BAD_LINES)
def test_a_bad_line_is_named_with_file_number_and_fault(line, said, tmp_path):
    path = tmp_path / "mine.jsonl"
    path.write_text(GOOD + "\n" + line + "\n", encoding="utf-8")
    with pytest.raises(TextError) as caught:
        read_texts(path)
    assert f"{path}:3: " in str(caught.value)
    assert said in str(caught.value)
    assert len(str(caught.value)) < 400 + len(str(path))


BAD_FILES = {
    "empty.jsonl": (b"", "no texts"),
    "blank.jsonl": (b" \n\n", "no texts"),
    "empty.txt": (b"", "empty"),
    "blank.txt": (b" \r\n\t", "empty"),
    "latin.txt": ("caf\u00e9 au lait".encode("latin-1"), "not UTF-8 text (byte 3)"),
    "utf16.jsonl": (GOOD.encode("utf-16"), "not UTF-8"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_is_named(name, tmp_path):
    content, said = BAD_FILES[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(TextError) as caught:
        read_texts(tmp_path / name)
    assert name in str(caught.value)
    assert said in str(caught.value)


@pytest.mark.parametrize("name", ["missing.jsonl", "folder", "x" * 3000])
def test_what_is_no_file_is_refused(name, tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(TextError, match=name[:20]):
        read_texts(tmp_path / name)


def test_ids_must_differ_also_as_number_and_string():
    with pytest.raises(TextError, match=r"mine:2: id '1' was used before, at mine:1"):
        parse_jsonl('{"id": 1, "text": "a b"}\n{"id": "1", "text": "a b"}', "mine")


def test_byte_order_mark_and_windows_lines_change_nothing(tmp_path):
    lines = '{"id": "a", "text": "one two"}\n{"id": "b", "prompt": "p", "output": "o"}\n'
    (tmp_path / "plain.jsonl").write_bytes(lines.encode())
    windows = b"\xef\xbb\xbf" + lines.replace("\n", "\r\n").encode()
    (tmp_path / "windows.jsonl").write_bytes(windows)
    assert read_texts(tmp_path / "windows.jsonl") == read_texts(tmp_path / "plain.jsonl")


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85"])
def test_only_line_feeds_end_a_line(separator):
    (text,) = parse_jsonl(json.dumps({"text": f"a{separator}b"}, ensure_ascii=False), "mine")
    assert text.raw == f"a{separator}b"


def test_what_a_line_may_hold():
    plain, pair, talk = parse_jsonl(
        '{"text": "a b", "kind": "k", "title": "t", "notes": {"of": "mine"}}\n\n'
        '{"id": 7, "prompt": "p", "output": "o"}\n'
        '{"id": "t", "messages": [{"role": "system", "content": "s", "name": "n"}]}',
        "mine",
    )
    assert plain == Text(text_id="line-1", plain="a b")
    assert pair.text_id == "7"
    assert pair.raw == "p\n\no"
    assert [message["role"] for message in pair.messages] == ["user", "assistant"]
    assert talk.messages == ({"role": "system", "content": "s", "name": "n"},)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_ends_of_a_txt_file_stay_as_they_are(end, tmp_path):
    (tmp_path / "essay.txt").write_bytes(f"one{end}two{end}".encode())
    (text,) = read_texts(tmp_path / "essay.txt")
    assert text.raw == f"one{end}two{end}"


def test_a_txt_file_is_one_text_named_after_it(tmp_path):
    (tmp_path / "essay.txt").write_text('{"text": "not read as JSON"}\nline two')
    (text,) = read_texts(str(tmp_path / "essay.txt"))
    assert text == Text(text_id="essay", plain='{"text": "not read as JSON"}\nline two')


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner),
    max_leaves=8,
)
fields = st.sampled_from(["id", "text", "prompt", "output", "messages", "role", "content"])
records = st.dictionaries(fields, json_values | st.dictionaries(fields, st.text(), max_size=3))
files = st.lists(records.map(json.dumps) | st.text(max_size=30), max_size=4).map("\n".join)


@pytest.mark.filterwarnings("ignore::secondary_sinks.errors.SinkWarning")  # of other keys
@given(files | st.text())
def test_any_content_gives_texts_or_a_text_error(content):
    try:
        texts = parse_jsonl(content, "mine")
    except TextError:
        return
    assert texts
    assert len({text.text_id for text in texts}) == len(texts)
    for text in texts:
        assert text.raw.strip()
        assert (text.plain is None) == bool(text.messages)
        (text.text_id + text.raw).encode("utf-8")


@given(st.text().filter(str.strip))
def test_text_comes_back_as_it_was_written(content):
    (text,) = parse_jsonl(json.dumps({"text": content}), "mine")
    assert text.raw == content


def test_bundled_corpus_has_enough_different_texts():
    texts = bundled_corpus()
    assert len(texts) >= 8
    assert len({text.text_id for text in texts}) == len({text.raw for text in texts}) == len(texts)


@pytest.fixture(scope="module")
def real_tokenizer():
    from transformers import AutoTokenizer

    from secondary_sinks.models.gguf.cache import converted_folder, embedded_gguf

    return AutoTokenizer.from_pretrained(converted_folder(embedded_gguf()))


@pytest.mark.real
@pytest.mark.parametrize("feed", ["chat", "raw"])
def test_bundled_texts_have_a_length_that_can_be_judged_and_run_quickly(feed, real_tokenizer):
    lengths = [len(tokenize(text, real_tokenizer, feed).tokens) for text in bundled_corpus()]
    assert min(lengths) >= 300
    assert max(lengths) <= 1200
