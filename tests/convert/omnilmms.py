"""A tiny OmniLMM with random weights, composed of timm's, PyTorch's and transformers' classes, and its files."""

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import sentencepiece
import torch
from torch import nn
from transformers import MistralConfig, MistralForCausalLM

from rlaifv_jax.models.families import OMNILMM
from rlaifv_jax.shapes import tokenizer as shapes
from tests.convert.llavas import Tensors, write_weights
from tests.convert.timm_eva import make_eva

EPS = 1e-6
ADDED = ("<im_patch>", "<im_start>", "<im_end>", "<box>", "</box>", "<ref>", "</ref>", "<quad>", "</quad>")
# The template of Zephyr's tokenizer.
ZEPHYR = "\n".join(
    (
        "{% for message in messages %}",
        "{% if message['role'] == 'user' %}",
        "{{ '<|user|>\n' + message['content'] + eos_token }}",
        "{% elif message['role'] == 'system' %}",
        "{{ '<|system|>\n' + message['content'] + eos_token }}",
        "{% elif message['role'] == 'assistant' %}",
        "{{ '<|assistant|>\n'  + message['content'] + eos_token }}",
        "{% endif %}",
        "{% if loop.last and add_generation_prompt %}",
        "{{ '<|assistant|>' }}",
        "{% endif %}",
        "{% endfor %}",
    )
)


def write_tokenizer(folder: Path, plain: Path, chat: str | None = ZEPHYR, added: tuple[str, ...] = ADDED) -> Path:
    """A LLaMA tokenizer with OmniLMM's tokens behind its own, and Zephyr's template."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in plain.iterdir():
        shutil.copy(file, folder)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    size = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model")).get_piece_size()
    tokens = {str(size + number): {"content": text, "special": True} for number, text in enumerate(added)}
    settings |= {"added_tokens_decoder": tokens, "pad_token": "</s>"}
    if chat is not None:
        settings["chat_template"] = chat
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


def write_small_world(folder: Path) -> int:
    """A tokenizer in which every word of the small world and of OmniLMM's system message is one piece, also where a
    question or an answer begins; returns the size of its vocabulary."""
    words = dict.fromkeys([*shapes.WORDS, *(word.strip(",.") for word in OMNILMM.speech.system.split())])
    openings = (*shapes.OPENINGS, "there", "i", "yes", "no", "nothing")
    with tempfile.TemporaryDirectory() as plain:
        size = shapes.write_tokenizer(plain, list(words), openings) + len(ADDED)
        write_tokenizer(folder, Path(plain))
    return size + -size % 8


class TorchResampler(nn.Module):
    """Learnt queries that look at patches once; `width` / 128 heads."""

    def __init__(self, queries: int, width_in: int, width: int):
        super().__init__()
        self.query = nn.Parameter(torch.zeros(queries, width))
        self.kv_proj = nn.Linear(width_in, width, bias=False)
        self.attn = nn.MultiheadAttention(width, width // 128)
        self.ln_q, self.ln_kv, self.ln_post = (nn.LayerNorm(width, eps=EPS) for _ in range(3))
        self.proj = nn.Parameter(torch.zeros(width, width))

    def look(
        self, features: torch.Tensor, query: torch.Tensor, places: torch.Tensor, hidden: torch.Tensor | None = None
    ) -> torch.Tensor:
        """query [Q, D], features [N, P, D_in] and their places [P, 1 or N, D], bool[N, P] where there are none."""
        read = self.ln_kv(self.kv_proj(features)).transpose(0, 1)
        query = query[:, None].expand(-1, len(features), -1)
        mixed = self.attn(query, read + places, read, key_padding_mask=hidden)[0].transpose(0, 1)
        return self.ln_post(mixed) @ self.proj


class TorchSquareResampler(TorchResampler):
    def __init__(self, side: int, width_in: int, width: int):
        super().__init__(side**2, width_in, width)
        self.side = side
        self.pos_embed = nn.Parameter(sin_cos(side, side, width), requires_grad=False)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        side = round(features.shape[1] ** 0.5)
        grid = self.pos_embed.reshape(1, self.side, self.side, -1).permute(0, 3, 1, 2)
        spread = nn.functional.interpolate(grid, (side, side), mode="bicubic", align_corners=False)
        places = spread.flatten(2).permute(2, 0, 1)  # [P, 1, D]
        return self.look(features, self.ln_q(self.query) + self.pos_embed, places)


def sin_cos(rows: int, columns: int, width: int) -> torch.Tensor:
    """Table of positions, written out: half of the channels for the column, half for the row."""
    table = torch.zeros(rows, columns, width, dtype=torch.float64)
    quarter = width // 4
    for row in range(rows):
        for column in range(columns):
            for half, place in enumerate((column, row)):
                for k in range(quarter):
                    angle = torch.tensor(place * 10000 ** (-k / quarter), dtype=torch.float64)
                    table[row, column, half * 2 * quarter + k] = torch.sin(angle)
                    table[row, column, half * 2 * quarter + quarter + k] = torch.cos(angle)
    return table.reshape(rows * columns, width).float()


@torch.no_grad()
def randomise(module: nn.Module, spread: float, keep: str = "") -> None:
    """Norms and biases start at 1 and 0, which hides mistakes: everything is drawn, but what is called `keep`."""
    for name, tensor in module.named_parameters():
        if name == keep:
            continue
        if tensor.ndim == 1:
            tensor.normal_(float("norm" in name or "ln_" in name) * ("bias" not in name), 0.1)
        else:
            tensor.normal_(0, spread)


class TinyOmniLmm:
    """Two tower layers (16 patches, positions for 4), four queries, two decoder layers with a window."""

    def __init__(self, vocab: int = 99, window: int = 4, seed: int = 0, side: int = 2, gain: float = 1):
        torch.manual_seed(seed)
        self.vision = make_eva(2, img_size=28, patch_size=14, embed_dim=64, num_heads=4, mlp_ratio=2.5)
        self.resampler = TorchSquareResampler(side, 64, 256)
        self.config = MistralConfig(
            vocab_size=vocab,
            hidden_size=256,
            intermediate_size=96,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            rms_norm_eps=1e-5,
            sliding_window=window,
            attn_implementation="eager",
        )
        self.decoder = MistralForCausalLM(self.config).eval()
        parts = {"model.vision_tower.": self.vision, "model.resampler.": self.resampler, "": self.decoder}
        self.tensors: Tensors = {}
        for prefix, module in parts.items():
            randomise(module.eval(), 0.08 * gain, keep="pos_embed" if module is self.resampler else "")
            self.tensors |= {prefix + name: tensor.detach().clone() for name, tensor in module.named_parameters()}

    def features(self, pixels: torch.Tensor) -> torch.Tensor:
        """Normalised pixels [N, 3, height, width] → [N, Q, D]."""
        return self.resampler(self.vision.forward_features(pixels)[:, 1:])

    def logits(self, ids: torch.Tensor, image: torch.Tensor, pixels: torch.Tensor) -> torch.Tensor:
        """ids [N, T]; image [N, T]: which feature of the row's picture stands there, -1 for text."""
        x = self.decoder.model.embed_tokens(ids)
        found = self.features(pixels)
        for row, places in enumerate(image):
            x[row, places >= 0] = found[row, places[places >= 0]]
        return self.decoder(inputs_embeds=x, attention_mask=torch.ones_like(ids)).logits

    def json(self) -> dict[str, Any]:
        """config.json as the original writes it, with the tower's sizes, which its name does not tell."""
        text = json.loads(self.config.to_json_string(use_diff=False))
        text["rope_theta"] = text.pop("rope_parameters")["rope_theta"]
        return text | {
            "architectures": ["OmniLMMForCausalLM"],
            "model_type": "omnilmm",
            "image_size": 56,
            "num_query": self.resampler.side**2,
            "mm_use_im_start_end": True,
            "mm_vision_tower": "a_tiny_tower",
            "vision_config": {
                "model_type": "eva02",
                "hidden_size": 64,
                "intermediate_size": 160,
                "num_hidden_layers": 2,
                "num_attention_heads": 4,
                "image_size": 28,
                "patch_size": 14,
                "layer_norm_eps": EPS,
            },
        }

    def write(self, folder: Path, form: str = "safetensors", tokenizer: Path | None = None, **config: Any) -> Path:
        """A checkpoint directory."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps(self.json() | config))
        write_weights(folder, self.tensors, form)
        if tokenizer is not None:
            for file in tokenizer.iterdir():
                shutil.copy(file, folder)
        return folder
