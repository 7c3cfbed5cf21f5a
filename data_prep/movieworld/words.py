"""The words of MovieWorld: names, titles, themes and sentence templates.

Text only; `conversations` decides which movie is mentioned when. In a template {movie} stands for
an "@" id; {person}, {genre}, {theme} and {decade} for what they say; {other} for a second movie or
theme, {third} for a third movie.
"""

# Genre: the words that people use about it, which are its neighbours in the concept graph.
GENRES: dict[str, tuple[str, ...]] = {
    "western": ("cowboy", "desert", "saloon", "horse", "sheriff", "frontier"),
    "space opera": ("planet", "rocket", "galaxy", "robot", "comet", "starship"),
    "heist": ("robbery", "vault", "thief", "diamond", "casino", "getaway"),
    "romance": ("wedding", "kiss", "letter", "promise", "neighbor", "summer"),
    "horror": ("ghost", "scream", "monster", "curse", "nightmare", "cellar"),
    "musical": ("song", "dance", "melody", "singer", "chorus", "stage"),
    "mystery": ("detective", "clue", "murder", "secret", "suspect", "riddle"),
    "fantasy": ("dragon", "wizard", "castle", "sword", "quest", "kingdom"),
    "war drama": ("soldier", "battle", "trench", "general", "bridge", "regiment"),
    "slapstick": ("prank", "clown", "pie", "bucket", "waiter", "chase"),
}

# Pairs of concepts outside the genres, and pairs that join the themes of different genres.
COMMON_CONCEPTS = (
    ("movie", "film"), ("film", "story"), ("story", "plot"), ("actor", "film"), ("actor", "star"),
    ("director", "film"), ("funny", "clown"), ("scary", "ghost"), ("scary", "scream"),
    ("old", "classic"), ("new", "recent"), ("sad", "letter"), ("adventure", "quest"),
    ("adventure", "frontier"), ("adventure", "planet"), ("thriller", "suspect"),
    ("thriller", "robbery"), ("family", "wedding"), ("crime", "thief"), ("crime", "murder"),
    ("battle", "sword"), ("castle", "ghost"), ("dance", "summer"), ("secret", "vault"),
)  # fmt: skip

TITLE_ADJECTIVES = (
    "Silver", "Broken", "Last", "Hidden", "Golden", "Silent", "Crimson", "Lonely", "Burning",
    "Frozen", "Endless", "Paper", "Iron", "Midnight", "Distant", "Velvet", "Hollow", "Wandering",
    "Gentle", "Thirteenth",
)  # fmt: skip
TITLE_PATTERNS = (
    "The {adjective} {noun}", "{adjective} {noun}", "A {noun} in {place}", "{noun} of {place}",
    "The {noun} and the {other}", "Return of the {adjective} {noun}", "{place}",
)  # fmt: skip
PLACES = (
    "Marrowdale", "Port Ellery", "Oakhaven", "Saint Corvin", "Vesper Bay", "Lunaris", "Dunmore",
    "Kestrel Hill", "Harrowgate", "Belmora", "Thornfield", "Amber Falls",
)  # fmt: skip
FIRST_NAMES = (
    "Ada", "Bram", "Cleo", "Dario", "Edda", "Felix", "Greta", "Hugo", "Ines", "Jonas", "Kira",
    "Leon", "Mira", "Nils", "Odile", "Piers", "Quinta", "Rafe", "Sanna", "Tobin",
)  # fmt: skip
LAST_NAMES = (
    "Abelard", "Brisk", "Calloway", "Drummel", "Everhart", "Fennick", "Gallow", "Hartnell",
    "Ivarsen", "Jessup", "Kestner", "Lorimer", "Marchetti", "Norwick", "Ostrander", "Pellham",
    "Quill", "Rothby", "Strand", "Tolven", "Underhay", "Vance", "Wexley", "Yarrow",
)  # fmt: skip

LIKE_ONE = (
    "I loved {movie}.", "Something like {movie}?", "{movie} was great.",
    "Movies like {movie}, please.",
)  # fmt: skip
LIKE_TWO = (
    "I loved {movie} and {other}.", "Something like {movie} or {other}?",
)  # fmt: skip
LIKE_PERSON = (
    "I love {person}.", "Anything with {person}?",
)  # fmt: skip
LIKE_GENRE = (
    "Any good {genre}?", "A {genre} with a {theme}, please.",
)  # fmt: skip
LIKE_THEME = (
    "Something about a {theme}, please.", "I like a {theme} or a {other}.",
)  # fmt: skip
ASK_DECADE = ("Do you prefer old or new movies?", "From which decade should it be?")
ANSWER_DECADE = ("Something from the {decade}.", "I like films of the {decade} best.")
ASK_THEME = ("What should it be about?", "Any theme you enjoy?", "Nice. What did you like most?")
ANSWER_THEME = ("A {theme} would be nice.", "I like a {theme} in a story.", "Maybe a {theme}.")
ASK_PERSON = ("Who do you like to watch?", "Any favorite star?", "Is there a person you like?")
RECOMMEND = (
    "Try {movie}.", "Have you seen {movie}?", "I would recommend {movie}.", "{movie} has {person}.",
    "{movie} is a good {genre}.",
)  # fmt: skip
RECOMMEND_TWO = (
    "Try {movie} or {other}.", "I would recommend {movie} and {other}.",
)  # fmt: skip
RECOMMEND_THREE = (
    "Try {movie}, {other} or {third}.", "I would recommend {movie}, {other} and {third}.",
)  # fmt: skip
SEEN_IT = (
    "I have seen it. What else?", "I know that one. Another?",
)  # fmt: skip
# Questions of a seeker about a recommendation, and possible answers.
QUESTIONS = (
    ("I have not seen it. What is it about?", ("It is a {genre} about a {theme} and a {other}.",
                                               "A {theme} meets a {other}, very good.")),
    ("No, never heard of it. Who is in it?", ("{person} plays in it, very good.",
                                              "You will see {person} in it.")),
    ("Not yet. Who directed it?", ("It was directed by {person}.", "{person} made it.")),
    ("Is it an old one?", ("It is a classic {genre} from the {decade}.",
                           "It was made in the {decade}.")),
)  # fmt: skip
ACCEPT = (
    "Great, thank you!", "I will watch it.", "Sounds good, thanks.",
)  # fmt: skip
MORE = (
    "One more, please?", "Any other idea?",
)  # fmt: skip
BYE_RECOMMENDER = (
    "You are welcome!", "Enjoy the movie!",
)  # fmt: skip
BYE_SEEKER = ("Bye!", "Thanks again, bye!", "Have a good night.")
# Of a movie; people write them, so they are longer than what is said in a dialogue.
REVIEWS = (
    "A {genre} with a {theme} and a {other}, and {person} is wonderful in it.",
    "I have seen this {genre} twice. The {theme} alone is worth it, and so is {person}.",
    "{director} made the best {genre} of the {decade}, with {person} and a {theme}.",
    "Not for everyone, but who likes a {theme} or a {other} will love {person} here.",
)
