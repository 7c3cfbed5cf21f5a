"""One random GPT-2 for all contenders that need a model, in the form in which GPT-2 is published.

Hugging Face, CTranslate2 and this project read the same checkpoint, so they hold the same numbers.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer, models

from benchmarks.side_by_side import use_torch

NUM_ITEMS = 6_924  # of ReDial


@dataclasses.dataclass(frozen=True)
class GPT2Size:
    """The shape of a GPT-2 whose vocabulary has items.

    Attributes:
      num_layers: transformer blocks.
      width: of states; features have as many numbers.
      num_heads: of attention.
      num_positions: the longest sequence.
      num_words: |V|.
      num_items: |I|; Y = V + I.
    """

    num_layers: int
    width: int
    num_heads: int
    num_positions: int
    num_words: int
    num_items: int = NUM_ITEMS

    @property
    def num_targets(self) -> int:
        """|Y|."""
        return self.num_words + self.num_items


SIZES = {
    "mini": GPT2Size(2, 192, 4, 512, 4_224),  # of the preset
    "small": GPT2Size(12, 768, 12, 1_024, 50_292),  # GPT-2 small: 124 M parameters
    "tiny": GPT2Size(1, 16, 2, 64, 50, 14),
}


def make_model(size: GPT2Size, seed: int = 0) -> Any:
    """A random GPT-2 in PyTorch, without dropout."""
    import transformers

    torch = use_torch()
    torch.manual_seed(seed)
    config = transformers.GPT2Config(
        vocab_size=size.num_targets,
        n_layer=size.num_layers,
        n_embd=size.width,
        n_head=size.num_heads,
        n_positions=size.num_positions,
        **dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0),
    )
    return transformers.GPT2LMHeadModel(config).eval()


def write_checkpoint(model: Any, folder: str | Path, size: GPT2Size) -> None:
    """Writes a model, and a tokenizer of ids as words, which CTranslate2 requires."""
    import transformers

    model.save_pretrained(folder)
    words = {str(token): token for token in range(size.num_targets)}
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(words, unk_token="0")),
        bos_token="0",
        eos_token="0",
        unk_token="0",
    ).save_pretrained(folder)


def random_tokens(size: GPT2Size, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Random words."""
    return np.random.default_rng(seed).integers(1, size.num_words, shape, dtype=np.int32)
