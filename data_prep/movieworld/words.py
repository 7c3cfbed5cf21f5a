"""The words of MovieWorld: names, titles, themes and sentence templates.

Text only; `conversations` decides which movie is mentioned when. In a template {movie} stands for
an "@" id; {person}, {genre}, {theme} and {decade} for what they say; {other} for a second movie or
theme.
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

GREET_SEEKER = (
    "Hi there!", "Hello, can you help me find a movie?", "Hey, how are you?", "Good evening!",
    "Hi, I am looking for something to watch tonight.", "Hello! I need a film for the weekend.",
)  # fmt: skip
GREET_RECOMMENDER = (
    "Hello! What kind of movies do you like?", "Hi, what are you in the mood for?",
    "Hey! Tell me about a movie you enjoyed.", "Good evening! Any favorite actor or genre?",
    "Hi there, I am happy to help. What do you usually watch?",
)  # fmt: skip
LIKE_ONE = (
    "I really liked {movie}.", "My favorite is {movie}.", "I watched {movie} and loved it.",
    "Something like {movie} would be great.", "{movie} was a lot of fun.",
)  # fmt: skip
LIKE_TWO = (
    "I enjoyed {movie} and {other}.", "I like movies such as {movie} or {other}.",
    "{movie} is good, but {other} is even better.",
)  # fmt: skip
LIKE_PERSON = (
    "I love anything with {person}.", "{person} is my favorite.", "Do you know {person}? So good!",
    "I watch everything that {person} is in.",
)  # fmt: skip
LIKE_GENRE = (
    "I am in the mood for a {genre}.", "I usually go for {genre} films.", "Any good {genre}?",
    "A {genre} with a {theme} would be perfect.",
)  # fmt: skip
LIKE_THEME = (
    "I want a story about a {theme}.", "Something with a {theme} in it, please.",
    "I like it when there is a {theme} or a {other}.",
)  # fmt: skip
ASK_DECADE = ("Do you prefer old or new movies?", "From which decade should it be?")
ANSWER_DECADE = ("Something from the {decade}.", "I like films of the {decade} best.")
ASK_THEME = ("What should it be about?", "Any theme you enjoy?", "Nice. What did you like most?")
ANSWER_THEME = ("A {theme} would be nice.", "I like a {theme} in a story.", "Maybe a {theme}.")
ASK_PERSON = ("Who do you like to watch?", "Any favorite star?", "Is there a person you like?")
RECOMMEND = (
    "Have you seen {movie}?", "You should watch {movie}.", "I would recommend {movie}.",
    "How about {movie}? It is a {genre}.", "Then try {movie}, it has {person}.",
    "{movie} is a good one with {person}.", "I think you would like {movie}, a {genre} film.",
    "If you like {person}, see {movie}.", "{movie} is from the {decade} and has a {theme}.",
)  # fmt: skip
RECOMMEND_TWO = (
    "What about {movie} or {other}?", "You could try {movie}. There is also {other}.",
)  # fmt: skip
SEEN_IT = (
    "I have seen that one, it was great. What else?", "Yes, I saw it. Anything else?",
    "I know that one already. Another one?",
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
    "That sounds great, I will watch it.", "Perfect, thank you!", "I will add it to my list.",
    "Sounds like my kind of movie, thanks.",
)  # fmt: skip
MORE = ("Could you give me one more?", "Any other idea?", "And one more for tomorrow?")
BYE_RECOMMENDER = (
    "You are welcome, enjoy it!", "Glad I could help. Bye!", "Have a nice evening!",
    "Enjoy the movie!",
)  # fmt: skip
BYE_SEEKER = ("Bye!", "Thanks again, bye!", "Have a good night.")
