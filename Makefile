# What a person or a machine asks of this repository. `make demo` shows it at
# work, `make test` proves it with real firmware, `make check` looks at the text.

.PHONY: demo test check

demo:
	examples/demo.sh

test:
	tests/lab/install
	cargo test --no-fail-fast -- --include-ignored

check:
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings
