# Holdfast. `make demo` and `make test` do their own set-up on a plain Debian machine with Rust 1.95.

PREFIX  ?= /usr/local
DESTDIR ?=
TARGET  := $(or $(CARGO_TARGET_DIR),$(CURDIR)/target)
# What the agent is built with besides, such as --no-default-features; see docs/operate.md.
AGENT   ?=
PROGRAMS := holdfast holdfast-coordinator holdfast-agent
# Each plugin after the program that goes by its name.
PLUGINS := holdfast-plugins/cloud-run holdfast-plugins/command holdfast-plugins/helm \
	holdfast-plugins/terraform holdfast-plugins-aws/aws-ecs holdfast-plugins-aws/aws-lambda

.DEFAULT_GOAL := help
.PHONY: help demo test build lint doc bench install clean

help:  ## list these commands
	@awk -F ':.*## *' '/^[a-z]+:.*##/ { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo:  ## build, then show a whole deployment on this machine in under a minute
	@tests/setup.sh build
	@echo "building (a few minutes the first time)" >&2
	@cargo build --quiet $(PROGRAMS:%=-p %) -p holdfast-example-server
	@$(TARGET)/debug/holdfast demo

test:  ## build, then run every test; the last line says how many passed and failed
	@tests/setup.sh test
	@tests/run.sh

build:  ## build the programs for development
	@tests/setup.sh build
	@cargo build --workspace --bins

lint:  ## formatting and lints, as CI judges them
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings

doc:  ## the documentation of all code, private parts too, warnings refused
	RUSTDOCFLAGS='-Dwarnings -Arustdoc::private_intra_doc_links' \
		cargo doc --workspace --no-deps --document-private-items

bench:  ## measure; prints tables, and writes every figure to target/bench.json
	@tests/setup.sh build
	@tests/bench.sh

install:  ## optimised programs to $(PREFIX)/bin, plugins to lib/holdfast, units and installer to share/holdfast
	@tests/setup.sh build
	cargo build --release $(patsubst %,-p %,$(filter-out holdfast-agent,$(PROGRAMS))) \
		$(patsubst %/,-p %,$(sort $(dir $(PLUGINS))))
	cargo build --profile agent -p holdfast-agent $(AGENT)
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/share/holdfast/systemd
	install -m 755 $(filter-out %-agent,$(PROGRAMS:%=$(TARGET)/release/%)) $(TARGET)/agent/holdfast-agent \
		$(DESTDIR)$(PREFIX)/bin
	install -d $(DESTDIR)$(PREFIX)/lib/holdfast/plugins
	$(foreach plugin,$(PLUGINS),install -m 755 $(TARGET)/release/$(patsubst %/,%,$(dir $(plugin))) \
		$(DESTDIR)$(PREFIX)/lib/holdfast/plugins/$(notdir $(plugin)) &&) true
	install -m 755 deploy/install.sh $(DESTDIR)$(PREFIX)/share/holdfast
	install -m 644 deploy/systemd/*.service $(DESTDIR)$(PREFIX)/share/holdfast/systemd

clean:  ## remove what was built
	cargo clean
