"""Scenes: what is said of a picture is true of it, and what is held out is asked nowhere."""

import math
import random
import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from weightgen.data.scenes import captions, language
from weightgen.data.scenes.captions import Caption, Grid
from weightgen.data.scenes.questions import all_meanings, meanings_of_questions, split_meanings
from weightgen.data.scenes.render import SIDE, render
from weightgen.data.scenes.vqa_files import draw_scenes
from weightgen.data.scenes.world import ATTRIBUTES, BACKGROUNDS, COLORS, SIZES, Scene

SPLITS = split_meanings()
KNOWN = set(SPLITS["train"])
MEANING_OF = {question: meaning for meaning in all_meanings() for question in meaning.paraphrases()}
MEANING_OF_SMALL = {question.lower(): meaning for question, meaning in MEANING_OF.items()}


@pytest.fixture(scope="module")
def scenes():
    return draw_scenes(300, seed=3)


# The world, read off what is drawn: places come from coordinates, not from the words that the world keeps.


def place(item):
    return f"{'top' if item.y < SIDE / 2 else 'bottom'} {'left' if item.x < SIDE / 2 else 'right'}"


def lies(item, direction, mark):
    """Whether `item` lies in that direction of `mark`, in the same row or column."""
    right, down = round((item.x - mark.x) / 30), round((item.y - mark.y) / 30)
    return direction == {(-1, 0): "left of", (1, 0): "right of", (0, -1): "above", (0, 1): "below"}.get(
        (right, down)
    )


def has(item, wanted):
    return all((place(item) if name == "position" else getattr(item, name)) == v for name, v in wanted)


def slowly_fits(wanted, number, beside, background, scene):
    if background is not None:
        return scene.background == background
    found = [item for item in scene.objects if has(item, wanted)]
    if number is not None:
        return len(found) == number
    if beside is not None:
        direction, looks = beside
        marks = [mark for mark in scene.objects if has(mark, looks)]
        return any(lies(item, direction, mark) for item in found for mark in marks)
    return bool(found)


# What a caption says, read from its text alone.

WORDS = {
    **{noun: ("shape", shape) for shape, nouns in language.SHAPE_NOUNS.items() for noun in nouns},
    **{color: ("color", color) for color in COLORS},
    **{w: ("size", size) for size in SIZES for w in language.ADJECTIVES[size]},
    **{w: ("pattern", p) for p in ATTRIBUTES["pattern"] for w in language.ADJECTIVES[p]},
    **{w: ("position", p) for p, places in language.PLACES.items() for w in places},
}
SIDE_WORDS = {word: side for side, words in language.SIDES.items() for word in words}
COUNTS = {
    word: i for i, pair in enumerate(("no 0", "one 1", "two 2", "three 3", "four 4")) for word in pair.split()
}


def any_of(words):
    return re.compile("|".join(rf"\b{re.escape(word)}\b" for word in sorted(words, key=len, reverse=True)))


WORD, SIDEWAYS = any_of([*WORDS, *(language.plural(word) for word in WORDS)]), any_of(SIDE_WORDS)


def read(text):
    """(wanted, number, beside, background) of a caption's text."""
    if "?" in text:
        question, answer = text.split("? ")
        meaning = MEANING_OF_SMALL[question + "?"]
        assert meaning in KNOWN
        wanted, beside = [(meaning.attribute, answer)], meaning.referent.beside
        if beside:
            return wanted, None, (beside, list(meaning.referent.looks)), None
        return [*meaning.referent.looks, *wanted], None, None, None
    if text.endswith(" background"):
        return [], None, None, text.split()[1]
    if SIDEWAYS.search(text):
        what, beside = SIDEWAYS.split(text)
        return looks(what), None, (SIDE_WORDS[SIDEWAYS.search(text)[0]], looks(beside)), None
    return looks(text), COUNTS.get(text.split()[0]), None, None


def looks(text):
    singular = {language.plural(word): meaning for word, meaning in WORDS.items()} | WORDS
    return [singular[word] for word in WORD.findall(text)]


def test_scenes_depend_on_seed_and_number_alone():
    assert draw_scenes(20, 5) == draw_scenes(30, 5)[:20]
    assert draw_scenes(20, 5) != draw_scenes(20, 6)


