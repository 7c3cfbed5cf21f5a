"""A chat answers as the evaluation does: the same text, λ, tags, alone or in a batch."""

import inspect
import re

import numpy as np
import pytest

import conkd_jax.chat
from conkd_jax.chat import Chat, ChatError, Sampling
from conkd_jax.chat.explanation import RECOMMENDER, SYSTEM, TEACHER, explain
from conkd_jax.chat.paths import Paths
from conkd_jax.data.corpus import responses
from conkd_jax.runs.finished import Run, RunError
from conkd_jax.stages.systems.text_reader import TextReader

WILD = Sampling(temperature=3.0, top_p=1.0)


@pytest.fixture(scope="module")
def chat(small_world):
    return Chat.open(small_world.folder, batch_size=3)


@pytest.fixture(scope="module")
def histories(chat):
    dialogues = chat.system.corpus.dialogues("valid")[:4]
    return [dialogue.turns[:turn] for dialogue in dialogues for turn in responses(dialogue)]


def test_answers_are_those_of_the_evaluation(small_world, chat, histories):
    predictions = Run.open(small_world.folder).predictions()
    answers = chat.respond_all(histories)
    assert len(answers) > 6
    for answer, expected in zip(answers, predictions, strict=False):
        assert answer.turn.text == expected.generated
        assert answer.tag == expected.predicted_turn_type
        steps = [(item.token, item.item_id) for item in answer.items]
        assert steps == [(step.step, step.item) for step in expected.item_steps or ()]


def test_an_answer_in_a_batch_is_the_answer_alone(chat, histories):
    together = chat.respond_all(histories, seeds=range(len(histories)), sampling=WILD)
    for number, (history, answer) in enumerate(zip(histories, together, strict=True)):
        alone = chat.respond(history, seed=number, sampling=WILD)
        assert (alone.ids, alone.items, alone.tag) == (answer.ids, answer.items, answer.tag)
        assert alone.tokens == answer.tokens  # probabilities and masses, bit for bit


def test_every_history_needs_a_seed(chat, histories):
    with pytest.raises(ChatError, match="expected 2, as of histories, got 1"):
        chat.respond_all(histories[:2], seeds=[1])


def test_nothing_is_remembered(chat, histories):
    first = chat.respond(histories[0])
    chat.respond(histories[1], seed=1, sampling=WILD)
    assert chat.respond(histories[0]).tokens == first.tokens
    drawn = {chat.respond(histories[0], seed=seed, sampling=WILD).ids for seed in range(4)}
    assert len(drawn) > 1


def test_lambda_is_that_of_the_analysis(chat, histories):
    answer = chat.respond(histories[1])
    assert answer.tokens and answer.turn.text.strip()
    (trace,) = TextReader(chat.system).traces(histories[1], [answer.turn.text])
    count = min(len(answer.tokens), len(trace.gate) - 1)
    assert count > 0
    masses = [token.teacher_mass for token in answer.tokens[:count]]
    np.testing.assert_allclose(masses, trace.gate[:count], rtol=1e-4, atol=1e-7)


def test_items_have_rankings_and_the_text_has_titles(chat, histories):
    answers = chat.respond_all(histories, seeds=range(len(histories)), sampling=WILD)
    items = [(answer, item) for answer in answers for item in answer.items]
    assert items
    for answer, item in items:
        assert item.title in answer.text and f"@{item.item_id}" in answer.turn.text
        assert answer.tokens[item.token].item_id == item.item_id
        found = {one.item_id: one.probability for one in item.ranking}
        assert found[item.item_id] == item.probability  # 40 movies: the ranking holds all
        assert sum(found.values()) == pytest.approx(answer.tokens[item.token].item_mass, rel=1e-4)


def test_pieces_join_to_the_text(chat, histories):
    stream = chat.stream(histories[2], seed=2, sampling=WILD)
    text = "".join(piece.text for piece in stream)
    answer = stream.response()
    assert text == answer.text == "".join(token.text for token in answer.tokens)
    assert 0 < answer.first_seconds <= answer.seconds


def test_a_conversation_of_texts_and_answers(chat):
    movie = chat.system.corpus.items.titles[4]
    first = chat.respond([f"I like {movie}"])
    dialogue = chat.dialogue([f"I like {movie}", first, "And", chat.read("another?")])
    assert [turn.role for turn in dialogue.turns] == ["seeker", "recommender", "seeker"]
    assert dialogue.turns[0].items == (4,) and dialogue.turns[2].text == "And another?"


@pytest.mark.parametrize("history", [[], "Hi", ()])
def test_histories_that_can_t_be_answered(chat, history):
    with pytest.raises(ChatError, match="history: expected"):
        chat.respond(history)
    with pytest.raises(ChatError, match="seeker last"):
        chat.respond(["Hi", chat.respond(["Hi"])])


def test_a_folder_that_is_no_run(tmp_path):
    with pytest.raises(RunError):
        Chat.open(tmp_path)


def test_the_example_of_the_docstring_runs(small_world, capsys):
    text = inspect.getdoc(conkd_jax.chat) or ""
    code = "\n".join(re.findall(r"^    (.*)$", text, re.M))
    assert 'open("runs/dialogpt_hard-demo-seed0")' in code and len(code.splitlines()) <= 8
    folder = str(small_world.folder)
    exec(code.replace("runs/dialogpt_hard-demo-seed0", folder), {})  # our own docstring
    assert capsys.readouterr().out.strip()


def test_an_explanation_has_paths_and_three_rankings(chat, histories):
    history = next(h for h in histories if any(turn.items for turn in h))
    answer = next(
        answer
        for seed in range(30)
        if (answer := chat.respond(history, seed=seed, sampling=WILD)).items
    )
    found = explain(chat, history, answer)
    assert list(found.rankings) == [RECOMMENDER, TEACHER, SYSTEM]
    own = [one.item_id for one in answer.items[0].ranking[:5]]
    assert [one.item_id for one in found.rankings[SYSTEM]] == own
    assert set(found.paths) == {item.item_id for item in answer.items}


def test_an_explanation_says_what_the_history_named_itself(chat, histories):
    answers = (chat.respond(histories[0], seed=seed, sampling=WILD) for seed in range(30))
    answer = next(answer for answer in answers if answer.items)
    item = answer.items[0]
    assert not explain(chat, ["Hi"], answer).mentioned
    found = explain(chat, [f"I like @{item.item_id}"], answer)
    assert found.mentioned == {item.item_id} and not found.paths[item.item_id]


def test_paths_are_edges_of_the_graph(chat):
    corpus = chat.system.corpus
    edges = {(int(a), int(b)) for a, _, b in corpus.graph.edges} - {
        (n, n) for n in range(corpus.graph.num_entities)
    }
    start = int(corpus.items.entity_ids[0])
    node_of = {name: node for node, name in enumerate(corpus.entity_names)}
    found = [path for item in range(1, 40) for path in Paths(corpus).between([start], item, 2)]
    assert found
    for path in found:
        nodes = [node_of[name] for name in path]
        assert nodes[0] == start and len(nodes) in (2, 3)
        both = [*zip(nodes, nodes[1:], strict=False)]
        assert all((a, b) in edges or (b, a) in edges for a, b in both)
