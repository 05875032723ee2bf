# What can be done here; `just` alone lists it.
default:
    @just --list

# What CI runs: format, lints, tests, every parser fuzzed for a moment
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

# The store under fire from a seed on, until it fails or is interrupted: crashes at every change of the disk, operations by chance
sim SEED:
    PLIMSOLL_SEED={{ SEED }} cargo test --test it sim::endless -- --ignored --nocapture

# Kills the server in mid-load so many times: what was acknowledged must be there, once
kill ROUNDS="100":
    PLIMSOLL_KILLS={{ ROUNDS }} cargo test --test it crash::acknowledged -- --nocapture

# Flips bytes in every kind of file
flips COUNT="1000":
    PLIMSOLL_FLIPS={{ COUNT }} cargo test --test it sim::flips -- --nocapture

# Fuzzes every parser, or those named, for so many seconds each
fuzz SECONDS="600" *TARGETS:
    bash .ci/fuzz {{ SECONDS }} {{ TARGETS }}