def test_what_scenes_hold(scenes):
    assert Counter(len(scene.objects) for scene in scenes).keys() == {2, 3, 4}
    for scene in scenes:
        places = [item.position for item in scene.objects]
        assert len(set(places)) == len(places) and places == [place(item) for item in scene.objects]
        for item in scene.objects:
            assert SIZES[item.size] * 0.92 <= item.radius <= SIZES[item.size] * 1.08
            near = {name: math.dist(item.rgb, rgb) for name, rgb in COLORS.items()}
            assert min(near, key=near.get) == item.color
    for name, values in ATTRIBUTES.items():
        seen = Counter(getattr(item, name) for scene in scenes for item in scene.objects)
        assert set(seen) == set(values) and max(seen.values()) < 2 * min(seen.values())


def test_neighbours(scenes):
    for scene in scenes:
        for mark in scene.objects:
            for direction in language.SIDES:
                beside = [item for item in scene.objects if lies(item, direction, mark)]
                assert [scene.neighbour(mark, direction)] == (beside or [None])


def test_pictures(scenes):
    image = render(scenes[0])
    assert image.size == (64, 64) and image.mode == "RGB"
    assert all(render(scene).tobytes() == render(replace(scene)).tobytes() for scene in scenes[:10])
    assert render(replace(scenes[0], noise_seed=1)).tobytes() != image.tobytes()
    assert len({render(scene).tobytes() for scene in scenes[:40]}) == 40


@pytest.mark.parametrize("name", ["shape", "pattern", "size", "color"])
def test_each_look_is_drawn_and_changes_its_object_alone(scenes, name):
    for scene in scenes[:12]:
        item = scene.objects[-1]
        value = next(v for v in ATTRIBUTES[name] if v != getattr(item, name))
        changed = {name: value} | ({"rgb": COLORS[value]} if name == "color" else {})
        changed |= {"radius": SIZES[value]} if name == "size" else {}
        other = replace(scene, objects=(*scene.objects[:-1], replace(item, **changed)))
        before, after = (np.asarray(render(each), dtype=int) for each in (scene, other))
        differs = np.abs(before - after).sum(axis=2) > 30
        ys, xs = differs.nonzero()
        assert len(xs) >= 8  # noise is the same in both, so that the object is all that differs
        assert max(math.dist((x + 0.5, y + 0.5), (item.x, item.y)) for x, y in zip(xs, ys, strict=True)) < 19


def test_colors_come_out(scenes):
    item = replace(scenes[0].objects[0], shape="square", pattern="plain", radius=14.0, x=17.0, y=17.0)
    quiet = next(seed for seed in range(99) if np.random.default_rng(seed).random() > 0.3)  # no bar in front
    for rgb in COLORS.values():
        pixels = np.asarray(render(Scene((replace(item, rgb=rgb),), "gray", (140, 140, 140), quiet)), float)
        assert np.abs(pixels[13:21, 13:21].mean(axis=(0, 1)) - rgb).max() < 22
        assert np.abs(pixels[40:60, 40:60].mean(axis=(0, 1)) - 140).max() < 22


def test_every_question_has_one_meaning():
    assert len(MEANING_OF) == sum(len(meaning.paraphrases()) for meaning in all_meanings())
    assert len(MEANING_OF_SMALL) == len(MEANING_OF)
    assert len(all_meanings()) == len(set(all_meanings())) >= 1000
    assert len({text for text in meanings_of_questions().values()}) == len(all_meanings())
    assert min(len(meaning.paraphrases()) for meaning in all_meanings()) >= 6
    assert all(q[0].isupper() and q.endswith("?") and "{" not in q for q in MEANING_OF)


def test_every_phrase_names_its_referent_alone():
    referents = {meaning.referent for meaning in all_meanings() if meaning.referent}
    phrases = Counter(phrase for referent in referents for phrase in referent.phrases())
    assert set(phrases.values()) == {1}
    for referent in referents:
        for phrase in referent.phrases():
            assert sorted(looks(SIDEWAYS.split(phrase)[-1])) == sorted(referent.looks)
            sides = SIDEWAYS.findall(phrase)
            assert [SIDE_WORDS[side] for side in sides] == [referent.beside] * bool(referent.beside)


