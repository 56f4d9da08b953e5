# Two commands matter: `make demo` and `make test`. Each installs what it needs first.
#   make setup        .venv with development tools, for the device tier (no torch)
#   make test         lint, floors, C++ and Python tests; EXPORT=1 adds types and the tests that need torch
# TORCH says which torch EXPORT=1 installs; the README tells how to get a CPU build.
PYTHON ?= python3
TORCH  ?= torch==2.13.0
VENV   ?= .venv
BIN    := $(VENV)/bin
EXTRAS := cpu,gst,plot
comma  := ,
DEV    := $(EXTRAS),scenes,dev$(if $(EXPORT),$(comma)export$(comma)rtx)

.PHONY: demo test setup check cpp bench-gate soak wheel clean

demo: $(VENV)/.demo
	$(BIN)/edge-sdk demo

test: setup check cpp
	$(BIN)/python -m pytest -q

setup: $(VENV)/.dev$(EXPORT)

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

# Half an hour: the slow tests, then 1,000 reconnects of live sources, whose memory must not grow.
soak: setup
	$(BIN)/python -m pytest -q -m slow
	$(BIN)/python -m edge_sdk.benchmarks.live.reconnects --count 1000 --out out/live

wheel: setup
	$(BIN)/python -m pip wheel -q --no-deps -w dist .

clean:
	rm -rf build dist demo out

$(VENV)/.system:
	sh tools/install_system.sh
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --upgrade pip
	touch $@

# The demo uses a real wheel; developers get an editable install over it.
$(VENV)/.demo: $(VENV)/.system pyproject.toml
	$(BIN)/python -m pip install -q ".[$(EXTRAS)]"
	touch $@

$(VENV)/.dev$(EXPORT): $(VENV)/.system pyproject.toml CMakeLists.txt $(wildcard edge_sdk/csrc/*)
	$(if $(EXPORT),$(BIN)/python -m pip install -q $(TORCH))
	$(BIN)/python -m pip install -q -e ".[$(DEV)]"
	touch $@ $(VENV)/.demo
