"""The benchmarks: `make bench`. Each file measures one stage; the report is one JSON and one table per machine, in results/bench."""

import os
import platform
from pathlib import Path

import pytest
import torch

from tests.benchmarks.measure import DEVICE, Machine, Row, cpu_seconds
from tests.benchmarks.table import table_text
from weightgen.storage.files import read_json
from weightgen.training import keep_memory


def pytest_collection_modifyitems(items):
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.bench)
            item.add_marker(pytest.mark.benchmark(timer=cpu_seconds, disable_gc=True))


@pytest.fixture(scope="session")
def speed_of_machine():
    torch.set_num_threads(1)
    keep_memory()  # as the recipes do
    return Machine()


@pytest.fixture
def row(benchmark, speed_of_machine):
    torch.manual_seed(0)
    return Row(benchmark, speed_of_machine)


def cpu_model():
    """In words, not by the machine's name."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def pytest_benchmark_update_machine_info(config, machine_info):
    rate, width = Machine().rates()
    facts = {
        "cpu": cpu_model(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gflops": round(rate / 1e9),
        "gigabytes_per_second": round(width / 1e9, 1),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "device": torch.cuda.get_device_name() if DEVICE.type == "cuda" else "cpu",
    }
    machine_info.clear()
    machine_info.update(facts)


def pytest_benchmark_update_json(config, benchmarks, output_json):
    """Leave what the table needs, keep the rows of stages that were not measured now, and write the table beside the JSON."""
    whole = [each for each in benchmarks if each["extra_info"]]  # an interrupted one has told nothing
    rows = [each["extra_info"] | {"stage": Path(each["fullname"]).name.partition(".py")[0]} for each in whole]
    facts = output_json["machine_info"]
    output_json.clear()
    output_json.update({"machine": facts, "rows": rows})
    path = config.getoption("benchmark_json")
    if path is None:
        return
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    before = read_json(path) if Path(path).is_file() else {"machine": {}}
    if all(before["machine"].get(name) == facts[name] for name in ("cpu", "torch", "device")):
        measured = {row["stage"] for row in rows}
        kept = [row for row in before["rows"] if row["stage"] not in measured]
        output_json["rows"] = sorted(kept + rows, key=lambda row: row["stage"])
    Path(path).with_suffix(".md").write_text(table_text(output_json), encoding="utf-8")