def test_answers_against_a_slow_reading(scenes):
    applicable = Counter()
    for meaning in all_meanings():
        for scene in scenes[:60]:
            answer = meaning.answer(scene)
            applicable[meaning.attribute] += answer is not None
            if meaning.attribute == "background":
                assert answer == scene.background
                continue
            beside = meaning.referent.beside if meaning.referent else None
            marks = [o for o in scene.objects if has(o, meaning.referent.looks if meaning.referent else ())]
            if meaning.attribute == "count":
                assert answer == str(len(marks))
                continue
            found = [o for o in scene.objects if marks and lies(o, beside, marks[0])] if beside else marks
            if len(marks) == 1 and found:
                assert [(meaning.attribute, answer)] == [
                    (meaning.attribute, v) for v in ATTRIBUTES[meaning.attribute] if has(found[0], [(meaning.attribute, v)])
                ]  # fmt: skip
            else:
                assert answer is None
    assert min(applicable.values()) > 50 and len(applicable) == 7


def test_splits_hold_out_meanings_of_familiar_parts():
    assert {name: len(meanings) for name, meanings in SPLITS.items()} == {
        "train": 787, "validation": 100, "held_out_meanings": 150
    }  # fmt: skip
    assert split_meanings() == SPLITS
    every = [meaning for meanings in SPLITS.values() for meaning in meanings]
    assert len(set(every)) == len(every) == len(all_meanings())
    for meaning in SPLITS["validation"] + SPLITS["held_out_meanings"]:
        assert sum(other.attribute == meaning.attribute for other in KNOWN) >= 90
        kinds = [value for _, value in meaning.referent.looks]
        for kind in kinds:
            assert (
                sum(
                    other.referent is not None and kind in dict(other.referent.looks).values()
                    for other in KNOWN
                )
                > 15
            )


def test_a_referent_of_two_attributes_is_the_one_object_with_both(scenes):
    referent = next(
        m.referent for m in all_meanings() if m.referent and m.referent.kinds == ("color", "pattern")
    )
    assert referent.looks == (("color", "red"), ("pattern", "plain"))
    assert {"the plain red object", "the solid red thing"} <= set(referent.phrases())
    for scene in scenes:
        both = [item for item in scene.objects if item.color == "red" and item.pattern == "plain"]
        assert referent.find(scene) == (both[0] if len(both) == 1 else None)


def test_grid_agrees_with_a_slow_reading_of_objects(scenes):
    grid, rng = Grid(scenes), random.Random(1)
    made = [captions.caption(rng.choice(scenes), rng) for _ in range(250)]
    made += [captions.relate(scene, rng) for scene in scenes[:60]]
    shares = []
    for caption in made:
        said = (caption.wanted, caption.number, caption.beside, caption.background)
        slow = [slowly_fits(*said, scene) for scene in scenes]
        assert grid.fits(caption).tolist() == slow, caption
        assert grid[range(5, 50)].fits(caption).tolist() == slow[5:50]
        shares.append(np.mean(slow))
    assert 0.02 < np.mean(shares) < 0.5  # a caption that is always or never true would test nothing


def test_captions_are_true_of_their_scene_word_by_word(scenes):
    rng = random.Random(2)
    kinds = Counter()
    for scene in scenes * 4:
        for make in (
            captions.caption,
            captions.describe,
            captions.relate,
            captions.count,
            captions.ask_and_answer,
        ):
            caption = make(scene, rng)
            wanted, number, beside, background = read(caption.text)
            assert slowly_fits(wanted, number, beside, background, scene), (caption.text, scene)
            # The predicate says what the text says, so that it is true of the same other scenes.
            assert sorted(wanted) == sorted(caption.wanted) and number == caption.number
            assert background == caption.background
            kinds[beside is not None, number is not None, background is not None, "?" in caption.text] += 1
            if caption.beside is None:
                assert beside is None
            else:
                assert beside == (caption.beside[0], list(caption.beside[1]))
    assert min(kinds.values()) > 10 and len(kinds) == 6


def test_captions_never_ask_what_is_held_out(scenes):
    rng, asked = random.Random(4), set()
    for scene in scenes * 20:
        question = captions.ask_and_answer(scene, rng).text.split("? ")[0] + "?"
        asked.add(MEANING_OF_SMALL[question])
    assert asked <= KNOWN
    assert len(asked) > 600  # of those that are not held out, few are missing


def test_a_caption_can_be_false(scenes):
    grid = Grid(scenes)
    star = Caption("a star", (("shape", "star"),))
    assert grid.fits(star).tolist() == [bool(scene.where(shape="star")) for scene in scenes]
    assert 0 < grid.fits(star).sum() < len(scenes)


def test_backgrounds_are_all_drawn(scenes):
    assert {scene.background for scene in scenes} == set(BACKGROUNDS)
