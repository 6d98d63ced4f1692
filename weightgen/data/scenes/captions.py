"""Scene → caption, for contrastive training: descriptions of objects, plain statements, and questions with their answer.

The held-out compositions of `questions` are never asked in a caption either.
"""

from __future__ import annotations

import random

from weightgen.data.scenes.language import (
    ADJECTIVES, PLACES, SHAPE_NOUNS, SIDES, THINGS, Referent, plural, relational_referents, simple_referents,
)  # fmt: skip
from weightgen.data.scenes.questions import Meaning, all_meanings, novel_compositions
from weightgen.data.scenes.world import DIRECTIONS, Object, Scene

_REFERENTS = simple_referents()
_RELATIONS = relational_referents()
_ASKED = sorted(set(all_meanings()) - set(novel_compositions()), key=str)
_QUESTIONS: dict[Meaning, list[str]] = {meaning: [question for question, _ in meaning.paraphrases()] for meaning in _ASKED}
_COUNTS = ("no", "one", "two", "three", "four")
_STATEMENTS = {
    "color": ("{x} is {v}", "the color of {x} is {v}", "{x} is {v} in color", "{x} has a {v} hue"),
    "shape": ("{x} is a {v}", "the shape of {x} is a {v}", "{x} has the form of a {v}"),
    "size": ("{x} is {v}", "the size of {x} is {v}", "{x} is {v} in size"),
    "pattern": ("{x} is {v}", "the pattern of {x} is {v}", "{x} has a {v} pattern", "the texture on {x} is {v}"),
    "position": ("{x} is in the {v}", "the position of {x} is {v}", "{x} can be seen in the {v}"),
}


def _word(value: str, rng: random.Random) -> str:
    # The plain word most of the time: answers are asked in plain words.
    return value if rng.random() < 0.6 else rng.choice(ADJECTIVES.get(value, (value,)))


def describe_object(item: Object, rng: random.Random) -> str:
    """One object as a noun phrase, naming its shape and a random part of its other attributes."""
    words = [_word(getattr(item, name), rng) for name in ("size", "pattern", "color") if rng.random() < 0.85]
    rng.shuffle(words)
    noun = rng.choice(SHAPE_NOUNS[item.shape]) if rng.random() < 0.9 else rng.choice(THINGS)
    place = f" in the {rng.choice(PLACES[item.position])}" if rng.random() < 0.5 else ""
    return " ".join(["a", *words, noun]) + place


def _description(scene: Scene, rng: random.Random) -> str:
    objects = rng.sample(scene.objects, len(scene.objects))
    parts = [describe_object(item, rng) for item in objects]
    if rng.random() < 0.5:
        parts[-1] += f" on a {scene.background} background"
    return ", ".join(parts[:-1]) + " and " + parts[-1]


def state_fact(scene: Scene, rng: random.Random) -> str:
    """One true statement about the scene: an attribute of a referent, a relation, a count or the background."""
    kind = rng.random()
    if kind < 0.12:
        referent = rng.choice([r for r in _REFERENTS if r.kind != "position"])
        number = len(scene.where(**{referent.kind: referent.value}))
        name = rng.choice(referent.plurals())
        return f"there {'is' if number == 1 else 'are'} {rng.choice((_COUNTS[number], str(number)))} {name}"
    if kind < 0.17:
        total = len(scene.objects)
        return f"there are {rng.choice((_COUNTS[total], str(total)))} {plural(rng.choice(THINGS))}"
    if kind < 0.25:
        return f"the background is {scene.background}"
    if kind < 0.4:
        return _relation(scene, rng)
    item = rng.choice(scene.objects)
    # Only a referent that points at this object alone makes a true statement.
    candidates = [r for r in _REFERENTS if getattr(item, r.kind) == r.value and r.find(scene) is item]
    referent = rng.choice(candidates) if candidates else Referent("position", item.position)  # type: ignore[arg-type]
    attribute = rng.choice([name for name in _STATEMENTS if name != referent.kind])
    value = getattr(item, attribute)
    said = value if attribute == "position" else _word(value, rng)
    return rng.choice(_STATEMENTS[attribute]).format(x=rng.choice(referent.phrases()), v=said)


def _relation(scene: Scene, rng: random.Random) -> str:
    pairs = [(item, side, other) for item in scene.objects for side in DIRECTIONS if (other := scene.neighbour(item, side))]
    if not pairs:  # two objects on a diagonal
        return f"the background is {scene.background}"
    landmark, side, other = rng.choice(pairs)
    color = f"{other.color} " if rng.random() < 0.5 else ""
    return f"a {color}{rng.choice(SHAPE_NOUNS[other.shape])} is {rng.choice(SIDES[side])} the {rng.choice(SHAPE_NOUNS[landmark.shape])}"


def ask_and_answer(scene: Scene, rng: random.Random) -> str:
    """A question that is not held out, in small letters, with its answer: "what color is the star? red"."""
    while True:
        meaning = rng.choice(_ASKED)
        answer = meaning.answer(scene)
        if answer is not None:
            return f"{rng.choice(_QUESTIONS[meaning]).lower()} {answer}"


def caption(scene: Scene, rng: random.Random) -> str:
    """A caption of the scene: a description of its objects, two to four statements, or two to four answered questions."""
    kind = rng.random()
    if kind < 0.5:
        return _description(scene, rng)
    say = state_fact if kind < 0.75 else ask_and_answer
    return ", ".join(say(scene, rng) for _ in range(rng.randint(2, 4)))
