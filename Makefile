# `make demo` and `make test` are each enough on a fresh clone: they build the environment themselves.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready

.PHONY: demo test gpu parity flink spark hdfs lint install constraints clean

demo: $(READY)
	$(BIN)/duologue demo --out duologue-demo

# Three at once, also on two cores: tests wait for processes and disks for a third of their time.
test: $(READY)
	$(BIN)/python -m pytest -n 3

# All other tests compute on the CPU, also where there is a GPU.
gpu: $(READY)
	DUOLOGUE_GPU=1 $(BIN)/python -m pytest -m gpu

# fairseq's own HuBERT beside ours; pip builds fairseq once, in a few minutes, and keeps the wheel.
parity: $(READY)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[fairseq]"
	$(BIN)/python -m pytest tests/fairseq tests/pipelines/test_export_dgslm.py

# The pipelines on a real Flink cluster, on loopback. Needs Java 11 or 17 and Maven, which scripts/ci_packages.sh
# installs on Debian; fetches 400 MB once.
flink: $(READY)
	$(BIN)/python scripts/flink_cluster.py fetch $(VENV)/flink
	DUOLOGUE_FLINK=$(VENV)/flink $(BIN)/python -m pytest tests/flink

spark: $(READY)
	$(BIN)/python scripts/spark_cluster.py fetch $(VENV)/spark
	DUOLOGUE_SPARK=$(VENV)/spark $(BIN)/python -m pytest tests/spark

# A real HDFS, on loopback; needs what the clusters need.
hdfs: $(READY)
	$(BIN)/python scripts/hdfs_cluster.py fetch $(VENV)/hdfs
	DUOLOGUE_HDFS=$(VENV)/hdfs $(BIN)/python -m pytest tests/hdfs

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

install: $(READY)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	@echo "installing Duologue and its dependencies: torch alone is some gigabytes, a few minutes the first time"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $(READY)

# The newest versions that pyproject.toml allows, for every extra. Then run the tests.
constraints:
	rm -rf $(VENV)/newest
	$(PYTHON) -m venv $(VENV)/newest
	$(VENV)/newest/bin/python -m pip install --quiet --upgrade pip
	$(VENV)/newest/bin/python -m pip install --quiet --editable ".[dev,fairseq,gcs]"
	(grep '^#' constraints.txt; $(VENV)/newest/bin/python -m pip freeze --exclude-editable) > $(VENV)/constraints.txt
	mv $(VENV)/constraints.txt constraints.txt
	rm -rf $(VENV)/newest

clean:
	rm -rf $(VENV) duologue-demo
