"""A list of titles is read whole, or refused by file and line."""

import pytest

from conkd_jax.data.titles import titles_from_csv
from conkd_jax.errors import UserError

HEADER = ("movieId", "movieName")
MISSING = 'movieId,movieName,nbMentions\n5,"We, the Women  (1953)",1\n6,Mowgli (2019),2\n'


def read(content, columns=HEADER):
    content = content if isinstance(content, bytes) else content.encode()
    return titles_from_csv(content, "m.csv", UserError, "Fetch it", columns=columns)


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_the_movie_list_is_read_as_published(mark, end):
    titles = {5: "We, the Women (1953)", 6: "Mowgli (2019)"}
    assert read((mark + MISSING + "\n,,\n").replace("\n", end)) == titles


def test_a_list_of_your_own_needs_no_header():
    assert read("7,Alien\n8,Brazil\n", ()) == {7: "Alien", 8: "Brazil"}
    assert read("id,title\n7,Alien\n", ()) == {7: "Alien"}


@pytest.mark.parametrize(
    "content, message",
    [
        ("movieId,movieName\n5,a\nx,b\n", "line 3: expected item id and title, got \\['x', 'b'"),
        (
            "movieId,movieName\n5, \n",
            "line 2: expected 2 cells as in the first row|line 2: expected",
        ),
        ("movieId,movieName\n" + "9" * 30 + ",a\n", "line 2: expected item id and title"),
        (
            "movieId,movieName\n5,a\n6,b\n05,c\n",
            "line 4: expected each item once, got 5 as in line 2",
        ),
        (
            "movieId,movieName\n5,Me, Myself\n",
            "line 2: expected 2 cells as in the first row, got 3",
        ),
        (MISSING[:-4], "line 3: expected 3 cells as in the first row, got 2"),
        ('movieId,movieName\n5,"a\n6,b\n7,c\n8,d\n', "lines 2 to 5 .is a quotation mark"),
        ('movieId,movieName,n\n5,"a,1\n6,b",1\n', "line 2: expected a title on one line"),
        ("movieId,movieName\n", "line 1: expected rows of item id and title, found none"),
        (b"movieId,movieName\n5,Am\xe9lie\n", "line 2: expected UTF-8 text, got the byte 0xe9"),
    ],
)
def test_a_list_that_would_lose_a_movie_is_refused(content, message):
    with pytest.raises(UserError, match=rf"m\.csv, (?:{message}).*Fetch it\."):
        read(content)
