"""Small image–text models of the transformers classes, with random weights and a byte-level tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors

ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())
START, END = len(ALPHABET), len(ALPHABET) + 1
WORDS = len(ALPHABET) + 2
POSITIONS = 40
_TOWER = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
_IMAGE = {**_TOWER, "image_size": 48, "patch_size": 16}


def save_tokenizer(folder: Path, *, has_start: bool = True) -> None:
    """One piece per byte, with start (unless left out) and end tokens."""
    tokenizer = Tokenizer(models.BPE({piece: i for i, piece in enumerate([*ALPHABET, "<start>", "<end>"])}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    single = "<start> $A <end>" if has_start else "$A <end>"
    ends = [("<start>", START), ("<end>", END)]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=single, special_tokens=ends if has_start else ends[1:]
    )
    tokenizer.add_special_tokens(["<start>", "<end>"])
    tokenizer.save(str(folder / "tokenizer.json"))


def build(kind: str) -> Any:
    """A model of ``clip``, ``siglip`` or ``xclip``; every weight is drawn, so that none can be wrong unnoticed."""
    import transformers

    words = {"vocab_size": WORDS, "max_position_embeddings": POSITIONS, "bos_token_id": START, "eos_token_id": END, "pad_token_id": END}  # fmt: skip
    torch.manual_seed(0)
    if kind == "siglip":
        config: Any = transformers.SiglipConfig(
            text_config={**_TOWER, **words, "projection_size": 32}, vision_config=_IMAGE
        )
        model: Any = transformers.SiglipModel(config)
    elif kind == "xclip":
        frames = {"num_frames": 8, "mit_hidden_size": 32, "mit_intermediate_size": 48, "mit_num_attention_heads": 4}
        config = transformers.XCLIPConfig(
            text_config={**_TOWER, **words}, vision_config={**_IMAGE, **frames, "mit_num_hidden_layers": 1}, projection_dim=32,
            prompt_num_attention_heads=4,
        )  # fmt: skip
        model = transformers.XCLIPModel(config)
    else:
        config = transformers.CLIPConfig(text_config={**_TOWER, **words}, vision_config=_IMAGE, projection_dim=24)
        model = transformers.CLIPModel(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim:
                parameter.normal_(std=0.2)
    return model.eval()


def save(kind: str, folder: Path) -> Path:
    """The folder of such a model."""
    build(kind).save_pretrained(folder)
    save_tokenizer(folder, has_start=kind != "siglip")
    return folder
