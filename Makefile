# The few words that a person needs; what they do is in scripts/ and `cargo xtask`.

.PHONY: up down setup test fuzz bench

# One profile for `make up` and the tests: two full builds would take twice as long.
ASTRALER = target/debug/astraler

up: setup
	cargo build --locked --package astraler
	$(ASTRALER) --dir starter up

down:
	$(ASTRALER) --dir starter down

setup:
	scripts/setup.sh

# All that CI runs, in its order, with the seconds of each step.
test:
	scripts/setup.sh --test
	cargo xtask ci

# FUZZ_SECONDS for each target; `scripts/fuzz.sh 60 manifest` runs one.
FUZZ_SECONDS ?= 60
fuzz:
	scripts/fuzz.sh $(FUZZ_SECONDS)

# BENCH=name runs one; without a name the known ones are listed.
bench:
	cargo xtask bench $(BENCH)
