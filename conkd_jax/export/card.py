"""The model card of an export: the README.md of its folder, from the run's own files.

It says what the model is, what it was trained on, how it scored with which uncertainty, how it is
used, what a plain `generate` leaves out, and under which licences it stands.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from conkd_jax.config import Config
from conkd_jax.runs.finished import Run, RunError

METRICS = {  # those of the card, with a description
    "f1@1": "F1 of the recommended items",
    "f1@10": "the same, if any of the 10 most probable items at each counts",
    "f1@50": "the same of 50",
    "f1@10_novel": "F1 at 10 of items that were not mentioned before",
    "recall@10": "Recall of the recommendation teacher alone",
    "recall@50": "the same, top 50",
    "rec_ratio": "Share of responses with an item",
    "dist-2": "Distinct bigrams",
    "dist-3": "Distinct trigrams",
    "ppl": "Perplexity per token",
    "ppl_words": "Perplexity of words alone",
    "classifier_accuracy": "Accuracy of the turn classifier",
}
REDIAL = "ReDial (Li et al. 2018), dialogues of paid crowd workers, CC BY 4.0"
CORPORA = {  # what a card says of the data of each corpus
    "redial": f"{REDIAL}; the knowledge graph is a part of DBpedia (CC BY-SA), the word graph of "
    "ConceptNet (CC BY-SA 4.0)",
    "movieworld": "MovieWorld, a synthetic corpus that conkd_jax generates: every sentence is made "
    "up by rules, so the model is a demonstration and of no other use",
}
LIMITS = """\
* It was trained to answer in dialogues like those of its corpus, in their language, and recommends
  only the items of that corpus. It knows nothing that is newer than them.
* Its texts may be wrong, generic or offensive, and it can claim opinions and experiences. The taste
  and the language of the people who wrote its data are in the model.
* It may recommend a few popular items again and again, or items that were named before.
* The metrics compare with one reference answer. A recommendation that nobody gave counts as wrong.
"""


def model_card(
    run: Run, name: str, how: str, license_of_weights: str, *, is_for_transformers: bool = False
) -> str:
    """The text of README.md.

    Args:
      run: the run, whose metrics.json is read if there is one.
      name: the name of the model.
      how: the part on how the export is used.
      license_of_weights: of pretrained weights, where the model was trained from some.
      is_for_transformers: whether transformers loads the model.
    """
    config = run.config
    about = CORPORA.get(config.corpus.name, f"the corpus {config.corpus.name!r} of the author")
    document = document_of(run)
    made = f"conkd_jax, config `{run.name}`, preset `{config.preset}`, seed {config.seed}"
    changed = "".join(f" `{field}={value}`" for field, value in run.overrides.items())
    parts = [
        front_matter(config, is_for_transformers=is_for_transformers),
        f"# {name}\n",
        f"A conversational recommender: {system_of(config)}\n",
        f"Made with {made}{', with' + changed if changed else ''}.",
        "Source: *Towards a Unified Conversational Recommendation System: Multi-task Learning via "
        "Contextualized Knowledge Distillation* (EMNLP 2023).\n",
        f"## Use\n\n{how}",
        f"## Data\n\n{about}.\n",
        f"## Metrics\n\n{metrics_of(document)}",
        f"## Limits\n\n{LIMITS}",
        f"## Licence\n\nThe program is Apache-2.0. {license_of_weights} The data above keep their "
        "own licences, which also bind whoever publishes a model that was trained on them. Titles "
        "of items are part of the vocabulary; texts of dialogues are not in this folder.\n",
    ]
    return "\n".join(parts)


def front_matter(config: Config, *, is_for_transformers: bool) -> str:
    """The metadata that the Hugging Face hub reads from a card."""
    library = "transformers" if is_for_transformers else "conkd_jax"
    fields = ["language: en", "license: other", f"library_name: {library}"]
    fields += ["pipeline_tag: text-generation"] if is_for_transformers else []
    fields += ["tags:", "- conversational-recommendation", "- conkd", f"- {config.backbone}"]
    return "\n".join(["---", *fields, "---", ""])


def system_of(config: Config) -> str:
    """The system in words."""
    if config.system != "student":
        return f"the dialogue model of {config.backbone} alone, fine-tuned without distillation."
    if config.distill.gamma == 0:
        return f"{config.backbone}, trained on the dialogues without teachers (γ = 0)."
    return (
        f"{config.backbone}, distilled from a dialogue teacher and a recommendation teacher "
        f"(ConKD) with the {config.distill.gate} gate, γ = {config.distill.gamma}."
    )


def licence_of_weights(config: Config) -> str:
    """What the card says on weights that the training started from."""
    weights = config.dialogue_teacher.weights
    if weights == "random" or config.backbone not in ("dialogpt", "llama", "recindial"):
        return "The weights were trained from scratch."
    return f"The weights were trained from {weights}, whose licence holds for them as well."


def document_of(run: Run) -> Mapping[str, Any] | None:
    """The content of the run's metrics.json; None if the run was not scored."""
    try:
        return run.metrics
    except RunError:
        return None


