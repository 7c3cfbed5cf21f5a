"""The tables that there are: columns, notes, and rows of the paper that always stand below ours.

One entry of `LAYOUTS` is one table; nothing here computes.
"""

from __future__ import annotations

from collections.abc import Mapping

from conkd_jax.eval.metrics.trivial import is_trivial
from conkd_jax.eval.tables.paper import GATE_MEANS, SYSTEMS, PaperRow
from conkd_jax.eval.tables.table import Column, Layout


def _at_k(title: str, metric: str, **kind) -> tuple[Column, ...]:
    return tuple(Column(f"{title}@{k}", f"{metric}@{k}", **kind) for k in (1, 10, 50))


_UNKNOWN_PPL = (
    "Which form of perplexity the paper prints is not known; ours counts items and words."
)

# A token is a piece of a word with one backbone and a whole word with another.
_PPL = Column("PPL", "ppl", "lower", digits=2, within_backbone=True)

_TRIVIAL = (
    Column("new@10", "f1@10_novel"),
    Column("popular new", "f1@10_novel_popularity", None),
    Column("chance new", "f1@10_novel_chance", None),
    Column("F1@10", "f1@10"),
    Column("popular", "f1@10_popularity", None),
    Column("repeat", "f1@10_repeat", None),
    Column("chance", "f1@10_chance", None),
)

