#!/bin/sh
# The entry point of the image. It runs one of the commands below, or any program in the image.
set -eu
cd /app
usage() {
    cat <<'END'
docker run -v recommender:/app/outputs music-recommender [COMMAND]

  serve       POST /recommend on port 8080 (the default; `serve --help` lists the options)
  run         run notebooks 01 to 05: run params/gpu.yaml epochs=2
  lab         JupyterLab on port 8888
  playground  the playground on port 8866

A running service follows these commands on its volume:

  promote     serve another run of the volume: promote outputs/gpu
  rollback    serve the previous run again

With an image from `docker build --target test -t music-recommender:test .`:

  test        lint, tests, every notebook
  bench       the benchmarks
END
}
case "${1-}" in
-h | --help | help) usage && exit ;;
"" | -*) set -- serve "$@" ;;
esac
test -w outputs || echo "note: user $(id -u) cannot write outputs/, so nothing is kept there: chown it, or docker run --user." >&2
command=$1 && shift
case "$command" in
serve)
    # The service follows outputs/current, so `promote` reaches it. At first this link leads to the image's run, which
    # the build has checked. If outputs/ cannot be written, the service serves that run directly.
    run=outputs/current
    if ! test -e "$run/model"; then
        test ! -L "$run" || echo "note: $run leads to $(readlink "$run"), which has no model: the image's run is served." >&2
        ln -sfn /app/baked "$run" 2>/dev/null || run=baked
    fi
    touch /tmp/serving 2>/dev/null || echo "note: /tmp cannot be written: docker run --tmpfs /tmp" >&2 # for the health check
    test -n "${KG_AUTH_TOKEN:-}" || set -- --no-token "$@"
    exec python -m lib.workbook serve --run "$run" --ip 0.0.0.0 "$@"
    ;;
run | promote | rollback) exec python -m lib.workbook "$command" "$@" ;;
lab)
    # The image's notebooks are read-only. Their copies on the volume are writable and stay.
    notebooks=notebooks
    if test -w outputs; then
        notebooks=outputs/notebooks
        cp -rn notebooks outputs/
        ! diff -rq notebooks $notebooks | grep -q '^Files' ||
            echo "note: some notebooks in $notebooks differ from the image's (edited, or from another image). Remove them to get the image's." >&2
    fi
    exec jupyter lab --notebook-dir . --ip 0.0.0.0 --no-browser --LabApp.default_url=/lab/tree/$notebooks "$@"
    ;;
playground)
    test -e outputs/current/model && run=outputs/current || run=baked
    case "$*" in *--Voila.ip=*) ;; *) set -- --Voila.ip=0.0.0.0 "$@" ;; esac # Voilà accepts this option once
    exec python -m lib.workbook playground "${RUN:-$run}" --no-browser "$@"
    ;;
bench | test)
    command -v pytest >/dev/null || {
        echo "error: this image has no tests and no benchmarks: docker build --target test -t music-recommender:test ." >&2
        exit 1
    }
    if test "$command" = bench; then exec python benchmarks/bench.py baked "$@"; fi
    # The caches go to folders that can be written.
    RUFF_CACHE_DIR=/tmp/ruff PYTEST_ADDOPTS="-p no:cacheprovider" exec make test
    ;;
*)
    command -v "$command" >/dev/null || { echo "error: unknown command $command" >&2 && usage >&2 && exit 127; }
    exec "$command" "$@"
    ;;
esac
