"""The tables that there are: columns, notes, and rows of the paper that always stand below ours.

One entry of `LAYOUTS` is one table; nothing here computes.
"""

from __future__ import annotations

from collections.abc import Mapping

from conkd_jax.eval.tables.paper import GATE_MEANS, SYSTEMS, PaperRow
from conkd_jax.eval.tables.table import Column, Layout


def _at_k(title: str, metric: str, **kind) -> tuple[Column, ...]:
    return tuple(Column(f"{title}@{k}", f"{metric}@{k}", **kind) for k in (1, 10, 50))


_UNKNOWN_PPL = (
    "Which form of perplexity the paper prints is not known; ours counts items and words."
)

LAYOUTS: Mapping[str, Layout] = {
    "short": Layout(
        "In short",
        (
            *_at_k("F1", "f1"),
            Column("Rec Ratio", "rec_ratio"),
            Column("PPL", "ppl", "lower", digits=2),
            Column("hit@50", "tf_hit@50"),
        ),
        "F1@k: recommendation in generated responses, over recall and precision. Rec Ratio: "
        "responses that recommend. PPL: perplexity of references, items and words. hit@50: the "
        "gold movie is among the 50 best, where the reference has it.",
    ),
    "1": Layout(
        "Table 1. What the recommender knows and what is said",
        (
            *_at_k("R", "recall"),
            *_at_k("ReR", "rer"),
            *_at_k("lost", "drop", better="lower"),
            Column("Mismatch", "mismatch", "lower"),
        ),
        "R: the recommender alone; ReR: the responses; lost: 1 - ReR/R. Mismatch: items of the "
        "responses that are not the recommender's first.",
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
            Column("PPL", "ppl", "lower", digits=2),
            *(Column(f"DIST-{n}", f"dist-{n}") for n in (2, 3, 4)),
        ),
        _UNKNOWN_PPL,
    ),
    "4": Layout(
        "Table 4. Items two hops from what was mentioned count as gold",
        tuple(Column(f"F1@{k}", f"f1@{k}_2hop") for k in (1, 10, 50)),
        "The paper does not define the denominators; ours stay as in Table 2.",
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
            Column("PPL", "ppl", "lower", digits=2),
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
