import datasets
import pytest
import torch

from weightgen import InputError
from weightgen.data.features.store import FeatureStore
from weightgen.data.features.writer import FeaturePlan, FeatureWriter
from weightgen.data.meta_vqa.tasks import MetaVQATasks, load_tasks
from weightgen.data.meta_vqa.templates import answer_texts
from weightgen.data.meta_vqa.unreadable import Fewest, too_small
from weightgen.tasks import PADDING_LABEL, TaskBatch, collate

E = 5
IMAGES = [f"image {i}" for i in range(40)]
TASKS = [
    {
        "question": f"What is it, {number}?",
        "answers": [f"answer_{c} of {number}" for c in range(classes)],
        "support_images": [IMAGES[(7 * number + 3 * i) % 40] for i in range(support)],
        "support_labels": [i % classes for i in range(support)],
        "query_images": [IMAGES[(number + 5 * i) % 39] for i in range(query)],
        "query_labels": [(i + 1) % classes for i in range(query)],
        "template": "It is {}.",
    }
    for number, (support, query, classes) in enumerate([(4, 2, 2), (9, 5, 4), (3, 7, 3), (5, 1, 2)])
]


def text_embed(text, dim):
    return torch.randn(dim, generator=torch.Generator().manual_seed(sum(map(ord, text)) + dim))


def make_store(folder, failed=(), dtype="single"):
    answers = [text for task in TASKS for text in answer_texts(task["template"], task["answers"])]
    questions = [task["question"] for task in TASKS]
    plan = FeaturePlan("e", IMAGES[::-1], questions, answers, dtype, batch_size=4, shard_size=7)
    writer = FeatureWriter(folder, plan)
    writer.begin()
    for kind, number in writer.unfinished():
        dim = E + 2 if kind == "questions" else E
        names = plan.shards(kind)[number]
        broken = {name: "missing" for name in names if name in failed}
        rows = [text_embed(name, dim) for name in names if name not in failed]
        writer.write(kind, number, torch.stack(rows) if rows else torch.empty(0, dim), broken)
    writer.finish({"fewest": Fewest(7, 2)._asdict()})
    return FeatureStore(folder)


@pytest.fixture
def split():
    return datasets.Dataset.from_list(TASKS)


@pytest.fixture
def tasks(split, tmp_path):
    return MetaVQATasks(split, make_store(tmp_path / "x"))


def equal(one: TaskBatch, other: TaskBatch):
    assert one.context.keys() == other.context.keys()
    pairs = zip(
        [*one.support, *one.query, one.embeds], [*other.support, *other.query, other.embeds], strict=True
    )
    for a, b in [*pairs, *((one.context[key], other.context[key]) for key in one.context)]:
        assert a.dtype == b.dtype and a.shape == b.shape and torch.equal(a, b)


def test_a_task_is_its_row(tasks):
    assert len(tasks) == 4 and tasks.sizes == [6, 14, 10, 6] and tasks.kept == [0, 1, 2, 3]
    for number, row in enumerate(TASKS):
        task = tasks[number]
        for part, examples in (("support", task.support), ("query", task.query)):
            expected = torch.stack([text_embed(name, E) for name in row[f"{part}_images"]])
            assert torch.equal(examples.inputs, expected)
            assert examples.labels.tolist() == row[f"{part}_labels"] and examples.labels.dtype == torch.int64
        assert torch.equal(task.embeds, text_embed(row["question"], E + 2))
        texts = [f"It is {answer.replace('_', ' ')}." for answer in row["answers"]]
        assert torch.equal(task.context["answers"], torch.stack([text_embed(text, E) for text in texts]))
        assert task.context["answer_mask"].tolist() == [True] * len(texts)
        assert tasks.questions[number] == row["question"] and tasks.answers[number] == row["answers"]
    equal(tasks[-1], tasks[3])
    with pytest.raises(IndexError):
        tasks[4]


@pytest.mark.parametrize("chosen", [[2], [3, 1], [1, 1, 0], [0, 1, 2, 3]])
def test_a_batch_is_what_collate_makes(tasks, chosen):
    expected = collate([tasks[number] for number in chosen])
    equal(tasks.batch(chosen), expected)
    equal(tasks.batch(torch.tensor(chosen)), expected)


def test_the_whole_split_is_one_batch(tasks):
    equal(tasks.batch(), collate([task for task in (tasks[i] for i in range(4))]))


def test_items_do_not_share_memory_with_the_features(tasks):
    before = tasks[0].support.inputs.clone()
    tasks[0].support.inputs.zero_()
    tasks.batch([0]).context["answers"].zero_()
    assert torch.equal(tasks[0].support.inputs, before) and tasks[0].context["answers"].abs().sum() > 0


