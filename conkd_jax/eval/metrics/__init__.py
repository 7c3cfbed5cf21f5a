"""Every number that is computed from predictions.

Formulas, each file one group of metrics, in the order of docs/metrics.md: `items_in_responses`
(ReR@k, PrR@k, F1@k, Rec Ratio, mismatch), `two_hop`, `refilling`, `ranking` (recall@k, MRR, NDCG of
the recommender), `words` (DIST-n, BLEU), `perplexity`, `catalogue` (coverage, Gini, popularity
bias). From predictions to a run's numbers: `options` → `response_metrics` (one response) →
`run_metrics` (all of them) → `statistics` (their sums by dialogue) → `bootstrap` (intervals and
paired tests).
"""
