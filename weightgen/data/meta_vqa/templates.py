"""Declarative answer templates: "What color is the cat?" -> "the cat is {}".

CLIP was trained on captions, so an answer is embedded inside a statement rather than alone. The authors'
templates come as a file without the program that made it; a question that no file covers gets one from the
rules below, tried from top to bottom. They are grammar by pattern, right for the common forms of VQA
questions and readable for the
rest: whatever no rule fits is embedded as `the answer to "..." is {}`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from weightgen.data.meta_vqa.inversion import invert, third_person
from weightgen.errors import InputError
from weightgen.storage.files import read_json

__all__ = ["check_template", "make_template", "read_templates", "templates_first"]

BE = r"(?P<be>is|are|was|were)"
WHAT = r"(?:what|which)"
KIND = r"(?:kind|type|sort|style|breed|brand)"
PLACE = (
    r"(?:on|in|at|by|near|behind|under|over|above|below|beneath|beside|between|next|inside|around|across|along"
    r"|against|through|outside|attached|to|from|with|of|out of|off|for)"
)
# Words that end like participles and are nouns or adjectives.
NOT_VERBS = (
    r"(?!(?:building|ceiling|painting|clothing|wing|string|thing|king|ring|evening|morning|railing|lighting|bed|red"
    r"|sled|shed|seed|weed|feed|breed|speed|colored|striped|lined|dotted|spotted|checked|checkered|unpatterned)s?\b)"
)
VERB = rf"{NOT_VERBS}(?:\w{{2,}}ing|\w{{2,}}ed|made|taken|shown|seen|held|worn|written|built|drawn|cut)"
SAYING = (
    r"(?:say|read|show|have|mean|do|like|look|look like|want|represent|indicate|use|eat|see|wear|need|spell)"
)
LONGEST = 200  # characters: no real question is longer, and matching takes cubic time
REST = r"(?P<rest> .+)?"
SUBJECT = r"(?P<s>.+?(?<!\bthe)(?<!\ba)(?<!\ban))"  # "the cutting board" is no "the" that is cutting

# (pattern, template): `\g<name>` is filled from the pattern; the first that matches the whole question wins.
RULES = [
    # How many dogs are there? / does the bus have? / are on the bed? How old is the boy?
    (rf"how many (?P<n>.+?) {BE} there{REST}", r"there \g<be> {} \g<n>\g<rest>"),
    (rf"how many (?P<n>.+?) (?P<do>does|do|did) (?P<s>.+) have{REST}", r"\g<s> \g<have> {} \g<n>\g<rest>"),
    (r"how many (?P<n>.+?) (?:does|do|did) (?P<s>.+)", r"\g<s> {} \g<n>"),
    (r"how many (?P<n>.+)", r"{} \g<n>"),
    (rf"how old {BE} (?P<s>.+)", r"\g<s> \g<be> {} years old"),
    (rf"how (?P<n>tall|deep|long|big|high|large|wide|fast|far) {BE} (?P<s>.+)", r"\g<s> \g<be> {} \g<n>"),
    (rf"how {BE} {SUBJECT} (?P<v>{VERB})", r"\g<s> \g<be> \g<v> {}"),
    (rf"how {BE} (?P<s>.+)", r"\g<s> \g<be> {}"),
    # What is she doing? / on the table? / the fence made of? / he holding in his hand? / this?
    (rf"{WHAT} {BE} (?P<s>.+?) doing{REST}", r"\g<s> \g<be> {}\g<rest>"),
    (rf"(?:what|which|who) {BE} (?P<v>(?:being )?{VERB}|{PLACE}){REST}", r"{} \g<be> \g<v>\g<rest>"),
    (rf"what {BE} {SUBJECT} (?P<v>(?:{VERB} )?{PLACE})", r"\g<s> \g<be> \g<v> {}"),
    (rf"what {BE} {SUBJECT} (?P<v>{VERB}){REST}", r"\g<s> \g<be> \g<v> {}\g<rest>"),
    (rf"(?:what|which|who) {BE} (?P<s>.+)", r"\g<s> \g<be> {}"),
    (rf"where {BE} {SUBJECT} (?P<v>{VERB} {PLACE})", r"\g<s> \g<be> \g<v> {}"),
    (rf"(?:where|when) {BE} {SUBJECT} (?P<v>{VERB}){REST}", r"\g<s> \g<be> \g<v> {}\g<rest>"),
    (rf"(?:where|when) {BE} (?P<s>.+)", r"\g<s> \g<be> {}"),
    (rf"why {BE} {SUBJECT} (?P<v>{VERB}){REST}", r"\g<s> \g<be> \g<v>\g<rest> because {}"),
    # What number is on the bus? / kind of shirt is he wearing? / dog is this? / color is it?
    (
        rf"{WHAT} (?P<n>\S.*?) {BE} (?P<v>(?:being )?{VERB}|{PLACE}){REST}",
        r"the \g<n> \g<v>\g<rest> \g<be> {}",
    ),
    (rf"{WHAT} (?P<n>\S.*?) {BE} {SUBJECT} (?P<v>(?:{VERB} )?{PLACE})", r"\g<s> \g<be> \g<v> {}"),
    (
        rf"{WHAT} colou?r (?P<n>\S.*?) {BE} {SUBJECT} (?P<v>{VERB}){REST}",
        r"\g<s> \g<be> \g<v> {} \g<n>\g<rest>",
    ),
    (
        rf"{WHAT} (?P<k>{KIND}) of (?P<n>\S.*?) {BE} (?:this|that|these|those|it|they)",
        r"the \g<k> of \g<n> \g<be> {}",
    ),
    (
        rf"{WHAT} {KIND} of (?P<n>\S.*?) {BE} {SUBJECT} (?P<v>{VERB}){REST}",
        r"\g<s> \g<be> \g<v> {} \g<n>\g<rest>",
    ),
    (rf"{WHAT} (?P<n>\w+) {BE} (?P<s>this|that|these|those)", r"\g<s> \g<n> \g<be> {}"),
    (rf"{WHAT} (?P<n>\S.*?) {BE} {SUBJECT} (?P<v>{VERB}){REST}", r"\g<s> \g<be> \g<v> {}\g<rest>"),
    (rf"{WHAT} (?P<n>\S.*?) {BE} (?P<s>.+)", r"\g<s> \g<be> {}"),
    # What does the sign say? What covers the ground?
    (rf"{WHAT} (?:\S.*? )?(?P<do>does|do|did) {SUBJECT} (?P<v>{SAYING}){REST}", r"\g<s> \g<verb> {}\g<rest>"),
    (r"(?:what|who|which \w+) (?P<v>(?!does)\w{3,}s|took|made|won) (?P<rest>.+)", r"{} \g<v> \g<rest>"),
]
COMPILED = [(re.compile(pattern, re.IGNORECASE), template) for pattern, template in RULES]


def make_template(question: str) -> str:
    """Turn a question into a statement with one `{}` where the answer goes.

    Yes/no questions become such as `{}: the cat has fur`.
    """
    text = " ".join(question.replace("{", "(").replace("}", ")").split()).rstrip(" ?.!")
    lowered = text[:1].lower() + text[1:]
    for pattern, template in COMPILED if len(text) <= LONGEST else ():
        match = pattern.fullmatch(lowered)
        if match:
            return _filled(template, match)
    inverted = invert(lowered) if len(text) <= LONGEST else None
    return inverted or f'the answer to "{text}?" is {{}}'


def _filled(template: str, match: re.Match[str]) -> str:
    parts = {name: part or "" for name, part in match.groupdict().items()}
    tense = parts.get("do", "")
    parts["have"] = {"does": "has", "do": "have", "did": "had"}.get(tense, "")
    parts["verb"] = _third_person(parts.get("v", "")) if tense == "does" else parts.get("v", "")
    return re.sub(r"\\g<(\w+)>", lambda name: parts[name.group(1)], template)


def _third_person(verb: str) -> str:
    first, _, rest = verb.partition(" ")
    return f"{third_person(first)} {rest}".rstrip()


def read_templates(path: str | Path) -> dict[str, str]:
    """Read a JSON object question -> template, such as the authors' `prompt_meta.json`.

    Raises:
        InputError: if the file is not one, or a template does not have exactly one `{}`.
    """
    templates = read_json(path)
    if not isinstance(templates, dict):
        raise InputError(f'{path}: expected a JSON object {{"question": "template with one {{}}"}}')
    for question, template in templates.items():
        check_template(template, f"{path}: template of {question!r}")
    return templates


def check_template(template: object, where: str) -> None:
    """Raise `InputError` unless `template.format(answer)` puts the answer in exactly one place."""
    braces = ("{}", "{", "}")
    if not isinstance(template, str) or any(template.count(brace) != 1 for brace in braces):
        raise InputError(f"{where} must have exactly one {{}} and no other braces, got {template!r}")


def templates_first(templates: Mapping[str, str]) -> Callable[[str], str]:
    """Use the given templates, and `make_template` for questions that they lack."""
    return lambda question: templates.get(question) or make_template(question)


def answer_texts(template: str, answers: Iterable[str]) -> list[str]:
    """Fill answers into a template at its `{}`, with spaces for underscores (`features/*.py` of the authors).

    Raises:
        InputError: the template has no `{}`.
    """
    if "{}" not in template:
        raise InputError(f"the answer template {template!r} has no {{}} for the answer")
    return [template.replace("{}", answer.replace("_", " "), 1) for answer in answers]