def metrics_of(document: Mapping[str, Any] | None) -> str:
    """The table of metrics, with intervals where the run has them."""
    if document is None:
        return "The run was not scored.\n"
    lines = [
        f"Split `{document['split']}`, {document['n_responses']:,} responses; in brackets the "
        "interval of 95 % over resampled dialogues, where there is one.\n",
        "| metric | value | what it is |",
        "|---|---|---|",
    ]
    intervals = document.get("intervals") or {}
    for name, meaning in METRICS.items():
        if name not in document["metrics"]:
            continue
        value = f"{document['metrics'][name]:.4g}"
        if name in intervals:
            low, high = intervals[name]
            value += f" [{low:.4g}, {high:.4g}]"
        lines.append(f"| {name} | {value} | {meaning} |")
    return "\n".join([*lines, ""])


def use_of_transformers(run: Run, name: str) -> str:
    """The part of the card on how transformers uses the folder, and what that leaves out."""
    decode, has_tags = run.config.decode, run.system.has_tags
    tag = '\n    tag="[REC]",' if has_tags else ""
    example = f"""\
```python
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{name}")
model = AutoModelForCausalLM.from_pretrained("{name}")
history = [{{"role": "user", "content": "Hi! I liked @{run.vocabulary.item_ids[0]} a lot."}}]
inputs = tokenizer.apply_chat_template(
    history,
    add_generation_prompt=True,{tag}
    truncation=True,
    return_tensors="pt",
    return_dict=True,
)
answer = model.generate(**inputs)[0, inputs["input_ids"].shape[1]:]
print(tokenizer.decode(answer, skip_special_tokens=True))
```

Items are tokens, written as `@` and the id of the item; `conkd.json` lists ids and titles in the
order of their rows. A text from outside is tokenized with `split_special_tokens=True`.
"""
    missing = [
        "* Titles in a message are not found: write the item as its token. An item without a "
        "token is read as characters; write its title.",
    ]
    if has_tags:
        missing.insert(
            0,
            "* **Which turns recommend.** Every answer opens with [REC] or [GEN] (`tag`), which a "
            "turn classifier chooses in conkd_jax. It is not part of this folder.",
        )
    if decode.item_rule != "argmax":
        missing.append(f"* The rule `decode.item_rule={decode.item_rule}` on when to name an item.")
    for field, what in (("mentioned", "were mentioned"), ("repeated", "the answer has named")):
        if not getattr(decode, f"allow_{field}_items"):
            missing.append(f"* That items which {what} are not recommended again.")
    if decode.item_offset:
        missing.append(f"* The offset of {decode.item_offset:g} on the logit of every item.")
    if decode.strategy == "beam":
        missing.append("* Our beams; those of transformers end and normalise in another way.")
    left_out = "\n".join(missing)
    return f"{example}\nWhat a plain `generate` leaves out:\n\n{left_out}\n"


def use_of_model(name: str) -> str:
    """The part of the card on how a folder that is not for transformers is used."""
    return f"""\
```python
from conkd_jax.export import load_model

model = load_model("{name}")  # a LanguageModel of conkd_jax.stages.language_model
head = model.head()
logits = head.logits(model.model.states(model.variables, inputs))
```

`inputs` are those that `conkd_jax.stages.backbones` makes of dialogues. The folder holds the
language model alone. For a system that reads free text and answers, use the run itself, or
`conkd-export --release`.
"""
