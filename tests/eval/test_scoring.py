"""Teacher forcing against a plain NumPy pass over whole rows of logits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax

from conkd_jax.data.corpus import Dialogue, Turn
from conkd_jax.data.rows.dialogue import build_dialogue_rows
from conkd_jax.data.tokenizers.bpe import train_bpe
from conkd_jax.data.vocabulary import Vocabulary
from conkd_jax.distill.head import Head
from conkd_jax.eval import scoring
from conkd_jax.eval.scoring import TokenScores, head_statistics, logit_statistics, score_tokens
from conkd_jax.models.gpt2 import GPT2, GPT2Spec
from conkd_jax.stages.language_model import sequential

VOCABULARY = Vocabulary(
    train_bpe(["hello there good movie"] * 3, 265), [1, 22, 7], ["One", "Two", "Seven"]
)
FIELDS = ("response_index", "nll", "item_mass", "is_item", "item_rank")


def dialogue(name, *texts):
    turns = [Turn(("seeker", "recommender")[i % 2], text) for i, text in enumerate(texts)]
    return Dialogue(name, tuple(turns))


# Rows of several lengths: long ones first, so that scoring, which goes from short to long,
# meets the responses in another order than the split's.
SPLIT = [
    dialogue("a", "hi", "good @1 , and @22 " + "hello there " * 8, "no", "bye"),
    dialogue("b", "hello", "@7"),
    dialogue("c", "a good movie", "see @22 then", "why ?", "it is good", "ok", "bye @1 @1"),
    dialogue("d", "hi", "hello there"),
    dialogue("e", "hello there good movie", "good good good @7 @1"),
]


@pytest.fixture(scope="module")
def rows():
    return build_dialogue_rows(SPLIT, VOCABULARY, max_row_tokens=128, max_response_tokens=30)


@pytest.fixture(scope="module")
def model():
    spec = GPT2Spec(num_layers=1, embed_dim=16, num_heads=2, num_positions=128, dropout=0.1)
    return GPT2(spec, VOCABULARY.num_rows)


@pytest.fixture(scope="module")
def params(model):
    """Larger weights than at the start, so that tokens differ."""
    return jax.tree.map(
        lambda leaf: 8 * leaf if leaf.ndim == 2 else leaf, model.init(jax.random.key(0))
    )


def scores_of(model, params, rows, form="teacher", batch_rows=3, row_range=None) -> TokenScores:
    return score_tokens(
        model,
        params,
        sequential(rows, VOCABULARY, form, batch_rows, row_range),
        num_words=VOCABULARY.num_words,
        num_targets=VOCABULARY.num_targets,
    )


def oracle(model, params, rows, form) -> dict[str, np.ndarray]:
    """Every row alone and without padding; from all logits, one token at a time."""
    embedding = np.asarray(params["wte"]["embedding"], np.float64)[: VOCABULARY.num_targets]
    features = jax.jit(lambda ids: model.features(params, ids))
    states_of = [
        np.asarray(features(rows.tokens[form][row][None])[0], np.float64)
        for row in range(rows.num_rows)
    ]
    found = {name: [] for name in FIELDS}
    for response, row in enumerate(rows.response_row.tolist()):
        for step, label in enumerate(rows.response_targets(response).tolist()):
            logits = embedding @ states_of[row][rows.response_start[response] + step]
            log_probs = log_softmax(logits)
            items = logits[VOCABULARY.num_words :]
            is_item = label >= VOCABULARY.num_words
            better = [item for item in items if item > logits[label]]
            found["response_index"].append(response)
            found["nll"].append(-log_probs[label])
            found["item_mass"].append(np.exp(log_probs[VOCABULARY.num_words :]).sum())
            found["is_item"].append(is_item)
            found["item_rank"].append(1 + len(better) if is_item else 0)
    return {name: np.array(values) for name, values in found.items()}


@pytest.mark.parametrize("form", ["teacher", "student"])
def test_scores_equal_the_oracle_s(model, params, rows, form):
    scores = scores_of(model, params, rows, form)
    wanted = oracle(model, params, rows, form)
    for name in ("response_index", "is_item", "item_rank"):
        np.testing.assert_array_equal(getattr(scores, name), wanted[name], err_msg=name)
    np.testing.assert_allclose(scores.nll, wanted["nll"], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(scores.item_mass, wanted["item_mass"], rtol=1e-4, atol=1e-6)
    assert set(wanted["item_rank"]) == {0, 1, 2, 3}, "the example tells all ranks apart"


def test_tags_change_a_student_s_scores(model, params, rows):
    teacher, student = (scores_of(model, params, rows, form) for form in ("teacher", "student"))
    assert np.abs(teacher.nll - student.nll).max() > 1e-2


@pytest.mark.parametrize("batch_rows", [1, 2, 16])
def test_batch_and_padding_change_nothing(model, params, rows, batch_rows):
    wanted = scores_of(model, params, rows)
    scores = scores_of(model, params, rows, batch_rows=batch_rows)
    np.testing.assert_array_equal(scores.response_index, wanted.response_index)
    np.testing.assert_array_equal(scores.item_rank, wanted.item_rank)
    np.testing.assert_allclose(scores.nll, wanted.nll, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(scores.item_mass, wanted.item_mass, rtol=1e-5, atol=1e-6)


def test_responses_come_in_the_order_of_the_split(model, params, rows):
    batches = [ids.tolist() for ids, _ in sequential(rows, VOCABULARY, "teacher", 2)]
    as_computed = [response for batch in batches for response in batch]
    assert as_computed != sorted(as_computed), "the example must need the sorting"
    scores = scores_of(model, params, rows, batch_rows=2)
    wanted = np.repeat(np.arange(rows.num_responses), rows.response_length)
    np.testing.assert_array_equal(scores.response_index, wanted)
    np.testing.assert_array_equal(scores.is_item, rows.targets >= VOCABULARY.num_words)


def test_a_range_of_rows_is_a_part_of_the_whole(model, params, rows):
    whole = scores_of(model, params, rows)
    part = scores_of(model, params, rows, row_range=range(1, 3))
    inside = np.isin(rows.response_row[whole.response_index], [1, 2])
    np.testing.assert_array_equal(part.response_index, whole.response_index[inside])
    np.testing.assert_allclose(part.nll, whole.nll[inside], rtol=1e-5, atol=1e-5)


def test_shapes_depend_on_the_length_alone(rows):
    """Those of all rows, of a part of them, and of rows of one response each."""

    def shapes(some, wanted=None):
        batches = sequential(some, VOCABULARY, "student", 2, wanted, limit=128)
        return {batch["input_ids"].shape: jax.tree.map(np.shape, batch) for _, batch in batches}

    tags = [VOCABULARY.rec_id] * rows.num_responses
    reopened = rows.reopened(range(rows.num_responses), tags)
    whole, part, single = shapes(rows), shapes(rows, range(1, 3)), shapes(reopened)
    assert part.keys() < whole.keys() and single.keys() & whole.keys()
    for length, found in {**part, **single}.items():
        assert whole.get(length, found) == found


def test_no_rows_and_rows_that_are_too_long_are_refused(rows):
    with pytest.raises(ValueError, match="but the model has 16 positions"):
        next(sequential(rows, VOCABULARY, "teacher", 2, limit=16))
    none = build_dialogue_rows([], VOCABULARY, max_row_tokens=128, max_response_tokens=30)
    with pytest.raises(ValueError, match="at least one row to score"):
        next(sequential(none, VOCABULARY, "teacher", 2))


def test_chunks_of_the_head_change_nothing(monkeypatch):
    rng = np.random.default_rng(0)
    head = Head(jnp.asarray(rng.normal(size=(6, 11)), jnp.float32), jnp.zeros(11))
    features = jnp.asarray(rng.normal(size=(12, 6)), jnp.float32)
    labels = jnp.asarray(rng.integers(0, 11, 12), jnp.int32)
    wanted = logit_statistics(head.logits(features), labels, 7)
    for size, num_tokens in ((4, None), (4, 12), (5, None), (4, 5)):
        monkeypatch.setattr(scoring, "TOKENS_AT_A_TIME", size)
        found = head_statistics(features, head, labels, 7, num_tokens)
        assert found.keys() == wanted.keys()
        real = slice(num_tokens)
        for name, value in wanted.items():
            np.testing.assert_allclose(found[name][real], value[real], rtol=1e-5, err_msg=name)
    assert (found["nll"][8:] == 0).all()  # whole chunks of padding are never computed


def test_the_most_probable_targets_are_those_of_the_whole_distribution(monkeypatch):
    monkeypatch.setattr(scoring, "TOKENS_AT_A_TIME", 4)
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(6, 11)).astype(np.float32)
    features = rng.normal(size=(12, 6)).astype(np.float32)
    head = Head(jnp.asarray(kernel), jnp.zeros(11))
    labels = jnp.zeros(12, jnp.int32)
    found = head_statistics(jnp.asarray(features), head, labels, 7, top_k=3)
    logits = features @ kernel
    log_probs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    order = np.argsort(-log_probs, axis=1)[:, :3]
    np.testing.assert_array_equal(found["token_ids"], order)
    np.testing.assert_allclose(
        found["log_probs"], np.take_along_axis(log_probs, order, 1), atol=1e-5
    )
    assert logit_statistics(jnp.zeros((1, 5)), labels[:1], 2, 2)["token_ids"].tolist() == [[0, 1]]


def test_equal_items_rank_by_index():
    logits = jnp.array([[0.0, 5.0, 1.0, 2.0, 2.0]])  # two words, three items
    statistics = logit_statistics(logits, jnp.array([4]), 2)
    assert statistics["item_rank"].tolist() == [2]
    assert logit_statistics(logits, jnp.array([3]), 2)["item_rank"].tolist() == [1]
    assert logit_statistics(logits, jnp.array([2]), 2)["item_rank"].tolist() == [3]
    assert logit_statistics(logits, jnp.array([1]), 2)["item_rank"].tolist() == [0]


def test_a_summary_written_out():
    scores = TokenScores(
        response_index=np.array([0, 0, 1, 1]),
        nll=np.array([1.0, 2.0, 3.0, 6.0]),
        item_mass=np.array([0.1, 0.8, 0.3, 0.6]),
        is_item=np.array([False, True, False, True]),
        item_rank=np.array([0, 1, 0, 11]),
    )
    wanted = {
        "nll": 3.0,
        "nll_item": 4.0,
        "nll_word": 2.0,
        "lambda_r": 0.7,
        "lambda_v": 0.2,
        "tf_hit@1": 0.5,
        "tf_hit@10": 0.5,
        "tf_hit@50": 1.0,
    }
    assert scores.summary() == pytest.approx(wanted)
