"""Tokenizers of GGUF files: ids by the rules of the file's own metadata, or a refusal."""

import io

import gguf
import numpy as np
import pytest
import regex
import torch
from transformers.convert_slow_tokenizer import bytes_to_unicode

from secondary_sinks.errors import SinkWarning, UnsupportedModelError
from secondary_sinks.foreign import folder_with_only, load_tokenizer
from secondary_sinks.models.gguf import cache as gguf_cache
from secondary_sinks.models.gguf import tokenizer as gguf_tokenizer
from secondary_sinks.models.gguf.header import read_header
from secondary_sinks.models.gguf.splits import SPLITS, split_text
from secondary_sinks.models.gguf.tokenizer import SPACE, TokenizerRules, merge_pairs
from secondary_sinks.models.original.read import read_original
from secondary_sinks.models.original.sources import resolve
from tests.models.gguf.files import tiny_model, write

BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
PIECES = [SPACE, "t", "h", "e", "f", "o", "x", SPACE + "t", "he", SPACE + "the", "the", 2 * SPACE]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv(gguf_cache.CACHE_VARIABLE, str(tmp_path / "cache"))


def characters(prefix):
    """A tokenizer of characters with scores, as Llama 2 has one."""

    def add(writer):
        tokens = ["<unk>", "<s>", "</s>", *BYTES, *PIECES]
        writer.add_tokenizer_model("llama")
        writer.add_token_list(tokens)
        writer.add_token_scores([0.0] * 259 + [-float(n) for n in range(len(PIECES))])
        writer.add_token_types([2, 3, 3] + [6] * 256 + [1] * len(PIECES))
        writer.add_bos_token_id(1)
        if prefix is not None:
            writer.add_add_space_prefix(prefix)

    return add, 259 + len(PIECES)


def of_bytes(pre, special="<|end|>", merges=("1 2", "\u0120 1", "\u0120 a", "a b")):
    """A tokenizer of bytes, as GPT-2 has one."""
    alphabet = sorted(bytes_to_unicode().values())

    def add(writer):
        joined = [merge.replace(" ", "") for merge in merges]
        writer.add_tokenizer_model("gpt2")
        if pre is not None:
            writer.add_tokenizer_pre(pre)
        writer.add_token_list([*alphabet, *joined, special])
        writer.add_token_types([1] * (256 + len(joined)) + [3])
        writer.add_token_merges(list(merges))

    return add, 257 + len(merges)


def read(path, made):
    add, size = made
    write(path, tiny_model("llama", vocab_size=size), "llama", tokenizer=add)
    return read_original(resolve(str(path)), torch.float32).tokenizer


BY_HAND = [
    (True, "the", [SPACE + "the"]),
    (True, " the", [SPACE, SPACE + "the"]),
    (True, "  the", [2 * SPACE, SPACE + "the"]),
    (True, "\nthe", [SPACE, "<0x0A>", "the"]),
    (True, "</s>the", ["</s>", SPACE + "the"]),
    (False, "the", ["the"]),
    (False, " the", [SPACE + "the"]),
    (False, "</s>the", ["</s>", "the"]),
    (None, "the", [SPACE + "the"]),
]


@pytest.mark.parametrize("prefix", [True, False, None])
def test_the_space_in_front_is_there_where_the_file_says_so(prefix, tmp_path):
    tokenizer = read(tmp_path / "characters.gguf", characters(prefix))
    for said, text, expected in BY_HAND:
        if said == prefix:
            assert tokenizer.tokenize(text) == expected, text
    assert tokenizer("the")["input_ids"][0] == 1, "a BOS token stays in front"


@pytest.mark.parametrize(
    ("pre", "expected"),
    [
        ("smollm", ["a", "b", "\u0120", "1", "2"]),
        ("qwen2", ["ab", "\u0120", "1", "2"]),
        ("llama-bpe", ["ab", "\u0120", "12"]),
        ("gpt-2", ["ab", "\u01201", "2"]),
    ],
)
def test_a_text_is_split_as_the_file_says(pre, expected, tmp_path):
    merges = ("1 2", "\u0120 1") if pre != "gpt-2" else ("\u0120 1", "1 2")
    extra = () if pre == "smollm" else ("a b",)
    tokenizer = read(tmp_path / "bytes.gguf", of_bytes(pre, merges=merges + extra))
    assert tokenizer.tokenize("ab 12") == expected


@pytest.mark.parametrize("made", [characters(False), characters(True), of_bytes("smollm")])
def test_what_transformers_makes_of_the_file_alone_is_refused(made, tmp_path, monkeypatch):
    monkeypatch.setattr(gguf_cache, "apply_rules", lambda tokenizer, rules: tokenizer)
    with pytest.raises(UnsupportedModelError, match=r"odd\.gguf.* becomes \[.*another text would"):
        read(tmp_path / "odd.gguf", made)
    assert not [folder for folder in gguf_cache.cache_root().iterdir() if folder.is_dir()]


def test_a_special_token_that_would_be_cut_into_pieces_is_refused(tmp_path):
    with pytest.raises(UnsupportedModelError, match=r"'<\uff5cUser\uff5c>the fox.*becomes"):
        read(tmp_path / "odd.gguf", of_bytes("qwen2", special="<\uff5cUser\uff5c>"))