def test_half_precision_on_disk_is_single_in_a_task(split, tmp_path):
    task = MetaVQATasks(split, make_store(tmp_path / "x", dtype="half"))[1]
    assert task.support.inputs.dtype == task.embeds.dtype == torch.float32
    name = TASKS[1]["support_images"][0]
    assert torch.equal(task.support.inputs[0], text_embed(name, E).half().float())


def test_selected_rows(split, tasks, tmp_path):
    chosen = MetaVQATasks(split.select([3, 1]), make_store(tmp_path / "y"))
    equal(chosen[0], tasks[3])
    equal(chosen[1], tasks[1])


def test_images_that_failed_are_left_out(split, tasks, tmp_path):
    failed = [TASKS[1]["support_images"][2], TASKS[1]["query_images"][0]]
    left = MetaVQATasks(split, make_store(tmp_path / "y", failed))
    number = left.kept.index(1)
    part = TASKS[1]
    for examples, which in ((left[number].support, "support"), (left[number].query, "query")):
        kept = [i for i, name in enumerate(part[f"{which}_images"]) if name not in failed]
        assert len(kept) < len(part[f"{which}_images"])
        assert torch.equal(examples.labels, torch.tensor(part[f"{which}_labels"])[kept])
        names = [part[f"{which}_images"][i] for i in kept]
        assert torch.equal(examples.inputs, torch.stack([text_embed(name, E) for name in names]))
    equal(left.batch(), collate([left[i] for i in range(len(left))]))


def test_tasks_that_become_too_small_are_left_out(split, tmp_path):
    assert too_small(split, {}, Fewest(100, 100)) == []  # none lost anything
    failed = dict.fromkeys(TASKS[3]["query_images"], "missing")  # its only one
    slow = []
    for fewest in (Fewest(0, 0), Fewest(6, 2), Fewest(9, 2), Fewest(0, 4)):
        expected = []
        for number, task in enumerate(TASKS):
            kept = {
                part: [
                    label
                    for name, label in zip(task[f"{part}_images"], task[f"{part}_labels"], strict=True)
                    if name not in failed
                ]
                for part in ("support", "query")
            }
            labels = kept["support"] + kept["query"]
            lost = len(labels) < len(task["support_images"] + task["query_images"])
            few = len(labels) < fewest.examples or len(set(labels)) < fewest.answers
            if lost and (few or not kept["support"] or not kept["query"]):
                expected.append(number)
        assert too_small(split, failed, fewest) == expected
        slow.append(tuple(expected))
    assert len(set(slow)) > 1  # the cases differ
    left = MetaVQATasks(split, make_store(tmp_path / "x", failed))
    assert left.kept == [n for n in range(4) if n not in too_small(split, failed, Fewest(7, 2))]
    assert 3 not in left.kept and len(left) == len(left.questions) == len(left.answers) == len(left.sizes)


@pytest.mark.parametrize(
    "change",
    [
        {"question": "Who is new?"},
        {"answers": ["new", "newer"]},
        {"template": "It was {}."},
        {"support_images": ["image 1", "image 99", "image 2", "image 3"]},
    ],
)
def test_what_has_no_features_is_named(tmp_path, change):
    store = make_store(tmp_path / "x")
    with pytest.raises(InputError, match="has no features of .*(new|was|99).*run recipes/embed.py again"):
        MetaVQATasks(datasets.Dataset.from_list([TASKS[0] | change]), store)


def test_answers_in_their_template():
    assert answer_texts("The {} cat {}.", ["light_blue", "{}"]) == [
        "The light blue cat {}.",
        "The {} cat {}.",
    ]
    with pytest.raises(InputError, match="has no {}"):
        answer_texts("The cat.", ["red"])


def test_answers_in_other_statements(tasks):
    def embed(texts):
        return torch.stack([text_embed(text, E) for text in texts])

    same = tasks.with_templates(lambda _: "It is {}.", embed)
    equal(same.batch(), tasks.batch())
    other = tasks.with_templates(lambda question: question + " {}", embed)
    expected = text_embed("What is it, 1? answer 2 of 1", E)
    assert other[1].context["answers"][2].equal(expected)
    assert not other[1].context["answers"].equal(tasks[1].context["answers"])  # which are left as they were
    with pytest.raises(InputError, match=r"has no \{\}"):
        tasks.with_templates(lambda _: "nothing", embed)


def test_embeds_are_those_of_the_questions_and_templates_agree(tasks):
    assert torch.equal(tasks.embeds, tasks.batch().embeds)
    assert tasks.template == "It is {}." and tasks.device == torch.device("cpu")

    def embed(texts):
        return torch.zeros(len(texts), E)

    assert tasks.with_templates(lambda question: question + " {}", embed).template is None
    assert tasks.template == "It is {}."


