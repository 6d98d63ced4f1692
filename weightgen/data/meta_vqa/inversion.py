"""Statements from questions that put an auxiliary before the subject: "Does the cat have fur?" → "the cat has fur".

A small grammar of frequent words, not a parser: where it cannot tell the subject from the predicate, it takes the
shortest subject. It serves questions that the patterns of `templates.py` do not know, yes/no questions above all.
"""

from __future__ import annotations

import re

__all__ = ["invert", "third_person"]

DETERMINERS = frozenset("the this that these those a an one your his her its their our my any each".split())
PRONOUNS = frozenset(
    "it he she they you we i there this that these those people anyone someone humans".split()
)
BE, HAVE, DO = "is are was were".split(), "has have had".split(), "do does did".split()
MODALS = "can could would will should must may might".split()
AUXILIARY = "|".join([*BE, *HAVE, *DO, *MODALS])
PREPOSITIONS = (
    "on in at by near behind under over above below beneath beside between inside around across along against among "
    "through outside to from with of for into onto without during before after like than as"
).split()
VERBS = frozenset(
    "have be live eat hunt lay hatch come feed drink give breathe keep move get travel fly take swim hop jump climb "
    "go walk run look see find meet speak talk wear put carry lift pick weigh reach rise belong cost need use ride "
    "drive burn stop sit lie rest relax hold pour press build make know exist enter stand sail show spend stand "
    "steer kill hurt buy sell stay prick feel consist work do say read mean want represent indicate spell fit "
    "paint classify call grow roll wag play like love fall turn open close touch write sleep cook cut wash contain "
    "help start end face seem appear think plan taste smell sound add mate sing bark bite lead cross serve store".split()
)
PARTICIPLES = frozenset("got been had ever done made seen eaten lost gone taken come become".split())
ADVERBS = frozenset("always usually often never sometimes mostly also still ever already probably".split())
# What a predicate after "is the cat" may begin with.
STARTS = re.compile(
    r"(?:\w{2,}ing|\w{2,}ed|made|born|found|sold|grown|taken|shown|seen|held|worn|written|built|drawn|cut|kept|lit"
    r"|a|an|the|able|something|mostly|usually|always|often|not)"
)
NOT_STARTS = re.compile(
    r"(?:\w+-\w+ed|building|ceiling|painting|clothing|wing|string|thing|king|ring|evening|morning|being|living"
    r"|bed|red|shed|seed|weed|breed|sled|striped|colou?red)s?"
)
QUESTION = re.compile(
    rf"(?:(?P<prep>{'|'.join(PREPOSITIONS)}) )?(?P<wh>what|which|how|where|why|who)(?P<noun>(?: \S+)*?)"
    rf" (?P<aux>{AUXILIARY}) (?P<rest>\S.*)"
)
POLAR = re.compile(rf"(?P<aux>{AUXILIARY}) (?P<rest>\S+ \S.*)")


def invert(question: str) -> str | None:
    """A statement with one `{}` for a question without its question mark, or None where there is no auxiliary.

    Yes/no questions become `{}: statement`; others end in `{}`.
    """
    polar = POLAR.fullmatch(question)
    if polar:
        return f"{{}}: {_statement(polar['aux'], polar['rest'])}"
    asked = QUESTION.fullmatch(question)
    if asked is None:
        return None
    counted = asked["noun"].removeprefix(" many").strip() if asked["noun"].startswith(" many ") else ""
    parts = [
        _statement(asked["aux"], asked["rest"], True),
        asked["prep"],
        "because" if asked["wh"] == "why" else "",
    ]
    return " ".join(part for part in [*parts, "{}", counted] if part)


def third_person(verb: str) -> str:
    """The form of a verb after he, she, it: have → has, catch → catches, fly → flies."""
    if verb in ("have", "do", "go", "be"):
        return {"have": "has", "do": "does", "go": "goes", "be": "is"}[verb]
    if verb.endswith(("s", "x", "z", "ch", "sh")):
        return verb + "es"
    return verb[:-1] + "ies" if re.search(r"[^aeiou]y$", verb) else verb + "s"


def _statement(auxiliary: str, rest: str, asks_what: bool = False) -> str:
    words = rest.split()
    if auxiliary in DO or auxiliary in MODALS:
        cut = _before_verb(words, VERBS)
    elif auxiliary in HAVE:
        cut = _before_verb(words, PARTICIPLES)
    else:
        cut = _before_predicate(words, asks_what)
    subject, predicate = words[:cut], words[cut:]
    if auxiliary in DO and predicate:
        return " ".join([*subject, *_inflected(predicate, auxiliary)])
    return " ".join([*subject, auxiliary, *predicate])


def _inflected(predicate: list[str], auxiliary: str) -> list[str]:
    place = next((i for i, word in enumerate(predicate) if word not in ADVERBS), 0)
    if auxiliary == "did":
        return [*predicate[:place], "did", *predicate[place:]]
    verb = third_person(predicate[place]) if auxiliary == "does" else predicate[place]
    return [*predicate[:place], verb, *predicate[place + 1 :]]


def _shortest(words: list[str]) -> int:
    """The fewest words of a subject: a pronoun or plural is one, a determiner needs its noun."""
    if words[0] in DETERMINERS and not (words[0] in PRONOUNS and len(words) < 3):
        return min(2, len(words))
    return 1


def _before_verb(words: list[str], verbs: frozenset[str]) -> int:
    least = 1 if words[1:2] and words[1] in verbs else _shortest(words)
    for i in range(least, len(words)):
        if words[i].rstrip(",") in verbs:
            while i > least and words[i - 1] in ADVERBS:
                i -= 1
            return i
    return least


def _before_predicate(words: list[str], asks_what: bool) -> int:
    least = _shortest(words)
    if words[0] in PRONOUNS - DETERMINERS or least == 1:
        return 1
    for i in range(least, len(words)):
        word, following = words[i], words[i + 1] if i + 1 < len(words) else ""
        if STARTS.fullmatch(word) and not NOT_STARTS.fullmatch(word):
            return i
        if i > least and (word.endswith(",") or following in PREPOSITIONS):
            return i
        if following in ("and", "or", "enough", "than"):
            return i
        if word in PREPOSITIONS and word != "of" and not _is_phrase_of_subject(words, i):
            return i
    # "In which room is the old chair" has no predicate; "is the old chair soft" has.
    return len(words) if asks_what and not words[-1].endswith("est") else max(least, len(words) - 1)


def _is_phrase_of_subject(words: list[str], place: int) -> bool:
    """Whether a short phrase such as "in the photo" begins there and more follows it."""
    end = place + (3 if place + 1 < len(words) and words[place + 1] in DETERMINERS else 2)
    return (
        end < len(words)
        and words[end] not in (*PREPOSITIONS, "and", "or")
        and not words[end - 1].endswith(",")
    )
