"""Tokens in words: different ids look different, in the tokenizers that models have."""

import torch
import transformers as hf
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from secondary_sinks.observation.tokens import token_strings
from tests.tiny import tiny_tokenizer

PIECES = [
    "<unk>",
    "<s>",
    "<0x41>",
    "<0x0A>",
    "<0xE2>",
    "\u2581the",
    "the",
    "\u2581",
    "A",
    "\u2581\u2581",
]


def sentence_pieces():
    """A tokenizer whose pieces hold their spaces, with bytes, as that of Llama 2."""
    vocab = {piece: index for index, piece in enumerate(PIECES)}
    model = models.BPE(vocab=vocab, merges=[], byte_fallback=True, unk_token="<unk>")
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("\u2581", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    return hf.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>"
    )


def test_sentence_pieces_keep_their_spaces_and_bytes_are_not_characters():
    tokenizer = sentence_pieces()
    assert tokenizer.decode([5]) == tokenizer.decode([6]) == "the", "what is lost alone"
    assert token_strings(torch.arange(len(PIECES)), tokenizer) == (
        *("<unk>", "<s>", "<0x41>", "<0x0A>", "<0xE2>", " the", "the", " ", "A", "  "),
    )


def test_all_bytes_of_a_byte_level_tokenizer_look_different():
    tokenizer = tiny_tokenizer()
    found = token_strings(torch.arange(258), tokenizer)
    assert len(set(found)) == 258
    ids = tokenizer("a b\n")["input_ids"]
    assert token_strings(torch.tensor(ids), tokenizer) == ("a", " ", "b", "\n")
    assert found[257] == "</s>"
