"""Measures how well typed titles are found: chooses thresholds on train, reports on valid.

    python benchmarks/linking.py --corpus=artifacts/corpus/FINGERPRINT --out=FILE

The corpus tags its items, so a tag says which item is meant and where. Each message with tags is
typed again in five ways, with the titles in place of the tags: as listed, without the year, in
lower case, without articles and punctuation too, and misspelled by one letter. A link is right if
it is at that place and is that very item; of two items with one title, a reader without the year
can only guess. Precision counts all links in these messages. Links in messages without a tag are
reported beside it: some are right, since not everybody tags.
"""

import argparse
import itertools
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from conkd_jax.data.corpus import Corpus
from conkd_jax.data.mentions import MENTION, mention_id
from conkd_jax.data.title_links import MIN_LIKELIHOOD, MIN_SCORE, RARE, TitleIndex, split_title
from conkd_jax.io.files import write_json

GRID = {
    "min_likelihood": (0.05, 0.1, 0.2, 0.3, 0.5, 0.7),
    "min_score": (77, 80, 83, 86, 89, 92),
    "rare": (5, 20, 100),
}
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def misspelled(title, rng):
    """Changes one letter of a title: drops, doubles or replaces it, or swaps it with the next."""
    places = [place for place in range(1, len(title) - 1) if title[place].isalpha()]
    if len(places) < 4:  # with one letter wrong, "Up" could be anything
        return title
    place = int(rng.choice(places))
    before, letter, after = title[:place], title[place], title[place + 1 :]
    return [
        before + after,
        before + letter + letter + after,
        before + LETTERS[rng.integers(26)] + after,
        before + after[0] + letter + after[1:],
    ][rng.integers(4)]


def plain(title, rng):
    """A title in lower case, without its article and punctuation."""
    words = "".join(c if c.isalnum() or c == " " else "" for c in title.lower()).split()
    return " ".join(words[1:] if len(words) > 1 and words[0] in ("the", "a", "an") else words)


WAYS = {
    "as listed": None,
    "without year": lambda title, rng: title,
    "lower case": lambda title, rng: title.lower(),
    "no article or punctuation": plain,
    "misspelled": misspelled,
}


def typed(text, corpus, index_of, way, rng):
    """Types a message with titles in place of tags; returns it and the places of the items."""
    written, end, meant = "", 0, []
    for match in MENTION.finditer(text):
        item = index_of.get(mention_id(match[1]))
        if item is None:
            continue
        title = corpus.items.titles[item]
        if WAYS[way] is not None:
            title = WAYS[way](split_title(title)[0], rng)
        written += text[end : match.start()]
        meant.append((len(written), len(written) + len(title), item))
        written, end = written + title, match.end()
    return written + text[end:], meant


def score(index, messages):
    """Counts (right links, links, items meant) over typed messages."""
    right = links = wanted = 0
    for text, meant in messages:
        found = index.find(text)
        links, wanted = links + len(found), wanted + len(meant)
        for start, end, item in meant:
            right += any(f.item == item and f.start < end and start < f.end for f in found)
    return np.array([right, links, wanted])


def summary(counts):
    """Precision, recall and F1 of the counts."""
    right, links, wanted = counts.tolist()
    precision, recall = right / max(links, 1), right / max(wanted, 1)
    f1 = 2 * right / max(links + wanted, 1)
    return {"precision": precision, "recall": recall, "f1": f1, "movies": wanted, "links": links}


def split_messages(corpus, split, limit, seed):
    """Typed messages of a split by way, and messages without a tag."""
    rng = np.random.default_rng(seed)
    index_of = {item: i for i, item in enumerate(corpus.items.item_ids.tolist())}
    texts = [turn.text for dialogue in corpus.dialogues(split) for turn in dialogue.turns]
    tagged = [text for text in texts if MENTION.search(text)]
    others = [text for text in texts if not MENTION.search(text)]
    chosen = rng.permutation(len(tagged))[:limit]
    ways = {way: [typed(tagged[i], corpus, index_of, way, rng) for i in chosen] for way in WAYS}
    return ways, [others[i] for i in rng.permutation(len(others))[:limit]]


def choose(index, messages):
    """Sets each threshold of an index to the value with the best F1, one after the other.

    Returns:
      What was tried.
    """
    tried = []
    for name, values in GRID.items():
        found = []
        for value in values:
            setattr(index, name, value)
            found.append({"threshold": name, "value": value} | summary(score(index, messages)))
        setattr(index, name, max(found, key=lambda one: one["f1"])["value"])
        tried += found
    return tried


def main():
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--corpus", type=Path, required=True, help="a folder of a corpus")
    parser.add_argument("--train_messages", type=int, default=300)
    parser.add_argument("--valid_messages", type=int, default=2000)
    parser.add_argument("--out", type=Path, help="write the result to this file, as JSON")
    arguments = parser.parse_args()
    corpus = Corpus.open(arguments.corpus)
    texts = (turn.text for dialogue in corpus.dialogues("train") for turn in dialogue.turns)
    index = TitleIndex(corpus.items.titles, corpus.mention_counts(), texts)

    ways, _ = split_messages(corpus, "train", arguments.train_messages, seed=0)
    tried = choose(index, list(itertools.chain.from_iterable(ways.values())))

    ways, others = split_messages(corpus, "valid", arguments.valid_messages, seed=1)
    counts = {way: score(index, typed_messages) for way, typed_messages in ways.items()}
    result = {
        "command": "python benchmarks/linking.py --corpus=artifacts/corpus/FINGERPRINT "
        f"--valid_messages={arguments.valid_messages} --out=docs/results/linking.json",
        "corpus": f"{len(corpus.items)} items, {len(corpus.dialogues('train'))} train dialogues",
        "in_use": {"min_likelihood": MIN_LIKELIHOOD, "min_score": MIN_SCORE, "rare": RARE},
        "best_on_train": {name: getattr(index, name) for name in GRID},
        "tried_on_train": tried,
        "valid": {way: summary(found) for way, found in counts.items()}
        | {"all": summary(sum(counts.values(), np.zeros(3, int)))},
        "links_per_100_messages_without_tags": 100
        * sum(len(index.find(text)) for text in others)
        / max(len(others), 1),
    }
    print(f"best on train: {result['best_on_train']}; in use: {result['in_use']}")
    for way, values in result["valid"].items():
        print(f"{way:28s} precision {values['precision']:.3f}  recall {values['recall']:.3f}")
    print(f"links per 100 untagged: {result['links_per_100_messages_without_tags']:.1f}")
    if arguments.out:
        write_json(arguments.out, result, indent=2)


if __name__ == "__main__":
    main()
