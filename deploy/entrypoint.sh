#!/bin/sh
# What the image runs: serve (the default), run, lab, playground, promote, rollback, bench, test; or any other command.
set -eu
cd /app
case "${1:-serve}" in
serve)
    # outputs/current is followed, so that `promote` reaches a running service; at first it is the run of the image, which
    # was checked when that was built. Where outputs/ cannot be written, that run is served as it is.
    run=outputs/current
    test -e outputs/current || ln -sfn /app/baked outputs/current || run=baked
    shift || true
    test -n "${KG_AUTH_TOKEN:-}" || set -- --no-token "$@"
    exec python -m lib.gateway --run "$run" --ip 0.0.0.0 "$@"
    ;;
run) shift && exec python -m lib.workbook "$@" ;;
lab)
    # The image's notebooks cannot be written: copies of them can, and stay with the volume.
    cp -rn notebooks outputs/
    shift && exec jupyter lab --notebook-dir . --ip 0.0.0.0 --no-browser --LabApp.default_url=/lab/tree/outputs/notebooks "$@"
    ;;
playground) shift && exec python -m lib.playground "${RUN:-baked}" --no-browser --Voila.ip=0.0.0.0 "$@" ;;
promote | rollback) exec python -m lib.promotion "$@" ;;
bench) shift && exec python benchmarks/bench.py baked "$@" ;;
test) exec make test ;;
*) exec "$@" ;;
esac
