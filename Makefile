# make demo   the main job, on data that needs no download        make demo ARGS="--data fashion-mnist"
# make test   lint and all tests but the slow ones; minutes
# make test-slow  what those leave out: every size, whole trainings, a real bitstream; hours
# make lint   style and types only
# make mutants  puts small faults into the code and sees that tests notice; half an hour
# make bench-85f  cycles against the physical limit, config base-85f; minutes
# make plots  the figures of docs/results.md, from two networks simulated anew
# make setup  the environment only (.venv from requirements.lock)

# Spinning OpenMP threads slow each other down when anything else runs.
export OMP_WAIT_POLICY ?= PASSIVE
# Compiled modules are kept: tests start many processes.
unexport PYTHONDONTWRITEBYTECODE
BIN := .venv/bin
WORKERS ?= 2

.PHONY: baselines baselines-85f baselines-boards bench-85f clock demo mlperf plots routed test test-slow lint mutants fuzz setup startup figures families lock clean

demo: setup
	@$(BIN)/offramp demo $(ARGS)

test: lint
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

test-slow: lint
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder -m slow $(ARGS)

lint: setup
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

setup:
	@tools/setup

# Judges every fault of tests/mutants.toml; with ARGS=--new only those that the result doesn't hold yet.
mutants: setup
	@$(BIN)/python tools/mutants baselines/mutants.json --workers $(WORKERS) $(ARGS)

# Runs the demo and puts its figures into docs/results.md.
figures: demo
	@$(BIN)/python tools/figures out/demo.json

# Simulates two networks of the zoo, and draws the figures of docs/results.md.
plots: setup
	@$(BIN)/offramp simulate zoo:resnet8-sparse --images 500 --timeline 2 --json baselines/run-resnet8-sparse.json
	@$(BIN)/offramp simulate zoo:digits --attack pgd --eps 0.2 --curve 8 --json baselines/attack-digits.json
	@$(BIN)/python tools/figures

# Runs the official networks of MLPerf Tiny in every way, and puts their figures into docs/results.md; an hour.
mlperf: setup
	@$(BIN)/python tools/mlperf baselines/mlperf-tiny.json $(ARGS)
	@$(BIN)/python tools/figures baselines/mlperf-tiny.json

# Runs networks of the zoo in every way on the fastest config that was routed for them; half an hour.
routed: setup
	@$(BIN)/python tools/routed baselines/routed.json
	@$(BIN)/python tools/figures

# Tries 10,000 changed files of every kind, and records what came of them; an hour. ARGS="KIND ..." tries only these.
fuzz: setup
	@$(BIN)/python tools/fuzz baselines/fuzz.json $(ARGS)

# CPU time of commands that compute nothing.
startup: setup
	@$(BIN)/python tools/startup baselines/startup.json

# Measures what fits the config base-85f against the limit of nonzero products, on the RTL, too; then, with lists that are
# read during the run, dense ResNet-8 and all densities. Puts the figures into README.md and docs/results.md.
bench-85f: setup
	@$(BIN)/offramp bench --config base-85f --verilator 1 --peers --json baselines/bench-85f.json --workload resnet8-w20 --workload resnet8-w10 --workload ds-cnn $(ARGS)
	@$(BIN)/offramp bench --config base-85f,loader=4 --images 16 --sweep --json baselines/bench-85f-loader.json --workload resnet8-dense $(ARGS)
	@$(BIN)/python tools/figures

# How fast a core alone is on an ECP5-85F, from three seeds; half an hour.
clock: setup
	@$(BIN)/python tools/clock baselines/clock.json $(ARGS)

# Builds the configs single and small for ECP5-25F, and counts the cells of single units; an hour.
baselines: setup
	@$(BIN)/python tools/cells baselines/cells.json
	@OFFRAMP_CACHE=build $(BIN)/offramp build --config single --seed 0 --out build --json baselines/build-single.json $(ARGS)
	@OFFRAMP_CACHE=build $(BIN)/offramp build --config small --clock 80 --seed 1 --out build --json baselines/build-small.json $(ARGS)

# Builds the config single for boards of others than Radiona's; an hour.
baselines-boards: setup
	@for board in colorlight-i5 orangecrab-25f ecpix5-45f; do OFFRAMP_CACHE=build $(BIN)/offramp build --config single --board $$board --clock 60 --seed 1 --out build --json baselines/build-single-$$board.json $(ARGS) || exit; done

# Builds the configs base-85f, medium-85f and small-85f for ECP5-85F; four hours.
baselines-85f: setup
	@OFFRAMP_CACHE=build $(BIN)/offramp build --config medium-85f --board ulx3s-85f --clock 75 --seed 1 --out build --json baselines/build-medium-85f.json $(ARGS)
	@OFFRAMP_CACHE=build $(BIN)/offramp build --config base-85f --board ulx3s-85f --clock 95 --seed 3 --out build --json baselines/build-base-85f.json $(ARGS)
	@OFFRAMP_CACHE=build $(BIN)/offramp build --config small-85f --board ulx3s-85f --clock 60 --seed 1 --out build --json baselines/build-small-85f.json $(ARGS)

# Synthesizes the config tiny for other families of devices, and puts what it takes into docs/boards.md; minutes.
families: setup
	@$(BIN)/python tools/families baselines/families.json $(ARGS)
	@$(BIN)/python tools/figures

# Writes requirements.lock anew from what .venv holds.
lock:
	@tools/lock

clean:
	rm -rf out build .pytest_cache .mypy_cache .ruff_cache .hypothesis
