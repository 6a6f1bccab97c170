"""A tiny MiniCPM-Llama3-V 2.5 with random weights, composed of PyTorch's and transformers' classes, and its files."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import Idefics2VisionConfig, LlamaConfig, LlamaForCausalLM
from transformers.models.idefics2.modeling_idefics2 import Idefics2VisionTransformer

from tests.convert.llamas import CHAT
from tests.convert.llamas import write_tokenizer as write_llama_tokenizer
from tests.convert.llavas import Tensors, write_weights
from tests.convert.omnilmms import TorchResampler, randomise, sin_cos

ADDED = ("<unk>", "<image>", "</image>", "<ref>", "</ref>", "<box>", "</box>", "<slice>", "</slice>")
WORDS = ("yes", "Yes", "no", "No")
EDGE, PATCH, MOST, QUERIES = 56, 14, 4, 3  # so slices of some 16 patches


def write_tokenizer(folder: Path, chat: str | None = CHAT, added: tuple[str, ...] = ADDED) -> int:
    """Llama-3's with MiniCPM-V's tokens, and with a token each for yes and no; returns rows of a vocabulary for it."""
    write_llama_tokenizer(folder, chat, WORDS, added, unk_token="<unk>")
    last = max(json.loads((folder / "tokenizer.json").read_text())["added_tokens"], key=lambda token: token["id"])["id"]
    return int(last) + 8 - last % 8


class TorchGridResampler(TorchResampler):
    def forward(self, features: torch.Tensor, grids: Sequence[tuple[int, int]]) -> torch.Tensor:
        """Features [N, P, D_in] of slices with so many rows and columns of patches, padded."""
        places = torch.zeros(features.shape[1], len(grids), len(self.proj))
        hidden = torch.ones(features.shape[:2], dtype=torch.bool)
        for number, (rows, columns) in enumerate(grids):
            places[: rows * columns, number] = sin_cos(rows, columns, len(self.proj))
            hidden[number, : rows * columns] = False
        return self.look(features, self.ln_q(self.query), places, hidden)


class TinyMiniCpm:
    """Two tower layers with 25 positions, three queries a slice, two decoder layers."""

    def __init__(self, vocab: int = 288, seed: int = 0, gain: float = 1):
        torch.manual_seed(seed)
        vision = Idefics2VisionConfig(
            hidden_size=24,
            intermediate_size=40,
            num_hidden_layers=2,
            num_attention_heads=4,
            image_size=70,
            patch_size=PATCH,
            attn_implementation="eager",
        )
        self.config = LlamaConfig(
            vocab_size=vocab,
            hidden_size=256,
            intermediate_size=96,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            rms_norm_eps=1e-5,
            rope_parameters={"rope_theta": 500000.0, "rope_type": "default"},
            max_position_embeddings=8192,
            attn_implementation="eager",
        )
        self.vision = Idefics2VisionTransformer(vision)
        self.resampler = TorchGridResampler(QUERIES, 24, 256)
        self.decoder = LlamaForCausalLM(self.config)
        parts = {"vpm.": self.vision, "resampler.": self.resampler, "llm.": self.decoder}
        self.tensors: Tensors = {}
        for prefix, module in parts.items():
            randomise(module.eval(), 0.08 * gain)
            self.tensors |= {prefix + name: tensor.detach().clone() for name, tensor in module.named_parameters()}

    @torch.no_grad()
    def tower(self, slices: Sequence[np.ndarray]) -> torch.Tensor:
        """Slices uint8[height, width, 3] of any sizes → [N, P, D]: patches side by side, zeros behind them."""
        strips = [strip(picture) for picture in slices]
        longest = max(picture.shape[2] for picture in strips)
        padded = [nn.functional.pad(picture, (0, longest - picture.shape[2])) for picture in strips]
        mask = torch.tensor([[n < picture.shape[2] // PATCH for n in range(longest // PATCH)] for picture in strips])
        return self.vision(torch.stack(padded), patch_attention_mask=mask[:, None]).last_hidden_state

    @torch.no_grad()
    def features(self, slices: Sequence[np.ndarray]) -> torch.Tensor:
        """[N, Q, D]."""
        grids = [(picture.shape[0] // PATCH, picture.shape[1] // PATCH) for picture in slices]
        return self.resampler(self.tower(slices), grids)

    @torch.no_grad()
    def logits(self, ids: torch.Tensor, places: np.ndarray, pictures: Sequence[Sequence[np.ndarray]]) -> torch.Tensor:
        """ids, places [N, T]: which feature of the row's slices stands there, -1 for text."""
        x = self.decoder.model.embed_tokens(ids)
        for row, slices in enumerate(pictures):
            here = places[row] >= 0
            x[row, torch.from_numpy(here)] = self.features(slices).flatten(0, 1)[places[row][here]]
        return self.decoder(inputs_embeds=x, attention_mask=torch.ones_like(ids)).logits

    def json(self) -> dict[str, Any]:
        """config.json as the original has it."""
        text = json.loads(self.config.to_json_string(use_diff=False))
        text["rope_theta"] = text.pop("rope_parameters")["rope_theta"]
        vision = json.loads(self.vision.config.to_json_string(use_diff=False))
        sizes = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "image_size")
        return text | {
            "architectures": ["MiniCPMV"],
            "model_type": "minicpmv",
            "torch_dtype": "float16",
            "image_size": EDGE,
            "query_num": QUERIES,
            "batch_vision_input": True,
            "drop_vision_last_layer": False,
            "slice_mode": True,
            "slice_config": {
                "max_slice_nums": MOST,
                "patch_size": PATCH,
                "scale_resolution": EDGE,
                "model_type": "minicpmv",
            },
            "vision_config": {name: vision[name] for name in sizes} | {"patch_size": PATCH, "model_type": "idefics2"},
        }

    def write(self, folder: Path, form: str = "safetensors", chat: str | None = CHAT, **config: Any) -> Path:
        """A checkpoint directory."""
        folder.mkdir(parents=True, exist_ok=True)
        write_weights(folder, self.tensors, form)
        write_tokenizer(folder, chat)
        (folder / "config.json").write_text(json.dumps(self.json() | config))
        return folder


def strip(picture: np.ndarray) -> torch.Tensor:
    """uint8[height, width, 3] → normalised float32[3, 14, 14·N], its patches row by row side by side."""
    pixels = torch.from_numpy(picture.astype(np.float32)).permute(2, 0, 1) / 255 * 2 - 1
    patches = nn.functional.unfold(pixels[None], PATCH, stride=PATCH)[0]  # [3·14·14, N]
    return patches.reshape(3, PATCH, PATCH, -1).permute(0, 1, 3, 2).reshape(3, PATCH, -1)
