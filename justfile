# What can be done here; `just` alone lists it.
default:
    @just --list

# What CI runs: format, lints, tests
check:
    bash .ci/run

# The tests; words behind it go to cargo
test *ARGS:
    cargo test {{ ARGS }}

# Ingest beside VictoriaMetrics (benches/README.md); words behind it go to the script
bench *ARGS:
    python3 benches/ingest.py {{ ARGS }}

# The sample recording, the default pipeline, the report
demo *ARGS:
    cargo run --release -- demo {{ ARGS }}

# Format the code
fmt:
    cargo fmt

# Kills the server in mid-load again and again, as the seed says: what was acknowledged must be there, once
sim SEED:
    PLIMSOLL_SEED={{ SEED }} PLIMSOLL_THOROUGH=1 cargo test --test it crash -- --nocapture