@pytest.mark.parametrize("chosen", [[2], [3, 1], [0, 1, 2, 3]])
def test_a_subset_is_its_rows(tasks, chosen):
    part = tasks.subset(chosen)
    assert len(part) == len(chosen) and part.kept == chosen
    assert part.sizes == [tasks.sizes[row] for row in chosen]
    assert part.questions == [tasks.questions[row] for row in chosen]
    equal(part.batch(), tasks.batch(chosen))
    equal(part[-1], tasks[chosen[-1]])
    assert torch.equal(part.embeds, tasks.embeds[chosen]) and part.store is tasks.store
    assert len(tasks) == 4  # which stays as it is
    equal(part.subset([0]).batch(), tasks.batch(chosen[:1]))


@pytest.fixture
def dataset(tmp_path):
    from weightgen.data.meta_vqa.disk import save_meta_vqa
    from weightgen.data.meta_vqa.rules import Task

    save_meta_vqa({"train": [Task(**task) for task in TASKS], "test": [Task(**TASKS[1])]}, tmp_path / "set")
    make_store(tmp_path / "set" / "features" / "e")
    return tmp_path / "set"


def test_splits_are_loaded_with_one_store(dataset, split, tasks):
    test, train = load_tasks(dataset, "test", "train", questions=True)
    equal(train.batch(), tasks.batch())
    equal(test.batch(), tasks.batch([1]))
    assert test.store is train.store
    with pytest.raises(InputError, match="no split 'validation', only train, test"):
        load_tasks(dataset, "train", "validation")
    with pytest.raises(InputError, match="no features yet|no such|does not exist"):
        load_tasks(dataset, "train", features="other")


def test_questions_are_checked_on_demand(tmp_path, monkeypatch):
    from weightgen.data.meta_vqa.disk import save_meta_vqa
    from weightgen.data.meta_vqa.rules import Task

    monkeypatch.setitem(TASKS[0], "question", " ")
    save_meta_vqa({"train": [Task(**TASKS[0])]}, tmp_path / "set")
    make_store(tmp_path / "set" / "features" / "e")
    assert len(load_tasks(tmp_path / "set", "train")[0]) == 1
    with pytest.raises(InputError, match="task 0 has no question"):
        load_tasks(tmp_path / "set", "train", questions=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"query_labels": [0, 2]}, "task 0 has the query label 2, expected 0 to 1"),
        ({"support_labels": [0, 1, -1, 0]}, "task 0 has the support label -1, expected 0 to 1"),
        ({"support_labels": [0, 1, None, 0]}, "task 0 has the support label -1, expected 0 to 1"),
        ({"query_labels": [0]}, "task 0 needs one label for each query image"),
        ({"answers": []}, "task 0 has no answers"),
    ],
)
def test_tasks_that_are_damaged(tmp_path, changes, message):
    split = datasets.Dataset.from_list([TASKS[0] | changes, *TASKS[1:]])
    with pytest.raises(InputError, match=message):
        MetaVQATasks(split, make_store(tmp_path / "x"))


@pytest.mark.parametrize(("number", "kind"), [(0, "image"), (2, "question"), (5, "answer")])
def test_features_that_are_not_finite(tmp_path, split, monkeypatch, number, kind):
    store = make_store(tmp_path / "x")
    read = store.embeds

    def damaged(name, rows):
        found = read(name, rows)
        if name == f"{kind}s":
            found[0, number % 3] = float("nan")
        return found

    monkeypatch.setattr(store, "embeds", damaged)
    with pytest.raises(InputError, match=f"the features of the {kind} '.*' hold NaN or infinite numbers"):
        MetaVQATasks(split, store)


def number_of(part):
    return (part.labels != PADDING_LABEL).sum(dim=1)


def test_at_most_so_many_examples_of_each_set_with_their_own_labels(tasks):
    whole, drawn = tasks.batch(), tasks.batch(examples=2)
    for all_of, some in zip(whole[:2], drawn[:2], strict=True):
        assert torch.equal(number_of(some), number_of(all_of).clamp_max(2))
        for row in range(len(tasks)):
            kept = some.labels[row] != PADDING_LABEL
            known = torch.cat([all_of.inputs[row], all_of.labels[row, :, None].float()], dim=-1)
            found = torch.cat([some.inputs[row], some.labels[row, :, None].float()], dim=-1)[kept]
            where = (found[:, None] == known).all(dim=-1)
            assert where.any(dim=1).all()
            assert (some.inputs[row][~kept] == 0).all()
    assert torch.equal(drawn.context["answers"], whole.context["answers"])


def test_each_draw_is_another_and_the_seed_gives_it_again(tasks):
    def draws(seed):
        torch.manual_seed(seed)
        return [tasks.batch(examples=1).query.inputs for _ in range(8)]

    first, again = draws(0), draws(0)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert any(not torch.equal(first[0], other) for other in first[1:])


def test_no_examples_are_refused(tasks):
    with pytest.raises(InputError, match="examples"):
        tasks.batch(examples=0)