LAYOUTS: Mapping[str, Layout] = {
    "short": Layout(
        "In short",
        (
            *(Column(f"new@{k}", f"f1@{k}_novel") for k in (10, 50)),
            *(Column(f"F1@{k}", f"f1@{k}") for k in (10, 50)),
            Column("repeats", "repeated_items", None),
            Column("Rec Ratio", "rec_ratio"),
            _PPL,
            Column("hit@50", "tf_hit@50"),
        ),
        "F1@k: how well the items that responses name match those of the references, the harmonic "
        "mean of precision and recall. new@k: the same without items that the dialogue has already "
        "mentioned. repeats: the share of such items among all that are named. Rec Ratio: the "
        "share of responses that recommend. PPL: the perplexity of references, items and words. "
        "hit@50: how often the gold item is among the 50 best, where the reference has it.",
    ),
    "1": Layout(
        "Table 1. What the recommender knows and what is said",
        (
            *_at_k("R", "recall"),
            *_at_k("ReR", "rer"),
            *_at_k("ReR/R", "kept"),
            Column("Mismatch", "mismatch", "lower"),
        ),
        "R: the recommender alone; ReR: the responses; ReR/R: the share of the recommender's "
        "recall that reaches the responses (the paper prints what is lost, 1 - ReR/R). Mismatch: "
        "items of the responses that are not the recommender's first.",
    ),
    "novel": Layout(
        "Table 2 without repetition. New items in responses",
        (
            *(Column(f"ReR@{k}", f"rer@{k}_novel") for k in (1, 10, 50)),
            *(Column(f"PrR@{k}", f"prr@{k}_novel") for k in (1, 10, 50)),
            *(Column(f"F1@{k}", f"f1@{k}_novel") for k in (1, 10, 50)),
            Column("repeats", "repeated_items", None),
        ),
        "Only items that the dialogue has not mentioned before count, as gold and as named. "
        "repeats: the share of the named items that it has.",
    ),
    "2": Layout(
        "Table 2. Items in responses",
        (
            *_at_k("ReR", "rer"),
            *_at_k("PrR", "prr"),
            *_at_k("F1", "f1"),
            Column("Rec Ratio", "rec_ratio"),
        ),
    ),
    "3": Layout(
        "Table 3, its automatic part. Words",
        (
            _PPL,
            *(Column(f"DIST-{n}", f"dist-{n}") for n in (2, 3, 4)),
            Column("PPL per word", "ppl_per_word", "lower", digits=2),
        ),
        f"{_UNKNOWN_PPL} PPL per word: per word of the reference, which can be compared "
        "between tokenizers, though whole words have one token for all unknown ones.",
    ),
    "4": Layout(
        "Table 4. Items two hops from what was mentioned count as gold",
        (
            *(Column(f"F1@{k}", f"f1@{k}_2hop") for k in (1, 10, 50)),
            *(Column(f"popular@{k}", f"f1@{k}_2hop_popularity", None) for k in (1, 10, 50)),
            *(Column(f"chance@{k}", f"f1@{k}_2hop_chance", None) for k in (1, 10, 50)),
        ),
        "The paper does not define the denominators; ours stay as in Table 2. popular, chance: the "
        "most popular items and random ones at the system's own item steps.",
        recipe="it needs the knowledge graph: score the run's predictions with `python -m "
        "conkd_jax.evaluate --predictions=RUN/predictions.jsonl --graph=RUN/artifacts/corpus "
        "--out=DIR` and make the table of DIR",
    ),
    "5": Layout(
        "Table 5. Ablations: items in responses",
        (*_at_k("F1", "f1"), Column("Rec Ratio", "rec_ratio")),
        is_ladder=True,
    ),
    "6": Layout(
        "Table 6. Ablations: words",
        (
            *(Column(f"DIST-{n}", f"dist-{n}") for n in (1, 2, 3, 4)),
            _PPL,
        ),
        _UNKNOWN_PPL,
        is_ladder=True,
    ),
    "8": Layout(
        "Table 8. The metrics in their original form",
        (
            *(Column(f"DIST-{n}", f"dist-{n}_original") for n in (2, 3, 4)),
            *(Column(f"ReR@{k}", f"rer@{k}_original") for k in (1, 10, 50)),
        ),
        "DIST-n per response and ReR@k per gold response with an item; both may exceed 1.",
    ),
    "refilling": Layout(
        "Appendix D. Item refilling: items put into finished responses, and items spoken",
        (
            *_at_k("ReR", "rer"),
            *(Column(f"refilled @{k}", f"rer@{k}_refilled") for k in (1, 10, 50)),
            *(Column(f"in order @{k}", f"rer@{k}_refilled_in_order") for k in (1, 10, 50)),
        ),
        "ReR@k of the responses as they were generated; with every item replaced by the "
        "recommender's best of the turn; and with the i-th item replaced by its i-th best.",
    ),
    "latency": Layout(
        "§4.6. Latency",
        (
            Column("ms per token", "ms_per_token", "lower"),
            Column("ms per prompt", "prefill_ms", "lower"),
            Column("ms per turn prefix", "classifier_ms", "lower"),
            Column("responses/s", "responses_per_second", digits=1),
            Column("in batches", "batched_responses_per_second", digits=1),
        ),
        "One response at a time: a token after the first, reading the history with the first "
        "token, the turn classifier; whole responses per second, alone and in full batches. "
        "Compare within one machine and one call of the program.",
        SYSTEMS["RecInDial"],
        recipe="`python -m conkd_jax.latency RUN…` times runs, one response at a time; make the "
        "table of their folders RUN/latency",
    ),
    "trivial": Layout(
        "F1@10 beside trivial lists",
        _TRIVIAL,
        "The system's own F1@10, and what its item steps get with another list: the most popular "
        "items, those just mentioned followed by the most popular, and random ones. new: without "
        "items that the dialogue has already mentioned.",
        has_paper=False,
        required=tuple(column.metric for column in _TRIVIAL if is_trivial(column.metric)),
        recipe="runs of earlier versions lack them: score the run again, or its predictions with "
        "`python -m conkd_jax.evaluate --predictions=RUN/predictions.jsonl "
        "--graph=RUN/artifacts/corpus --out=DIR`",
    ),
    "rate": Layout(
        "Equally often: which items, apart from how many",
        (
            *(Column(f"new@{k}", f"f1@{k}_novel") for k in (1, 10, 50)),
            Column("F1@10", "f1@10"),
            Column("named", "items_per_response", None),
            Column("aimed at", "items_per_response_aimed", None),
            Column("offset", "item_offset", None, digits=2),
        ),
        "new@k: F1@k without items that the dialogue has already mentioned. named: items per "
        "response; aimed at: those of dev's references; offset: what is added to the logits of "
        "items to name as many, chosen on dev.",
        has_paper=False,
        required=("item_offset",),
        recipe="`python -m conkd_jax.evaluate --workdir=RUN --match_rate` writes RUN/rate_matched; "
        "make the table of such folders",
    ),
    "gate": Layout(
        "The gate",
        (
            Column("λ_r", "lambda_r", None),
            Column("λ_v", "lambda_v", None),
            Column("train λ_r", "train_lambda_r", None),
            Column("train λ_v", "train_lambda_v", None),
            Column("η", "eta", None),
            *_at_k("hit", "tf_hit"),
            Column("student λ_r", "student_lambda_r", None),
            Column("Turn accuracy", "classifier_accuracy"),
            Column("base rate", "classifier_base_rate", None),
        ),
        "λ_r, λ_v: the dialogue teacher's mean mass on items, on item steps and on word steps of "
        "gold responses (train: optimistic, it was fitted to them); student λ_r: the scored "
        "system's. hit: the gold item among the k best, at item steps. Turn accuracy: the turn "
        "classifier's, beside the share of the larger class.",
        PaperRow("§3.4, on KGSF", "§3.4", "kgsf", GATE_MEANS),
    ),
}

# Tables that are printed together; those that the runs have no numbers for are left out.
TOGETHER: Mapping[str, tuple[str, ...]] = {
    "short": ("short", "trivial"),
    "2": ("novel", "2", "trivial"),
    "5": ("5", "trivial"),
}
WITHOUT_INTERVALS = ("short",)  # where no intervals are shown unless they are asked for
