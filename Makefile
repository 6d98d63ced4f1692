# The interpreter that makes .venv: make test PYTHON=python3.12
PYTHON ?= python3
PIP_FLAGS = --disable-pip-version-check --constraint constraints.txt
VENV = .venv
READY = $(VENV)/.ready

.PHONY: demo demo-scenes test test-slow fuzz kill-test lint package-check app-test docs docs-test scenes-results photos-results meta-vqa-check bench \
	bench-growth clean

# A prompt counts only when given to make itself: some shells keep an unrelated PROMPT in the environment.
given = $(if $(filter command,$(origin $(1))),"$(2)=$$$(1)")
ASKED = $(call given,PROMPT,prompt) $(call given,ANSWERS,answers) $(call given,IMAGES,images)

demo: $(READY)
	$(VENV)/bin/python recipes/demo.py demo=photos $(ASKED)

demo-scenes: $(READY)
	$(VENV)/bin/python recipes/demo.py demo=scenes output=runs/demo-scenes $(ASKED)

# Two processes; a test file stays in one, and long files do not wait until the end.
test: $(READY)
	$(VENV)/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test-slow: $(READY)
	$(VENV)/bin/python -m pytest -m slow

# The page in a real browser (apt install chromium); leaves its pictures in docs/images/app.
app-test: $(READY)
	$(VENV)/bin/python -m pip install $(PIP_FLAGS) --editable '.[app]' playwright
	WEIGHTGEN_SCREENSHOTS=docs/images/app $(VENV)/bin/python -m pytest -m '' tests/app

# FUZZ_MINUTES ends it earlier than FUZZ_EXAMPLES, and the next call goes on from there; FUZZ_TARGETS names some targets only
fuzz: $(READY)
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m tests.fuzz.run $(or $(FUZZ_EXAMPLES),100000) $(or $(FUZZ_MINUTES),600)

# Kills 50 runs, and compares two processes with one; writes results/trust/. Ten minutes.
kill-test: $(READY)
	$(VENV)/bin/python recipes/studies/kill_test.py output=results/trust/kills.json
	$(VENV)/bin/python recipes/studies/compare_processes.py output=results/trust/processes.json

lint: $(READY)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy weightgen

# A wheel and a source archive; the wheel alone runs the first lines of the README, in a new environment.
package-check: $(READY)
	rm -rf dist
	$(VENV)/bin/python -m build --outdir dist
	$(VENV)/bin/python -m twine check --strict dist/*
	$(VENV)/bin/python -m pytest -m slow tests/test_wheel.py

# The site, in site/; the tutorials, as notebooks: make docs-test TUTORIALS="question own_network"
docs: $(READY)
	$(VENV)/bin/python docs/build_site.py

docs-test: $(READY)
	HF_HUB_OFFLINE=1 $(VENV)/bin/python docs/run_tutorials.py $(TUTORIALS)

# Tables and figures of results/scenes but those of the earlier Scenes, from nothing; goes on where it was stopped.
SCENES = runs/scenes-data
OF_TOKENS = runs/scenes-tokens/seed0
scenes-results: $(READY)
	test -d $(SCENES) || $(VENV)/bin/python data/scenes/prepare.py --output-dir $(SCENES)
	for name in scenes scenes_tokens; do $(VENV)/bin/python recipes/embed.py --config recipes/configs/embed/$$name.yaml \
	    dataset=$(SCENES)/dataset images=$(SCENES)/images || exit; done
	$(VENV)/bin/python recipes/studies/scale_meanings.py dataset=$(SCENES)/dataset output=results/scenes/meanings
	for name in tokens clip; do $(VENV)/bin/python recipes/reproduce.py dataset=$(SCENES)/dataset features=$$name "shares=[100]" \
	    runs=runs/scenes-$$name output=results/scenes/$$(echo $$name | sed s/clip/pooled/) || exit; done
	$(VENV)/bin/python recipes/studies/compose_prompts.py dataset=$(SCENES)/dataset features=tokens pipeline=$(OF_TOKENS)/hyperldm_100 \
	    output=results/scenes/composition

# Tables and figures of results/photos, from the features that come with the package; goes on where it was stopped.
PHOTOS = runs/photos-data
photos-results: $(READY)
	test -d $(PHOTOS) || $(VENV)/bin/python data/photos/prepare.py --shipped --output-dir $(PHOTOS)
	$(VENV)/bin/python recipes/reproduce.py dataset=$(PHOTOS)/dataset "shares=[100]" runs=runs/photos-methods output=results/photos/methods
	for seed in 0 1 2; do $(VENV)/bin/python recipes/demo.py demo=photos training_seed=$$seed output=runs/photos$$seed || exit; done
	$(VENV)/bin/python recipes/studies/average_reports.py output=results/photos/table \
	    "reports=[runs/photos0/report.json,runs/photos1/report.json,runs/photos2/report.json]"

meta-vqa-check: $(READY)
	$(VENV)/bin/python -m pytest -s tests/data/meta_vqa/test_golden.py

# Speed of every stage; needs no data and no training. Ten minutes on an idle core. DEVICE=cuda measures a GPU, FILES="test_sampling.py" one
# stage, ROUNDS=1 is a trial; BENCH_OUTPUT is the report's JSON, and the table lies beside it.
BENCH_OUTPUT ?= results/bench/$(or $(DEVICE),cpu).json
bench: $(READY)
	OMP_NUM_THREADS=1 DEVICE=$(or $(DEVICE),cpu) ROUNDS=$(ROUNDS) $(VENV)/bin/python -m pytest -m bench --benchmark-quiet \
	    --benchmark-json=$(BENCH_OUTPUT) $(addprefix tests/benchmarks/,$(or $(FILES),.))

# Cost and memory against tasks, weights and samples.
bench-growth: $(READY)
	OMP_NUM_THREADS=1 DEVICE=$(or $(DEVICE),cpu) $(VENV)/bin/python -m tests.benchmarks.growth results/bench/growth

clean:
	rm -rf $(VENV) build dist site *.egg-info .mypy_cache .pytest_cache .ruff_cache

# The stamp is removed first and made last, so an interrupted installation starts afresh the next time.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "error: weightgen needs Python 3.11 \
	or newer, $(PYTHON) is " + sys.version.split()[0] + "; write: make PYTHON=/path/to/python3.11 ...")'
	@test -e $@ || rm -rf $(VENV)
	@rm -f $@
	test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install $(PIP_FLAGS) --editable '.[dev,docs]'
	@touch $@
