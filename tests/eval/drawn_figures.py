"""What a figure holds and whether its file is a picture, for the tests of everything that draws."""

from matplotlib.figure import Figure
from matplotlib.image import imread


def texts(figure: Figure) -> str:
    """Every text in the panels of a figure, one a line."""
    parts = [t.get_text() for ax in figure.axes for t in ax.texts]
    parts += [ax.get_title(loc=loc) for ax in figure.axes for loc in ("left", "center", "right")]
    parts += [t.get_text() for ax in figure.axes for t in ax.get_xticklabels()]
    return "\n".join(parts)


def assert_is_picture(path) -> None:
    pixels = imread(path)[..., :3]
    assert pixels.shape[0] > 200
    assert pixels.shape[1] > 200
    assert 0.5 < (pixels > 0.99).all(-1).mean() < 0.999  # mostly white, not all of it
