# What a person or a machine asks of this repository. `make demo` shows it at
# work, `make test` proves it with real firmware, `make check` looks at the text.

# The tests make network namespaces and taps of their own, which needs root;
# the building does not.
ifneq ($(shell id -u),0)
as_root := --config 'target."cfg(unix)".runner="sudo -E"'
endif

.PHONY: demo test check bench matrix

demo:
	examples/demo.sh

test:
	tests/lab/install
	cargo test --no-fail-fast $(as_root) -- --include-ignored

# Every firmware, in every company that it can have, into docs/firmware-matrix.md;
# ONLY='arm64 kea, bios' boots those alone whose names have the words of one list,
# ONLY=--new those that were never run: after an interruption, say.
matrix:
	tests/lab/install
	cargo test $(as_root) --test make_matrix -- $(ONLY)

# How fast it is, beside others; see docs/benchmarks.md. Not part of the tests:
# computers are shared. QUICK=1 is to see that all of it works.
bench:
	cargo bench --bench pure
	cargo bench --bench management
	cargo bench --bench scale
	benches/peers/install
	tests/lab/install
	cargo bench --bench latency $(as_root)
	cargo bench --bench peers $(as_root)

check:
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings
	cargo check --manifest-path fuzz/Cargo.toml
