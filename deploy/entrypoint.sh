#!/bin/sh
# What the image runs: one of the commands below, or any program that it has.
set -eu
cd /app
usage() {
    cat <<'END'
docker run -v recommender:/app/outputs music-recommender [COMMAND]

  serve       POST /recommend on port 8080 (the default; `serve --help` for its options)
  run         notebooks 01 to 05: run params/gpu.yaml --set epochs=2
  lab         JupyterLab on port 8888
  playground  the playground on port 8866
  bench       the benchmarks
  test        lint, tests, every notebook

Of a volume, which a running service follows:

  promote     serve another of its runs from now on: promote outputs/gpu
  rollback    serve the run before
END
}
case "${1-}" in
-h | --help | help) usage && exit ;;
"" | -*) set -- serve "$@" ;;
esac
test -w outputs || echo "note: user $(id -u) cannot write outputs/, so that nothing is kept there: chown it, or docker run --user." >&2
command=$1 && shift
case "$command" in
serve)
    # outputs/current is followed, so that `promote` reaches a running service; at first it is the run of the image, which
    # was checked when that was built. Where outputs/ cannot be written, that run is served as it is.
    run=outputs/current
    if ! test -e "$run/model"; then
        test ! -L "$run" || echo "note: $run leads to $(readlink "$run"), which has no model: the image's run is served." >&2
        ln -sfn /app/baked "$run" 2>/dev/null || run=baked
    fi
    touch /tmp/serving 2>/dev/null || echo "note: /tmp cannot be written: docker run --tmpfs /tmp" >&2 # the health check's
    test -n "${KG_AUTH_TOKEN:-}" || set -- --no-token "$@"
    exec python -m lib.serve.gateway --run "$run" --ip 0.0.0.0 "$@"
    ;;
run) exec python -m lib.workbook.runner "$@" ;;
promote | rollback) exec python -m lib.serve.promotion "$command" "$@" ;;
lab)
    # The image's notebooks cannot be written: copies of them can, and stay with the volume.
    notebooks=notebooks
    if test -w outputs; then
        notebooks=outputs/notebooks
        cp -rn notebooks outputs/
        ! diff -rq notebooks $notebooks | grep -q '^Files' ||
            echo "note: some of $notebooks are not this image's: edited, or of another. Remove those to get its own." >&2
    fi
    exec jupyter lab --notebook-dir . --ip 0.0.0.0 --no-browser --LabApp.default_url=/lab/tree/$notebooks "$@"
    ;;
playground)
    test -e outputs/current/model && run=outputs/current || run=baked
    case "$*" in *--Voila.ip=*) ;; *) set -- --Voila.ip=0.0.0.0 "$@" ;; esac # which takes it once
    exec python -m lib.playground.page "${RUN:-$run}" --no-browser "$@"
    ;;
bench) exec python benchmarks/bench.py baked "$@" ;;
test) RUFF_CACHE_DIR=/tmp/ruff PYTEST_ADDOPTS="-p no:cacheprovider" exec make test ;; # their usual places cannot be written
*)
    command -v "$command" >/dev/null || { echo "error: there is no command $command" >&2 && usage >&2 && exit 127; }
    exec "$command" "$@"
    ;;
esac
