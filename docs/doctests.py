"""Shows examples in docstrings as code: an extension of griffe, which reads the docstrings."""

import re

import griffe

# A prompt at the start of a line, and all lines up to the next empty one.
EXAMPLE = re.compile(r"(?m)^( *)>>> .*(?:\n *\S.*)*")


class FencedExamples(griffe.Extension):
    """Puts every doctest into a fenced block; without one it would be read as Markdown."""

    def on_object(self, *, obj: griffe.Object, loader: griffe.GriffeLoader, **_: object) -> None:
        """Changes the docstring of an object that has been loaded."""
        if obj.docstring is not None:
            obj.docstring.value = EXAMPLE.sub(
                lambda found: f"{found[1]}```pycon\n{found[0]}\n{found[1]}```", obj.docstring.value
            )
