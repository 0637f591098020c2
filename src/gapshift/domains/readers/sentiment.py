"""Generated reviews, embedded: is the writer pleased? Words, negation and contrast decide.

Every template is written once, for a writer whose opinion is ``{yes}``; ``{no}`` is an opinion
of the other kind. So each label has the same structures, and counting opinion words answers the
plain templates only. Difficulty comes from a word's frequency (drawn by Zipf's law), from what
negates or outweighs it, and from sentences that say nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

from gapshift.domains.base import Dataset, InMemory, Text
from gapshift.domains.readers.grammar import Draws, fill, sentence_case, with_article
from gapshift.domains.readers.labels import resolve_labels
from gapshift.domains.readers.reader import Reader
from gapshift.schema import Item

NAME = "sentiment"
CLASSES = ("negative", "positive")
SIZE = 6000
SEED = 20_240_611

_QUALITIES = (
    """bad boring terrible dull awful poor weak disappointing slow annoying horrible sloppy ugly clumsy tedious cheap
    unpleasant lifeless messy bland pointless careless shallow tiresome miserable flat lame dreadful noisy forgettable
    confusing lousy dismal stale irritating clichéd rude grim overpriced feeble shabby dreary hollow vulgar wretched
    abysmal insipid grating drab stilted half-baked soulless murky contrived leaden mawkish turgid amateurish
    execrable vapid banal jarring slapdash lacklustre tawdry trite passé ponderous vacuous cloying moribund
    insufferable ham-fisted desultory threadbare risible rebarbative""",
    """good great wonderful nice excellent lovely fun brilliant charming fresh pleasant superb delightful beautiful
    clever enjoyable warm fantastic lively elegant perfect friendly funny inspiring solid graceful rich touching bright
    gripping generous polished tasteful witty memorable admirable honest stylish tender splendid stunning radiant
    refreshing vivid engaging absorbing exquisite soulful crisp inventive poignant assured luminous sublime
    irresistible soigné exhilarating sprightly masterly effervescent peerless urbane felicitous limpid scintillating
    beguiling resplendent winsome deft sumptuous ebullient consummate impeccable piquant mellifluous""",
)
_VERBS = (
    (("hate", "hated"), ("regret", "regretted"), ("loathe", "loathed"), ("detest", "detested"), ("abhor", "abhorred")),
    (("love", "loved"), ("enjoy", "enjoyed"), ("admire", "admired"), ("adore", "adored"), ("relish", "relished")),
)
_TEMPLATES: tuple[tuple[int, str], ...] = (
    # the word itself decides
    (24, "{the_thing} was {very}{yes}"),
    (18, "{the_thing} was {very}{yes} and {yes}"),
    (8, "{yes}, {yes} and {very}{yes}: that was {the_thing}"),
    (6, "I {liked_yes} {the_thing}, so {yes} was it"),
    (6, "what {a_yes} and {yes} {thing}"),
    (6, "{the_thing} was {yes} from start to finish"),
    (4, "{the_thing} could not have been more {yes}"),
    (6, "everyone agreed that {the_thing} was {very}{yes}"),
    (4, "{yes} is the word for {the_thing}"),
    # negation turns it round
    (4, "{the_thing} was not {very}{no}"),
    (4, "{the_thing} was {never} {no}"),
    (2, "I did not {like_no} {the_thing}"),
    (2, "nobody could call {the_thing} {no}"),
    (2, "{the_thing} was not {no} at all, whatever you have heard"),
    (2, "there was nothing {no} about {the_thing}"),
    (1, "{the_thing} was not {no}, and not {no} either"),
    # negated twice
    (2, "I cannot say that {the_thing} was not {yes}"),
    (2, "it is not true that {the_thing} was {never} {yes}"),
    (1, "nobody can deny that {the_thing} was {yes}"),
    # two opinions, one of which counts
    (3, "I expected {the_thing} to be {very}{no}, but it was {very}{yes}"),
    (3, "I was told that it would be {no}; it was {yes}"),
    (3, "although {the_thing} was {no}, {the_other} was so {yes} that nothing else counted"),
    (3, "{the_thing} was {yes}, even if {the_other} was {no}"),
    (3, "the critics called {the_thing} {no}, yet I found it {yes}"),
    (3, "I found {the_thing} {yes}, whatever the critics who call it {no} may say"),
    (2, "{the_thing} used to be {no}; now it is {yes}"),
    (2, "{the_thing} was more {yes} than {no}"),
    (2, "{the_thing} was less {no} than {yes}"),
    # two opinions and a negation
    (2, "I expected {the_thing} to be {yes}, and I was not wrong"),
    (2, "I expected {the_thing} to be {no}, and I was wrong"),
    (2, "I thought {the_thing} would be {no}, but it was not"),
    (1, "not once did I think that {the_thing}, so {yes} to me, was {no}"),
    (1, "I do not agree that {the_thing} was {no} and not {yes}"),
)
_NEVER = ("never", "hardly", "anything but", "far from", "scarcely", "by no means", "nowhere near", "in no way")
_VERY = ("", "", "", "very ", "really ", "so ", "truly ", "rather ", "quite ", "utterly ", "terribly ", "awfully ")
_THINGS = """film plot acting hotel room breakfast soup service music concert novel ending dialogue camera phone battery
    screen garden museum tour guide café coffee dessert entrée menu décor lamp chair bicycle jacket album singer
    orchestra play cast script lecture course app keyboard train journey ferry cottage view pool staff"""
_NAMES = "Anna Ben Chloé Dan Eva Finn Greta Hugo Ines José Kate Liam Mia Noël Olga Paul Renée Sam Tess Zoë"
_DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday"
_OPENERS = (
    "", "", "", "", "we went there on a rainy {day}. ", "{name} gave me a ticket for my birthday. ",
    "it was our second visit this year. ", "{name} and I had a free {day}. ", "a word about last {day}. ",
    "my friend {name} asked for a review. ", "we paid £{number} for two. ", "№ {number} on the list… ",
)  # fmt: skip
_CLOSERS = (
    "", "", "", "", " {name} took the pictures.", " we were home by nine.", " that was on {day}.",
    " it took 1½ hours.", " the tickets cost £{number}.", " so much for {day}…", " {name} came along.",
    " we sat in row {number}.",
)  # fmt: skip


def read_sentiment(labels: Sequence[str] | None = None) -> Dataset:
    """6,000 reviews, half of them positive; a cluster holds those that differ in scenery only."""
    made = _generate()
    classes, indexes = resolve_labels(
        [CLASSES[label] for _, label, _ in made], labels or CLASSES, lambda row: f"Item '{NAME}/{row:05d}'"
    )
    items = [
        Item(id=f"{NAME}/{row:05d}", label=int(index), group=f"{NAME}/{cluster}")
        for row, (index, (_, _, cluster)) in enumerate(zip(indexes, made, strict=True))
    ]
    return InMemory(NAME, classes, items, [text for text, _, _ in made], "text")


@cache
def _generate() -> tuple[tuple[Text, int, str], ...]:
    """Text, label and cluster of every item; no text occurs twice."""
    draws = Draws(SEED)
    weights, templates = [weight for weight, _ in _TEMPLATES], [template for _, template in _TEMPLATES]
    made: dict[str, tuple[Text, int, str]] = {}
    while len(made) < SIZE:
        label = len(made) % 2
        opinion = fill(draws.weighted(templates, weights), _opinions(draws, label))
        scene = fill(f"{draws.one(_OPENERS)}{opinion}.{draws.one(_CLOSERS)}", _scenery(draws))
        text = sentence_case(scene)
        made.setdefault(text, (Text(text), label, opinion))
    return tuple(made.values())


def _opinions(draws: Draws, label: int) -> dict[str, Callable[[], str]]:
    """What fills the slots of a writer's opinion; no word twice."""
    used: set[str] = set()

    def quality(kind: int) -> str:
        word = draws.zipf([word for word in _QUALITIES[kind].split() if word not in used])
        used.add(word)
        return word

    return {
        "yes": lambda: quality(label),
        "no": lambda: quality(1 - label),
        "a_yes": lambda: with_article(quality(label)),
        "like_no": lambda: draws.zipf(_VERBS[1 - label])[0],
        "liked_yes": lambda: draws.zipf(_VERBS[label])[1],
        "never": lambda: draws.zipf(_NEVER),
        "very": lambda: draws.one(_VERY),
    }


def _scenery(draws: Draws) -> dict[str, Callable[[], str]]:
    """What fills the slots that say nothing of the opinion."""
    thing, other = draws.some(_THINGS.split(), 2)
    return {
        "thing": lambda: thing,
        "the_thing": lambda: f"the {thing}",
        "the_other": lambda: f"the {other}",
        "name": lambda: draws.one(_NAMES.split()),
        "day": lambda: draws.one(_DAYS.split()),
        "number": lambda: str(draws.one(range(3, 60))),
    }


READER = Reader(
    name=NAME,
    layout="the word 'sentiment': generated reviews with negation and contrast",
    accepts=lambda source: source == NAME,
    read=lambda _, labels: read_sentiment(labels),
)
