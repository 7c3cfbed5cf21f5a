"""The paper's tables as data, and the row of them that stands beside a run.

"Towards a Unified Conversational Recommendation System: Multi-task Learning via Contextualized
Knowledge Distillation" (EMNLP 2023), test split; Tables 1-3 are means of three runs. Metrics have
this project's names. The paper does not define perplexity closely enough to say which of ours it
is. A config names its row (`config.paper_row`); `beside` finds the row of a metrics.json.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

_K = (1, 10, 50)


@dataclasses.dataclass(frozen=True)
class PaperRow:
    """One system, or one step of the ablation, of the paper.

    Attributes:
      name: what the paper calls it.
      table: where the paper prints it.
      backbone: the backbone that a run beside it must have.
      metrics: its numbers, by our names.
    """

    name: str
    table: str
    backbone: str
    metrics: Mapping[str, float]


def _at_k(**columns: tuple[float, float, float]) -> dict[str, float]:
    return {
        f"{name}@{k}": value
        for name, values in columns.items()
        for k, value in zip(_K, values, strict=True)
    }


def _table_1(recall, mismatch, drop) -> dict[str, float]:
    kept = tuple(1 - lost for lost in drop)
    return _at_k(recall=recall, drop=drop, kept=kept) | {"mismatch": mismatch}


def _table_2(rer, prr, f1, rec_ratio) -> dict[str, float]:
    return _at_k(rer=rer, prr=prr, f1=f1) | {"rec_ratio": rec_ratio}


def _table_3(human, ppl, dist) -> dict[str, float]:
    """Human scores from 0 to 2 (fluency, informativeness, coherence, average), PPL, DIST-2/3/4."""
    names = ("human_fluency", "human_informativeness", "human_coherence", "human_average")
    metrics = dict(zip(names, human, strict=True)) | {"ppl": ppl}
    return metrics | {f"dist-{n}": value for n, value in zip((2, 3, 4), dist, strict=True)}


def _table_5_6(f1, rec_ratio, dist, ppl) -> dict[str, float]:
    metrics = _at_k(f1=f1) | {"rec_ratio": rec_ratio}
    metrics |= {f"dist-{n}": value for n, value in zip((1, 2, 3, 4), dist, strict=True)}
    return metrics | {"ppl": ppl}


_TABLE_2 = {
    "ReDial": _table_2((0.002, 0.017, 0.039), (0.002, 0.021, 0.048), (0.002, 0.019, 0.043), 0.014),
    "KBRD": _table_2((0.008, 0.040, 0.096), (0.011, 0.052, 0.126), (0.009, 0.045, 0.109), 0.317),
    "KGSF": _table_2((0.008, 0.043, 0.109), (0.009, 0.048, 0.123), (0.009, 0.045, 0.116), 0.445),
    "RevCore": _table_2((0.006, 0.031, 0.077), (0.014, 0.075, 0.183), (0.008, 0.044, 0.109), 0.203),
    "DialoGPT": _table_2(
        (0.011, 0.070, 0.172), (0.011, 0.071, 0.174), (0.011, 0.070, 0.173), 0.462
    ),
    "RecInDial": _table_2(
        (0.017, 0.088, 0.203), (0.022, 0.114, 0.264), (0.020, 0.099, 0.229), 0.438
    ),
    "KGSF + ConKD (hard)": _table_2(
        (0.023, 0.110, 0.249), (0.024, 0.113, 0.257), (0.023, 0.111, 0.253), 0.499
    ),
    "KGSF + ConKD (soft)": _table_2(
        (0.022, 0.105, 0.241), (0.023, 0.111, 0.255), (0.023, 0.108, 0.248), 0.479
    ),
    "DialoGPT + ConKD (hard)": _table_2(
        (0.022, 0.120, 0.250), (0.021, 0.112, 0.235), (0.022, 0.116, 0.243), 0.525
    ),
    "DialoGPT + ConKD (soft)": _table_2(
        (0.019, 0.101, 0.219), (0.020, 0.104, 0.226), (0.019, 0.102, 0.222), 0.505
    ),
}

_TABLE_3 = {
    "ReDial": _table_3((1.772, 0.334, 1.194, 1.100), 17.577, (0.075, 0.123, 0.166)),
    "KBRD": _table_3((1.640, 0.729, 1.321, 1.230), 19.039, (0.123, 0.223, 0.304)),
    "KGSF": _table_3((1.811, 0.502, 1.433, 1.249), 11.191, (0.168, 0.305, 0.420)),
    "RevCore": _table_3((1.854, 0.512, 1.187, 1.184), 9.283, (0.098, 0.170, 0.235)),
    "DialoGPT": _table_3((1.766, 0.781, 1.580, 1.376), 17.552, (0.206, 0.419, 0.595)),
    "RecInDial": _table_3((1.812, 0.726, 1.606, 1.381), 5.858, (0.065, 0.124, 0.183)),
    "KGSF + ConKD (hard)": _table_3((1.831, 0.856, 1.571, 1.419), 8.886, (0.138, 0.249, 0.344)),
    "KGSF + ConKD (soft)": _table_3((1.858, 0.878, 1.644, 1.460), 8.689, (0.132, 0.236, 0.326)),
    "DialoGPT + ConKD (hard)": _table_3(
        (1.894, 0.859, 1.688, 1.480), 12.412, (0.179, 0.344, 0.489)
    ),
    "DialoGPT + ConKD (soft)": _table_3(
        (1.870, 0.829, 1.591, 1.430), 12.336, (0.180, 0.350, 0.505)
    ),
}

# Table 1: Recall@k of the recommender module, the mismatch, and what is lost between recommender
# and response, 1 - ReR@k / R@k; its ReR@k are Table 2's. `kept@k` is the rest, ReR@k / R@k.
_TABLE_1 = {
    "KBRD": _table_1((0.034, 0.168, 0.360), 0.931, (0.7647, 0.7619, 0.7417)),
    "KGSF": _table_1((0.038, 0.183, 0.382), 0.926, (0.7895, 0.7650, 0.7333)),
    "RevCore": _table_1((0.052, 0.195, 0.341), 0.971, (0.8846, 0.8410, 0.7742)),
}

# Table 4: F1@k where 2-hop neighbours of mentioned items count as gold.
_TABLE_4 = {
    "RecInDial": {"f1@1_2hop": 0.087, "f1@10_2hop": 0.283, "f1@50_2hop": 0.424},
    "DialoGPT + ConKD (hard)": {"f1@1_2hop": 0.124, "f1@10_2hop": 0.331, "f1@50_2hop": 0.465},
}

# Tables 5 and 6: ablations, on KGSF.
_TABLE_5_6 = {
    "Vanilla": _table_5_6((0.012, 0.062, 0.155), 0.337, (0.029, 0.100, 0.176, 0.246), 7.538),
    "(+) D": _table_5_6((0.017, 0.063, 0.165), 0.334, (0.029, 0.100, 0.172, 0.241), 7.071),
    "(+) R": _table_5_6((0.019, 0.066, 0.146), 0.293, (0.019, 0.066, 0.115, 0.164), 12.331),
    "(+) D&R": _table_5_6((0.020, 0.093, 0.200), 0.313, (0.028, 0.097, 0.166, 0.232), 6.349),
    "(+) D&R&ST": _table_5_6((0.023, 0.111, 0.253), 0.499, (0.035, 0.138, 0.249, 0.344), 8.886),
    "λ ↔ 0.5": _table_5_6((0.021, 0.105, 0.245), 0.471, (0.031, 0.121, 0.219, 0.306), 9.211),
}

# Table 8: the metrics in their original form.
_TABLE_8 = {
    "RecInDial": {
        "dist-2_original": 0.413,
        "dist-3_original": 0.663,
        "dist-4_original": 0.815,
        "rer@1_original": 0.023,
        "rer@10_original": 0.118,
        "rer@50_original": 0.273,
    },
    "DialoGPT + ConKD (hard)": {
        "dist-2_original": 1.326,
        "dist-3_original": 2.217,
        "dist-4_original": 2.704,
        "rer@1_original": 0.030,
        "rer@10_original": 0.161,
        "rer@50_original": 0.337,
    },
}

_BACKBONES = {  # of those systems, alone and with ConKD
    "ReDial": "redial",
    "KBRD": "kbrd",
    "KGSF": "kgsf",
    "RevCore": "revcore",
    "DialoGPT": "dialogpt",
    "RecInDial": "recindial",
}

# §4.6, milliseconds a token.
_LATENCY = {"DialoGPT": 5.464, "DialoGPT + ConKD (hard)": 5.306, "RecInDial": 6.100}

# §3.4: mean λ on item steps and on word steps, on KGSF.
GATE_MEANS = {"lambda_r": 0.653, "lambda_v": 0.023}


def _systems() -> dict[str, PaperRow]:
    rows = {}
    for name in _TABLE_2:
        metrics: dict[str, float] = {}
        for table in (_TABLE_1, _TABLE_2, _TABLE_3, _TABLE_4, _TABLE_8):
            metrics |= table.get(name, {})
        if name in _LATENCY:
            metrics["ms_per_token"] = _LATENCY[name]
        backbone = _BACKBONES[name.split(" + ")[0]]
        rows[name] = PaperRow(name, "Tables 1-4, 8", backbone, metrics)
    return rows


SYSTEMS: Mapping[str, PaperRow] = _systems()
ABLATIONS: Mapping[str, PaperRow] = {  # in the order of the tables: the steps of a ladder
    step: PaperRow(f"{step} (on KGSF)", "Tables 5-6", "kgsf", metrics)
    for step, metrics in _TABLE_5_6.items()
}
ROW_NAMES = (*SYSTEMS, *ABLATIONS)  # what `paper_row` of a config may be

# The full model with the hard gate is a step of the ablation too; Tables 5 and 6 repeat its row.
_STEP_OF_SYSTEM = {
    "KGSF + ConKD (hard)": "(+) D&R&ST",
    "DialoGPT + ConKD (hard)": "(+) D&R&ST",
}


def paper_row(name: str, backbone: str) -> PaperRow | None:
    """Returns the paper's row to stand beside a run, or None where the paper has none.

    A row stands beside runs on its own backbone only: the paper ran its ablations on KGSF, so an
    ablation on DialoGPT has no row.

    Args:
      name: one of `ROW_NAMES`: the `paper_row` of the run's config; "" or any other name has no
        row.
      backbone: the backbone of the run; "" for a system that this project did not train.

    >>> row = paper_row("DialoGPT + ConKD (hard)", "dialogpt")
    >>> row.metrics["f1@50"], row.metrics["ppl"]
    (0.243, 12.412)
    >>> paper_row("Vanilla", "kgsf").name
    'Vanilla (on KGSF)'
    >>> paper_row("Vanilla", "dialogpt")
    """
    row = SYSTEMS.get(name) or ABLATIONS.get(name)
    if row is None or backbone not in ("", row.backbone):
        return None
    return row


def ablation_row(name: str, backbone: str) -> PaperRow | None:
    """Returns the row of Tables 5 and 6 to stand beside a run, or None.

    Args:
      name: as of `paper_row`.
      backbone: as of `paper_row`.

    >>> ablation_row("KGSF + ConKD (hard)", "kgsf").name
    '(+) D&R&ST (on KGSF)'
    """
    return paper_row(ablation_step(name) or "", backbone)


def ablation_step(name: str) -> str | None:
    """Returns the step of Tables 5 and 6 that a row is, on any backbone; None if it is no step.

    >>> ablation_step("DialoGPT + ConKD (hard)"), ablation_step("(+) D"), ablation_step("KBRD")
    ('(+) D&R&ST', '(+) D', None)
    """
    return _STEP_OF_SYSTEM.get(name, name if name in ABLATIONS else None)
