"""Generated passages with questions, embedded: the answer is a span of the passage.

A passage states two to five facts of invented people, places and things. Difficulty comes from
the number of facts, from others of whom the same is said, from facts whose answers are of the
same kind (three towns, two years), from pronouns, from questions in other words than the
passage's, and from questions that ask for the subject instead.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from gapshift.domains.base import Dataset, InMemory, Text
from gapshift.domains.readers.grammar import Draws, sentence_case
from gapshift.domains.readers.reader import Reader
from gapshift.schema import OUTCOMES, Item

NAME = "passages"
SIZE = 4000
SEED = 20_240_613
QUESTIONS = 3
"""Questions on a passage, where it has facts enough."""
MOST_WORDS = 40


@dataclass(frozen=True, slots=True)
class _Relation:
    """What can be said of one kind of subject: ``{s}`` is the subject, ``{v}`` a value of ``pool``.

    ``plain`` questions use the first statement's words, ``other`` ones do not; ``subject``
    questions ask who or which it is.
    """

    pool: str
    statements: tuple[str, ...]
    plain: tuple[str, ...]
    other: tuple[str, ...]
    subject: tuple[str, ...]


_RELATIONS: Mapping[str, tuple[_Relation, ...]] = {
    "person": (
        _Relation(
            "town",
            ("{s} was born in {v}", "{s} came into the world in {v}", "it was in {v} that {s} was born"),
            ("where was {s} born?", "in which town was {s} born?"),
            ("what is the birthplace of {s}?", "from which town does {s} originate?"),
            ("who was born in {v}?", "whose birthplace is {v}?"),
        ),
        _Relation(
            "town",
            ("{s} lives in {v}", "{s} has a house in {v}", "since last year {s} lives in {v}"),
            ("where does {s} live?", "in which town does {s} live?"),
            ("what is the home town of {s}?", "where would you visit {s} at home?"),
            ("who lives in {v}?", "whose home is in {v}?"),
        ),
        _Relation(
            "town",
            ("{s} works in {v}", "{s} has an office in {v}", "every morning {s} drives to work in {v}"),
            ("where does {s} work?", "in which town does {s} work?"),
            ("where does {s} earn a living?", "to which town does {s} commute?"),
            ("who works in {v}?", "who commutes to {v}?"),
        ),
        _Relation(
            "job",
            ("{s} works as a {v}", "{s} is a {v} by trade", "people know {s} as a {v}"),
            ("as what does {s} work?", "what does {s} work as?"),
            ("what is the profession of {s}?", "how does {s} earn money?"),
            ("who works as a {v}?", "who is the {v}?"),
        ),
        _Relation(
            "instrument",
            ("{s} plays the {v}", "{s} owns an old {v}", "in the evening {s} practises the {v}"),
            ("what does {s} play?", "which instrument does {s} play?"),
            ("on what does {s} make music?", "what would you hear {s} practise?"),
            ("who plays the {v}?", "whose instrument is the {v}?"),
        ),
        _Relation(
            "animal",
            ("{s} keeps a {v}", "{s} feeds a {v}", "at home {s} looks after a {v}"),
            ("what does {s} keep?", "which animal does {s} keep?"),
            ("what is the pet of {s}?", "which animal belongs to {s}?"),
            ("who keeps a {v}?", "whose pet is the {v}?"),
        ),
        _Relation(
            "colour",
            ("{s} wears a {v} coat", "{s} put on the {v} coat", "the {v} coat belongs to {s}"),
            ("what colour is the coat that {s} wears?", "which coat does {s} wear?"),
            ("in what colour is {s} dressed?", "how would you recognise {s} from afar?"),
            ("who wears the {v} coat?", "who is dressed in {v}?"),
        ),
    ),
    "place": (
        _Relation(
            "year",
            ("{s} was founded in {v}", "in {v} settlers founded {s}", "the walls of {s} date from {v}"),
            ("when was {s} founded?", "in which year was {s} founded?"),
            ("how far back does the history of {s} go?", "when did {s} begin?"),
            ("which town was founded in {v}?", "what began in {v}?"),
        ),
        _Relation(
            "year",
            ("{s} burnt down in {v}", "a fire destroyed {s} in {v}", "in {v} flames swept through {s}"),
            ("when did {s} burn down?", "in which year did {s} burn down?"),
            ("when was {s} lost to a fire?", "what was the worst year for {s}?"),
            ("which town burnt down in {v}?", "what was lost to a fire in {v}?"),
        ),
        _Relation(
            "river",
            ("{s} lies on the {v}", "the {v} flows through {s}", "boats reach {s} by the {v}"),
            ("on which river does {s} lie?", "what does {s} lie on?"),
            ("which water would you cross in {s}?", "what flows past {s}?"),
            ("which town lies on the {v}?", "through what does the {v} flow?"),
        ),
        _Relation(
            "goods",
            ("{s} is known for its {v}", "merchants buy {v} in {s}", "travellers praise the {v} of {s}"),
            ("what is {s} known for?", "for what is {s} known?"),
            ("what would you buy in {s}?", "what is the speciality of {s}?"),
            ("which town is known for its {v}?", "where would you buy {v}?"),
        ),
        _Relation(
            "person",
            ("{s} is governed by {v}", "{v} is the mayor of {s}", "the people of {s} elected {v}"),
            ("who governs {s}?", "by whom is {s} governed?"),
            ("who leads the council of {s}?", "who is in charge of {s}?"),
            ("what does {v} govern?", "of which town is {v} in charge?"),
        ),
    ),
    "thing": (
        _Relation(
            "person",
            ("{s} was built by {v}", "{v} designed {s}", "the plans of {s} are by {v}"),
            ("who built {s}?", "by whom was {s} built?"),
            ("who is the architect of {s}?", "who drew {s} before it stood?"),
            ("what did {v} build?", "of what is {v} the architect?"),
        ),
        _Relation(
            "person",
            ("{s} was paid for by {v}", "{v} gave the money for {s}", "{s} was a gift of {v}"),
            ("who paid for {s}?", "by whom was {s} paid for?"),
            ("who financed {s}?", "at whose expense was {s} made?"),
            ("what did {v} pay for?", "what did {v} finance?"),
        ),
        _Relation(
            "year",
            ("{s} was opened in {v}", "in {v} the first visitors saw {s}", "{s} has stood since {v}"),
            ("when was {s} opened?", "in which year was {s} opened?"),
            ("how long has {s} been there?", "when did {s} receive its first guests?"),
            ("what was opened in {v}?", "what has been there since {v}?"),
        ),
        _Relation(
            "material",
            ("{s} is made of {v}", "workers made {s} from {v}", "{v} was used for {s}"),
            ("what is {s} made of?", "of what is {s} made?"),
            ("which material did the workers of {s} use?", "what would you touch at {s}?"),
            ("what is made of {v}?", "for what did workers use {v}?"),
        ),
        _Relation(
            "town",
            ("{s} stands in {v}", "{v} is proud of {s}", "visitors of {v} admire {s}"),
            ("where does {s} stand?", "in which town does {s} stand?"),
            ("where would you go to see {s}?", "what is the location of {s}?"),
            ("what stands in {v}?", "what would you go to see in {v}?"),
        ),
    ),
}
_POOLS = {
    "job": """baker doctor teacher sailor painter lawyer farmer miller tailor nurse porter cook judge weaver clerk
        barber jeweller printer glazier cooper chandler""",
    "instrument": "piano violin flute cello harp trumpet guitar drum organ clarinet lute oboe banjo zither bassoon",
    "animal": "dog cat horse goat parrot rabbit donkey goose turtle raven ferret hedgehog peacock llama stoat",
    "colour": "red blue green black white yellow grey brown purple pink crimson violet scarlet beige turquoise",
    "goods": "wine cheese glass silk honey pottery carpets clocks bread salt paper pears lace knives candles saffron",
    "material": "stone wood marble iron brick glass bronze granite copper steel concrete oak slate limestone",
}
_FIRST = """Anna Ben Clara David Eva Felix Grace Henry Ida Jonas Karen Leo Mary Nils Olga Peter Rosa Simon Tina Victor
    Amélie Björn Chloé Dmitri Esmé Fabián Zoë Gérard"""
"""Women and men in turn."""
_STARTS = "Al Bar Cor Den El Fal Gor Hol Ker Lin Mor Nor Pel Quin Ros Sel Tor Val Wes Yar"
_ENDS = {
    "person": "man berg ley dane son wick ström hart",
    "town": "ton ford mouth ville burgh stad haven minster",
    "river": "a is one ine ava",
    "thing": "gate field wall stone brook",
}
_THINGS = "bridge tower museum library theatre station chapel fountain lighthouse palace"
_YEARS = range(1200, 1990, 7)
_SLOTS = re.compile(r"(\{[sv]\})")


@dataclass(frozen=True, slots=True)
class _Subject:
    """Whom facts are of: ``name`` at first, then ``short`` or ``pronoun``; ``accepted`` answers name it."""

    kind: str
    name: str
    short: str
    pronoun: str
    accepted: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Fact:
    subject: _Subject
    relation: _Relation
    value: str


@dataclass(frozen=True, slots=True)
class _Sentence:
    """A fact as stated; ``value_at`` and ``subject_at`` are characters of the whole passage."""

    fact: _Fact
    skeleton: str
    text: str
    value_at: int
    subject_at: int


def read_passages() -> Dataset:
    """4,000 questions on passages of at most 40 words; a passage is a group, and no two passages
    are alike in everything but their names."""
    items: list[Item] = []
    texts: list[Text] = []
    for passage, questions in enumerate(_generate()):
        for text in questions:
            items.append(Item(id=f"{NAME}/{len(items):05d}", label=1, group=f"{NAME}/p{passage:04d}"))
            texts.append(text)
    return InMemory(NAME, OUTCOMES, items[:SIZE], texts[:SIZE], "text", "spans")


@cache
def _generate() -> tuple[tuple[Text, ...], ...]:
    """The questions on each passage."""
    draws = Draws(SEED)
    made: dict[tuple[str, ...], tuple[Text, ...]] = {}
    count = 0
    while count < SIZE:
        sentences = _state(draws, _facts(draws))
        skeleton = tuple(sentence.skeleton for sentence in sentences)
        passage = sentence_case(" ".join(sentence.text for sentence in sentences))
        if skeleton not in made and len(passage.split()) <= MOST_WORDS:
            asked = draws.some(sentences, min(QUESTIONS, len(sentences)))
            made[skeleton] = tuple(_ask(draws, sentence, passage) for sentence in asked)
            count += len(asked)
    return tuple(made.values())


def _facts(draws: Draws) -> list[_Fact]:
    """Two to five facts of one to three subjects; no value and no name occurs twice."""
    kind = draws.weighted(tuple(_RELATIONS), (4, 3, 3))
    taken: set[str] = set()
    subjects = [_subject(draws, kind, taken) for _ in range(draws.weighted((1, 2, 3), (6, 3, 1)))]
    count = max(draws.weighted((2, 3, 4, 5), (5, 4, 2, 1)), len(subjects))
    alike = draws.chance(0.6)  # then every subject's first relation is the same
    common = draws.one(_RELATIONS[kind])
    pairs = [(subject, common if alike else draws.one(_RELATIONS[kind])) for subject in subjects]
    while len(pairs) < count:
        pair = draws.one(subjects), draws.one(_RELATIONS[kind])
        if pair not in pairs:
            pairs.append(pair)
    if draws.chance(0.5):
        pairs = draws.some(pairs, count)
    else:
        pairs.sort(key=lambda pair: subjects.index(pair[0]))
    return [_Fact(subject, relation, _value(draws, relation.pool, taken)) for subject, relation in pairs]


def _subject(draws: Draws, kind: str, taken: set[str]) -> _Subject:
    if kind == "person":
        name = _value(draws, "person", taken)
        first = name.split()[0]
        return _Subject(kind, name, first, ("she", "he")[_FIRST.split().index(first) % 2], (name, first))
    if kind == "place":
        name = _value(draws, "town", taken)
        return _Subject(kind, name, name, "it", (name,))
    name = f"{_value(draws, 'thing', taken)} {draws.one(_THINGS.split())}"
    return _Subject(kind, f"the {name}", f"the {name}", "it", (name,))


def _value(draws: Draws, pool: str, taken: set[str]) -> str:
    """One of ``pool`` that shares no part of a name with what is ``taken``; takes it."""
    while taken & set((value := _draw(draws, pool)).split()):
        pass
    taken.update(value.split())
    return value


def _draw(draws: Draws, pool: str) -> str:
    if pool == "year":
        return str(draws.one(_YEARS))
    if pool in _POOLS:
        return draws.one(_POOLS[pool].split())
    made = draws.one(_STARTS.split()) + draws.one(_ENDS[pool].split())
    return f"{draws.zipf(_FIRST.split())} {made}" if pool == "person" else made


def _state(draws: Draws, facts: Sequence[_Fact]) -> list[_Sentence]:
    """The facts in sentences; a subject is named in full where it comes first."""
    sentences: list[_Sentence] = []
    named: dict[str, int] = {}
    begin = 0
    for fact in facts:
        follows = bool(sentences) and sentences[-1].fact.subject == fact.subject
        statement, mention = draws.one(fact.relation.statements), fact.subject.short
        if fact.subject.name not in named:
            mention = fact.subject.name
        elif follows and draws.chance(0.6):  # only the first statement has its subject where a pronoun can stand
            statement, mention = fact.relation.statements[0], fact.subject.pronoun
        text, at = _filled(f"{statement}.", mention, fact.value)
        if mention == fact.subject.name:
            named.setdefault(mention, begin + at["{s}"] + mention.index(fact.subject.accepted[0]))
        skeleton = f"{list(named).index(fact.subject.name)} {statement} {mention == fact.subject.pronoun}"
        sentences.append(_Sentence(fact, skeleton, text, begin + at["{v}"], named[fact.subject.name]))
        begin += len(text) + 1
    return sentences


def _filled(statement: str, subject: str, value: str) -> tuple[str, dict[str, int]]:
    """The statement with its slots filled, and the character where each begins."""
    text, at = "", {}
    for part in _SLOTS.split(statement):
        at[part] = len(text)
        text += {"{s}": subject, "{v}": value}.get(part, part)
    return text, at


def _ask(draws: Draws, sentence: _Sentence, passage: str) -> Text:
    """A question that the sentence answers."""
    fact = sentence.fact
    form = draws.weighted(("plain", "other", "subject"), (10, 6, 3))
    asks = {"plain": fact.relation.plain, "other": fact.relation.other, "subject": fact.relation.subject}[form]
    named = fact.subject.short if draws.chance(0.3) else fact.subject.name
    question = sentence_case(_filled(draws.one(asks), named, fact.value)[0])
    of_subject = form == "subject"
    accepted = fact.subject.accepted if of_subject else (fact.value,)
    start = sentence.subject_at if of_subject else sentence.value_at
    stated = passage[start : start + len(accepted[0])]  # a sentence may begin with it, in capitals then
    return Text(question, passage, (stated, *accepted[1:]), start)


READER = Reader(
    name=NAME,
    layout="the word 'passages': generated questions answered by a span of a short passage",
    accepts=lambda source: source == NAME,
    read=lambda _, __: read_passages(),
)
