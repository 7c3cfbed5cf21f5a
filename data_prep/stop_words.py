"""English function words, used when the raw files include no list of stop words.

A stop word never becomes a concept, and a label never consists of stop words only.
"""

ENGLISH = frozenset(
    """
    a about above after again against all almost along already also although always am among an and
    another any anybody anyone anything are aren't around as at away
    back be because been before being below between both but by
    came can can't cannot come could couldn't
    did didn't do does doesn't doing don't done down during
    each either else enough even ever every everybody everyone everything
    few for from further
    gave get gets getting give go goes going gone got
    had hadn't has hasn't have haven't having he her here hers herself him himself his how however
    i if in instead into is isn't it its itself
    just
    keep kept knew know
    last least less let lets like likely little
    made make makes many may maybe me might mine more most much must my myself
    need neither never no nobody none nor not nothing now
    of off often oh ok okay on once one only onto or other others otherwise ought our ours ourselves
    out over own
    perhaps please put
    quite
    rather really
    said same saw say says see seem seemed seems seen shall she should shouldn't since so some
    somebody someone something sometimes soon still such sure
    take than thank thanks that the their theirs them themselves then there these they thing things
    think this those though through to together too took toward towards tried tries try
    under until up upon us use used uses
    very
    want wanted wants was wasn't we well went were weren't what whatever when where whether
    which while who whole whom whose why will with within without won't would wouldn't
    yeah yes yet you your yours yourself yourselves
    d ll m re s t ve
    """.split()
)
