"""A byte-level tokenizer and a Llama of two layers, made in a moment and saved like real ones."""

import torch
import transformers as hf
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

TEMPLATE = "{% for m in messages %}<s>{{ m['role'] }}: {{ m['content'] }}</s>{% endfor %}"
REFUSING = "{{ raise_exception('roles must alternate') }}"
N_CTX = 256


def tiny_tokenizer(template=None):
    """One token per byte, plus <s> and </s>."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    model = models.BPE(vocab={byte: index for index, byte in enumerate(alphabet)}, merges=[])
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = hf.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="</s>"
    )
    fast.chat_template = template
    return fast


def tiny_llama(seed=0):
    """A Llama with random weights that fits the tokenizer."""
    torch.manual_seed(seed)
    config = hf.LlamaConfig(
        vocab_size=258,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=N_CTX,
        bos_token_id=256,
        eos_token_id=257,
    )
    return hf.LlamaForCausalLM(config).eval()


def save_tiny(folder, template=TEMPLATE, tokenizer=True, seed=0):
    """Save both to a folder in Hugging Face format."""
    tiny_llama(seed).save_pretrained(folder)
    if tokenizer:
        tiny_tokenizer(template).save_pretrained(folder)
    return folder
