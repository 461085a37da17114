# make help lists the targets; each is at most three lines.
PYTHON ?= python3
BIN := .venv/bin
PROTOS = $(shell find protos/athanor -name '*.proto')

.PHONY: help setup demo test ci checks drills lint protos bench clean stack stack-down stack-status

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

setup: .venv/.done  ## make .venv with everything that Athanor needs

.venv/.done: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt -e '.[all,dev]'
	touch $@

demo: setup  ## watch one whole round on real input, about five minutes
	./athanor demo

test: setup  ## unit, contract and end-to-end tests
	$(BIN)/python -m pytest -n 2 --dist loadfile

stack: setup  ## start the real servers; the first time builds them, about four minutes
	$(BIN)/python -m deploy.local.stack up

stack-down:  ## end them; what they store is kept
	$(BIN)/python -m deploy.local.stack down

stack-status:  ## show each: address, process, version, memory
	$(BIN)/python -m deploy.local.stack status

lint: setup  ## ruff, mypy, buf
	$(BIN)/ruff check . && $(BIN)/ruff format --check .
	$(BIN)/mypy services libs protos/athanor/client deploy
	$(BIN)/buf lint && $(BIN)/buf build -o - | $(BIN)/buf breaking - --against protos/athanor.binpb

protos: setup  ## generate the code beside the protos; the image is what `buf breaking` compares with
	PATH=$(CURDIR)/$(BIN):$$PATH $(BIN)/python -m grpc_tools.protoc -I protos -I protos/vendor --python_out=protos --mypy_out=quiet:protos --grpc_python_out=protos --mypy_grpc_out=quiet:protos $(PROTOS)
	test -f protos/athanor.binpb || $(BIN)/buf build -o protos/athanor.binpb

ci: lint  ## everything that must hold before a commit lands, the real servers included
	$(MAKE) stack
	trap '$(MAKE) stack-down' EXIT; trap 'exit 1' INT TERM; $(MAKE) checks ATHANOR_REQUIRE_STACK=1

checks:
	$(BIN)/python -m pytest -n 2 --dist loadfile --cov --cov-report=term
	$(BIN)/python -m tests.drills --sample 6 --seed 1
	$(BIN)/python -m tests.e2e.check_demo

drills: setup  ## every kill drill, resumable; results in tests/drills/RESULTS.md
	$(BIN)/python -m tests.drills --all

bench: setup  ## performance beside a peer; results in tests/bench/RESULTS.md
	$(BIN)/python -m tests.bench

clean:  ## remove what was built and the state of rounds
	rm -rf .venv .venv-bench .athanor .athanor-fresh-* .mypy_cache .ruff_cache .pytest_cache .drills
