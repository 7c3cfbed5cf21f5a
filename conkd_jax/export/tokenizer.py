"""A vocabulary as a tokenizer of transformers: words, items as added tokens, and the tags.

The ids are those of the vocabulary, and so are the pieces of every text, items in any spelling
included, and the text of every sequence of ids. Three details make it so:

  * One space before "@123" belongs to the item, and "@00123" is the same item, but "@1234" is none
    if there is no such item. So a normaliser marks the mentions of items, with a character that no
    text has, and the items are looked for after it.
  * Decoding puts one space before an item unless it opens the text, and one between an item and a
    digit.
  * In a text of a stranger, "<|endoftext|>" is plain characters. A tokenizer of transformers reads
    it as the token, which prompts need; `split_special_tokens=True` turns that off.

An item without a token, which only the item vocabulary "train" has, is read as the words of its
title by `Vocabulary`, and as the characters "@123" here.
"""

from __future__ import annotations

import json
from typing import Any

from etils import epath
from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers

from conkd_jax.data.tokenizers.bpe import END_TOKEN, merge_text
from conkd_jax.data.vocabulary import Vocabulary
from conkd_jax.io.files import write_json, write_whole

GEN, REC, PAD = "[GEN]", "[REC]", "[PAD]"
TAGS = (GEN, REC, PAD)  # in the order of their ids
_BEFORE, _AFTER = "\ufdd0", "\ufdd1"  # noncharacters of Unicode, which no text contains


def transformers_tokenizer(vocabulary: Vocabulary) -> Tokenizer:
    """The tokenizer of a vocabulary of sub-words, for the file tokenizer.json.

    Args:
      vocabulary: over a byte-level BPE.
    """
    items = vocabulary.item_ids.tolist()
    tokenizer = Tokenizer.from_str(vocabulary.tokenizer.to_str())
    # At most 18 digits are an id (`data.mentions`); zeros before it have no meaning.
    listed = "|".join(map(str, items))
    mention = rf" ?@(?![0-9]{{19}})0*(?=(?:{listed})(?![0-9]))"
    tokenizer.normalizer = normalizers.Replace(Regex(mention), f"{_BEFORE}@")
    tokenizer.add_tokens([AddedToken(f"@{item}", normalized=True) for item in items])
    tokenizer.add_special_tokens(
        [AddedToken(name, special=True, normalized=False) for name in (END_TOKEN, *TAGS)]
    )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace(Regex(r"\A(?=@[0-9]+\z)"), _BEFORE),
            decoders.Replace(Regex(rf"\A{_BEFORE}@[0-9]+\K\z"), _AFTER),
            decoders.ByteLevel(),
            decoders.Replace(Regex(rf"\A{_BEFORE}"), ""),
            decoders.Replace(_BEFORE, " "),
            decoders.Replace(Regex(rf"{_AFTER}(?=[0-9])"), " "),
            decoders.Replace(_AFTER, ""),
        ]
    )
    return tokenizer


def write_tokenizer(
    vocabulary: Vocabulary, folder: epath.Path, *, has_tags: bool, longest_prompt: int
) -> None:
    """Writes the files of a tokenizer that `AutoTokenizer` opens, and our own `load_bpe`.

    Args:
      vocabulary: over a byte-level BPE.
      folder: where to write; it exists.
      has_tags: whether responses open with [REC] or [GEN].
      longest_prompt: tokens of the longest prompt, which keeps its end where it is truncated.
    """
    model = json.loads(vocabulary.tokenizer.to_str())["model"]
    write_whole(folder / "tokenizer.json", transformers_tokenizer(vocabulary).to_str())
    # Beside these two, tokenizer.json is read for nothing but how digits are cut (`load_bpe`).
    write_json(folder / "vocab.json", model["vocab"], indent=None)
    merges = "\n".join(["#version: 0.2", *map(merge_text, model["merges"])])
    write_whole(folder / "merges.txt", f"{merges}\n")
    write_json(folder / "tokenizer_config.json", tokenizer_config(has_tags, longest_prompt))


def tokenizer_config(has_tags: bool, longest_prompt: int) -> dict[str, Any]:
    """The content of tokenizer_config.json; arguments as of `write_tokenizer`."""
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": longest_prompt,
        "truncation_side": "left",
        "bos_token": END_TOKEN,
        "eos_token": END_TOKEN,
        "pad_token": PAD,
        "additional_special_tokens": [GEN, REC],
        "padding_side": "left",
        "model_input_names": ["input_ids", "attention_mask"],  # GPT-2 would add token_type_ids
        "clean_up_tokenization_spaces": False,
        "chat_template": chat_template(has_tags),
    }


def chat_template(has_tags: bool) -> str:
    """The Jinja template of a dialogue, as the rows of `data.rows.dialogue` have it.

    A seeker's turn ("user") stands as it is. A recommender's turn ("assistant") is opened by its
    tag, [REC] if it names an item, and closed by the end token; without tags, the end token opens
    it. The variable `tag` opens the answer that is asked for.
    """
    opened = f"{{{{ '{REC}' if '@' in message['content'] else '{GEN}' }}}}"
    asked = f"{{{{ tag if tag is defined else '{REC}' }}}}"
    if not has_tags:
        opened = asked = "{{ eos_token }}"
    answer = opened + "{{ message['content'] }}{{ eos_token }}"
    return (
        "{% for message in messages %}"
        f"{{% if message['role'] == 'assistant' %}}{answer}"
        "{% else %}{{ message['content'] }}{% endif %}{% endfor %}"
        f"{{% if add_generation_prompt %}}{asked}{{% endif %}}"
    )
