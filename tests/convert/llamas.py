"""A tiny Llama-3 with random weights, a fast tokenizer and a chat template of its own, as the hub has them."""

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

CHAT = (
    "{{ bos_token }}{% for message in messages %}<|start_header_id|>{{ message['role'] }}<|end_header_id|>\n\n"
    "{{ message['content'] | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
# As those of May 2024 have it: the header of an answer follows whether or not one is waited for.
ALWAYS = (
    "{% set loop_messages = messages %}{% for message in loop_messages %}"
    "{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + message['content'] | trim + "
    "'<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}"
    "{% endfor %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}"
)
SPECIAL = ("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
BEGIN, END, _, _, TURN_END = range(256, 261)


def write_tokenizer(
    folder: Path,
    chat: str | None = CHAT,
    words: tuple[str, ...] = (),
    added: tuple[str, ...] = (),
    **named: str,
) -> Path:
    """Bytes as tokens, then words, Llama-3's special tokens and those that are added."""
    pieces, merges = sorted(pre_tokenizers.ByteLevel.alphabet()), []
    for word in words:
        merges += [(word[:n], word[n]) for n in range(1, len(word))]
        pieces += [word[: n + 1] for n in range(1, len(word))]
    vocab = {piece: n for n, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([*SPECIAL, *added])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{SPECIAL[0]} $A", special_tokens=[(SPECIAL[0], len(vocab))]
    )
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=SPECIAL[0], eos_token=SPECIAL[1], **named)
    fast.chat_template = chat
    fast.save_pretrained(folder)
    return folder


class TinyLlama:
    """Two layers, grouped heads, Llama-3's rotary base."""

    def __init__(self, seed: int = 0):
        torch.manual_seed(seed)
        self.config = LlamaConfig(
            vocab_size=264,
            hidden_size=48,
            intermediate_size=96,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            rms_norm_eps=1e-5,
            rope_parameters={"rope_theta": 500000.0, "rope_type": "default"},
            max_position_embeddings=4096,
            bos_token_id=BEGIN,
            eos_token_id=END,
            attn_implementation="eager",
        )
        self.torch = LlamaForCausalLM(self.config).eval()
        with torch.no_grad():
            for name, tensor in self.torch.named_parameters():
                tensor.normal_(float("norm" in name), 0.1 if tensor.ndim == 1 else 0.25)

    def write(self, folder: Path, chat: str | None = CHAT, **config: Any) -> Path:
        self.torch.save_pretrained(folder)
        write_tokenizer(folder, chat)
        raw = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(raw | config))
        (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [END, TURN_END]}))
        return folder