def test_a_split_that_nobody_knows_is_refused_and_an_unnamed_one_said(tmp_path):
    with pytest.raises(UnsupportedModelError, match=r"rule 'sisal' .*one of .*qwen2"):
        read(tmp_path / "odd.gguf", of_bytes("sisal"))
    with pytest.warns(SinkWarning, match=r"does not say how its tokenizer splits"):
        read(tmp_path / "old.gguf", of_bytes(None))


def test_pairs_are_joined_cheapest_first_and_left_before_right():
    rank = {("a", "b"): 1, ("b", "c"): 0, ("a", "a"): 2}
    assert merge_pairs(list("abc"), lambda one, two: rank[one, two]) == ["a", "bc"]
    assert merge_pairs(list("aaa"), lambda one, two: rank[one, two]) == ["aa", "a"]


@pytest.mark.parametrize("name", sorted(SPLITS))
def test_splits_lose_nothing(name):
    for text in gguf_tokenizer.PROBES:
        assert "".join(split_text(text, SPLITS[name])) == text
    assert all(regex.compile(one) for one in SPLITS[name])


def test_the_rules_of_characters_are_those_of_sentencepiece():
    sentencepiece = pytest.importorskip("sentencepiece")
    lines = ["the fox ran  over the old mill", "a mill by the river, and a fox", "12 foxes\tran"]
    made = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines * 20),
        model_writer=made,
        model_type="bpe",
        vocab_size=310,
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    theirs = sentencepiece.SentencePieceProcessor(model_proto=made.getvalue())
    size = range(theirs.get_piece_size())
    ids = {theirs.id_to_piece(number): number for number in size}
    scores = {theirs.id_to_piece(number): theirs.get_score(number) for number in size}
    told = {"split": (), "rank": {}, "whole": (), "space_in_front": True}
    rules = TokenizerRules(kind="llama", ids=ids, scores=scores, **told)
    for text in (*lines, *gguf_tokenizer.PROBES):
        assert rules.encode(text) == theirs.encode(text), text


WHOLE = ("  ", "   ", "\n", "\n\n", "<start_of_turn>", "<unused0>")


def like_gemma(path):
    """A GGUF file with a tokenizer of Gemma's kind, and the SentencePiece model that it is of."""
    sentencepiece = pytest.importorskip("sentencepiece")
    lines = ["the fox ran  over the old mill", "a mill by the river, and a fox", "12 foxes\tran"]
    made = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines * 20),
        model_writer=made,
        model_type="bpe",
        vocab_size=320,
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        hard_vocab_limit=False,
        add_dummy_prefix=False,
        user_defined_symbols=[token.replace(" ", SPACE) for token in WHOLE],
        minloglevel=2,
    )
    theirs = sentencepiece.SentencePieceProcessor(model_proto=made.getvalue())
    numbers = range(theirs.get_piece_size())
    plain = [theirs.id_to_piece(number).replace(SPACE, " ") for number in numbers]
    spelled = [token if token in WHOLE else token.replace(" ", SPACE) for token in plain]
    kinds = [4 if plain[n] in WHOLE else 6 if theirs.is_byte(n) else 1 for n in numbers]
    writer = gguf.GGUFWriter(path, "gemma3")
    writer.add_name("tiny")
    writer.add_context_length(64)
    writer.add_embedding_length(8)
    writer.add_block_count(1)
    writer.add_feed_forward_length(8)
    writer.add_head_count(1)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(spelled)
    writer.add_token_scores([theirs.get_score(number) for number in numbers])
    writer.add_token_types([2, 3, 3, *kinds[3:]])
    writer.add_add_space_prefix(False)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_tensor("token_embd.weight", np.zeros((len(numbers), 8), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return theirs


def test_a_tokenizer_of_gemma_follows_its_own_rules_and_alone_does_not(tmp_path):
    path = tmp_path / "gemma.gguf"
    theirs = like_gemma(path)
    rules = gguf_tokenizer.read_rules(read_header(path), path)
    with folder_with_only(path) as folder:
        tokenizer = load_tokenizer(folder, gguf_file=path.name, trusted=False)
    with pytest.raises(UnsupportedModelError, match="another text would be measured"):
        gguf_tokenizer.refuse_other_ids(tokenizer, rules, path)
    gguf_tokenizer.apply_rules(tokenizer, rules).save_pretrained(tmp_path / "saved")
    ours = load_tokenizer(tmp_path / "saved", trusted=False)
    gguf_tokenizer.refuse_other_ids(ours, rules, path)
    for text in (*gguf_tokenizer.PROBES, "  the    fox\n\n\n<start_of_turn>the"):
        assert ours.encode(text, add_special_tokens=False) == theirs.encode(text), text


def test_a_kind_that_nobody_knows_is_refused_by_name(tmp_path):
    def add(writer):
        writer.add_tokenizer_model("plamo2")
        writer.add_token_list(["<s>", "</s>"])

    with pytest.raises(UnsupportedModelError, match=r"kind 'plamo2' .*expected one of gpt2, llama"):
        read(tmp_path / "odd.gguf", (add, 2))


@pytest.mark.real
def test_the_embedded_file_follows_its_rules(monkeypatch):
    monkeypatch.delenv(gguf_cache.CACHE_VARIABLE)
    path = gguf_cache.embedded_gguf()
    tokenizer = load_tokenizer(gguf_cache.converted_folder(path), trusted=False)
    rules = gguf_tokenizer.read_rules(read_header(path), path)
    gguf_tokenizer.refuse_other_ids(tokenizer, rules, path)
    assert tokenizer.tokenize("a \u00bd") == ["a", "\u0120", "\u00c2\u00bd"]
