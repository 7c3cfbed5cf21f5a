"""Why an item was recommended: paths in the graph, and what each model would have said.

A system has no reasons that it could tell. What is shown is what it was trained on: the paths of
two edges from what a person mentioned to what was recommended, and the first items of the
recommender, of the dialogue teacher and of the system itself at the same place of the response.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from conkd_jax.chat.conversation import Chat, Message
from conkd_jax.chat.paths import Path
from conkd_jax.chat.response import RankedItem, Response
from conkd_jax.data.rows.picks import split_picks
from conkd_jax.distill.head import Head
from conkd_jax.eval.item_rankings import top_items
from conkd_jax.eval.metrics.ranking import best_indices

RECOMMENDER, TEACHER, SYSTEM = "recommender", "dialogue teacher", "this system"


@dataclasses.dataclass(frozen=True)
class Explanation:
    """What speaks for the items of a response.

    Attributes:
      paths: for each item, by item id, names of nodes from one that was mentioned to the item.
      mentioned: the ids among them that the history mentions itself.
      token: the token of the response that the rankings are for: its first item, or the token at
        which items had the most probability.
      rankings: the first items of each model there.
    """

    paths: dict[int, tuple[Path, ...]]
    mentioned: frozenset[int]
    token: int
    rankings: dict[str, tuple[RankedItem, ...]]


def explain(
    chat: Chat, history: Sequence[Message], response: Response, *, top: int = 5, paths: int = 3
) -> Explanation:
    """Explains a response of a chat to a history.

    Args:
      chat: the chat that gave the response.
      history: the history it was given for.
      response: the response.
      top: length of the rankings.
      paths: the most paths to each item.
    """
    system, dialogue = chat.system, chat.dialogue(history)
    mentioned = dict.fromkeys(node for turn in dialogue.turns for node in turn.entities)
    index_of, nodes = chat.engine.linker.index_of, system.corpus.items.entity_ids
    found = {
        item.item_id: chat.engine.paths.between(mentioned, index_of[item.item_id], paths)
        for item in response.items
    }
    again = (item for item in response.items if int(nodes[index_of[item.item_id]]) in mentioned)
    place = _place(response)
    question = chat.engine.question([dialogue])
    rankings = {}
    if "rec_teacher" in system.names:  # a release has none
        rankings[RECOMMENDER] = _of_recommender(chat, question.dialogues, top)
    if response.ids:
        step = _first_of_text(chat, response) + place if response.tokens else 0
        ids = np.array([response.ids], np.int32)
        if system.has_teacher:  # a small release has none
            read = chat.engine.read_as_teacher(question, ids)
            rankings[TEACHER] = _of_model(
                chat, chat.engine.teacher_head, read.features[0, step], top
            )
        read = chat.engine.read_as_system(question, ids)
        rankings[SYSTEM] = _of_model(chat, chat.engine.head, read.features[0, step], top)
    return Explanation(found, frozenset(item.item_id for item in again), place, rankings)


def _first_of_text(chat: Chat, response: Response) -> int:
    """The index of the text's first token among `response.ids`, after picks and their end."""
    words = chat.system.vocabulary
    if chat.system.rows.max_picks is None:
        return 0
    picks, _ = split_picks(response.ids, words.num_words, words.end_id)
    return len(picks) + 1 if picks else 0


def _place(response: Response) -> int:
    if response.items:
        return response.items[0].token
    masses = [token.item_mass for token in response.tokens]
    return int(np.argmax(masses)) if masses else 0


def _of_recommender(chat: Chat, dialogues, top: int) -> tuple[RankedItem, ...]:
    recommender, items = chat.system.recommender, chat.system.corpus.items
    contexts = recommender.spec.contexts(dialogues, chat.system.corpus)
    vectors = recommender.user_vectors(contexts)[-1:]  # of the response that was asked for
    probability = np.asarray(jax.nn.softmax(jnp.asarray(recommender.scores(vectors)[0])))
    (best,) = best_indices(probability[None], top)
    return tuple(
        RankedItem(int(items.item_ids[i]), items.titles[i], float(probability[i])) for i in best
    )


def _of_model(chat: Chat, head: Head, features, top: int) -> tuple[RankedItem, ...]:
    """The first items of a model, with their probabilities among all items."""
    words = chat.system.vocabulary
    features = np.asarray(features)
    (best,) = top_items(head, [features[None]], None, words.num_words, top)
    width = head.kernel.shape[0]
    logits = head.items(words.num_words).logits(jnp.asarray(features[:width]))
    probability = np.asarray(jax.nn.softmax(logits))
    numbers = [int(token) - words.num_words for token in best]
    return tuple(
        RankedItem(int(words.item_ids[n]), words.titles[n], float(probability[n])) for n in numbers
    )
