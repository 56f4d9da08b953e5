# Two commands matter: `make demo` and `make test`. Each installs what it needs first.
#   make setup        .venv with development tools, for the device tier (no torch)
#   make test         lint, floors, C++ and Python tests; EXPORT=1 adds types and the tests that need torch
# TORCH says which torch EXPORT=1 installs; the README tells how to get a CPU build. TORCHVISION is of the same release,
# for tests alone.
PYTHON ?= python3
TORCH  ?= torch==2.13.0
TORCHVISION ?= torchvision==0.28.0
VENV   ?= .venv
TOKENIZER ?= ../shared/data/qwen2.5-tokenizer
BIN    := $(VENV)/bin
EXTRAS := cpu,gst,plot
comma  := ,
DEV    := $(EXTRAS),scenes,dev

.PHONY: demo test setup check cpp bench-gate gate soak soak-live soak-export campaign wheel clean

demo: $(firstword $(wildcard $(VENV)/.dev1 $(VENV)/.dev) $(VENV)/.demo)
	$(BIN)/edge-sdk demo

# What asserts times runs last and alone; the rest shares the cores, a process each. transformers' own video processor
# needs torchvision, which only loads beside the torch that it was built with, or where tests help it: so it lies apart.
PROCESSOR := test_vision_input_parity.py test_patch_parity.py test_parity.py
SEES := $(VENV)/.processor-$(lastword $(subst =, ,$(TORCHVISION)))
test: setup check cpp $(if $(EXPORT),$(SEES))
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n auto --dist loadfile -m "not slow and not alone"
	$(if $(EXPORT),PYTHONPATH=$(VENV)/processor:tests $(BIN)/python -c "import transformers_oracle; import torchvision")
	$(if $(EXPORT),PYTHONPATH=$(VENV)/processor $(BIN)/python -m pytest -q $(PROCESSOR:%=tests/export/%))
	$(BIN)/python -m pytest -q -m "alone and not slow"

setup: $(VENV)/.dev$(if $(EXPORT),1)

check:
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(if $(EXPORT),$(BIN)/mypy)

cpp:
	$(BIN)/cmake -S . -B build/cpp -G Ninja -DCMAKE_MAKE_PROGRAM=$(abspath $(BIN))/ninja -DEDGE_SDK_TESTS=ON
	$(BIN)/cmake --build build/cpp
	$(BIN)/ctest --test-dir build/cpp --output-on-failure

# Ratios measured side by side in one run, asserted at 0.85 of their targets.
bench-gate: setup
	$(BIN)/python -m edge_sdk.benchmarks.gate

# Every graph that is exported or quantised, at true widths, against TensorRT-RTX's compiler, for each target that it
# knows, and TensorRT 10.3's table of operators.
GATES := tests/export/test_gate_models.py tests/export/test_quantise_gate.py
gate: setup
	$(BIN)/python -m pytest -q -m "slow or not slow" $(GATES) tests/export/test_gate.py \
	    tests/export/test_parser_check.py tests/export/test_dialects.py

# What takes minutes: cameras that fail, 1,000 reconnects whose memory must not grow, and graphs of true size.
soak: soak-live soak-export

soak-live: setup
	$(BIN)/python -m pytest -q -m slow --ignore tests/export
	$(BIN)/python -m edge_sdk.benchmarks.live.faults --out out/live
	$(BIN)/python -m edge_sdk.benchmarks.live.reconnects --count 1000 --out out/live

# Hours, 12 GB of memory, 36 GB of disk: slow tests, and parity, gate, plan, export and few bits at the models' true
# sizes, with tables.
soak-export: setup
	$(if $(EXPORT),,$(error make soak-export needs torch: give EXPORT=1))
	$(if $(wildcard $(TOKENIZER)),,$(error make soak-export: give TOKENIZER=FOLDER, the public files of Qwen2.5's tokenizer))
	$(BIN)/python -m pytest -q -m slow tests/export $(GATES:%=--ignore %)
	$(BIN)/python tests/parity_cases.py out/export tiny tied 2b 7b
	$(BIN)/python tests/gate_cases.py out/export
	$(BIN)/python tests/quantised_gate_cases.py out/export
	$(BIN)/python tests/plan_measured.py out/export
	$(BIN)/python tests/true_size.py out/export 2B 7B 7B+merged 7B+switchable
	$(BIN)/edge-sdk scenes render out/export/clips --count 16
	$(BIN)/python tests/quantised_size.py out/export whole
	$(BIN)/python tests/quantised_size.py out/export layers gptq awq
	$(BIN)/python tests/quantise_kl.py out/export 2b 2B:2 96f out/export/clips 16 8 out/export/kl w4 w4-awq w4-gptq
	$(BIN)/python tests/decode_speed.py out/export out/export/decode 6 1 2
	$(BIN)/python tests/equivalence_cases.py out/export $(TOKENIZER)

# On a machine with a GPU: parity, speed against the limits, and transformers beside; CAMPAIGN holds further options.
campaign: setup
	$(BIN)/python -m edge_sdk.benchmarks.device_campaign --out out/campaign $(CAMPAIGN)

wheel: setup
	$(BIN)/python -m pip wheel -q --no-deps -w dist .

clean:
	rm -rf build dist demo out

$(VENV)/.system:
	sh tools/install_system.sh
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --upgrade pip
	touch $@

# What the wheel is made of: after a `git pull` the demo is to be of the new sources.
PACKAGED := $(shell find -L edge_sdk -name results -prune -o -type f ! -name '*.pyc' -print)
# The demo uses a real wheel; developers, and their demo, an editable install over it.
$(VENV)/.demo: $(VENV)/.system pyproject.toml CMakeLists.txt $(PACKAGED)
	$(BIN)/python -m pip install -q ".[$(EXTRAS)]"
	touch $@

$(VENV)/.dev $(VENV)/.dev1: $(VENV)/.system pyproject.toml CMakeLists.txt $(wildcard edge_sdk/csrc/*)
	$(if $(filter %1,$@),$(BIN)/python -m pip install -q $(TORCH))
	$(BIN)/python -m pip install -q -e ".[$(DEV)$(if $(filter %1,$@),$(comma)export$(comma)rtx)]"
	touch $@

$(SEES): $(VENV)/.system
	rm -rf $(VENV)/processor
	$(BIN)/python -m pip install -q --no-deps --target $(VENV)/processor $(TORCHVISION)
	touch $@
