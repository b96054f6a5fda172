# docker build -t music-recommender .                                                        for CPUs
# docker build -t music-recommender:cuda --build-arg TORCH_INDEX=https://pypi.org/simple .  for NVIDIA GPUs
# docker build -t music-recommender:test --target test .                                    with tests and benchmarks
# To pin the base by digest: --build-arg BASE=debian:bookworm-slim@sha256:… (docker buildx imagetools inspect BASE)
ARG BASE=debian:bookworm-slim

# The base of all stages: Debian's Python 3.11 and an init.
FROM ${BASE} AS base
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates python3 python3-venv tini \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* \
    && useradd --uid 10001 --user-group --no-create-home --home-dir /app/outputs listener
WORKDIR /app

# The pinned packages. A changed notebook or module does not install them again.
FROM base AS packages
# PyTorch's own index has a build without CUDA; PyPI has the build with CUDA.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
COPY requirements.txt constraints.txt ./
# Bytecode of all packages would take 0.3 GB; the service's bytecode is compiled below. Nothing reads the removed files:
# C++ headers, the packages' own tests, and word lists of other languages.
RUN python3 -m venv .venv \
    && .venv/bin/pip install --no-cache-dir --no-compile --no-deps ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} \
        "$(grep '^torch==' requirements.txt)" \
    && .venv/bin/pip install --no-cache-dir --no-compile -r requirements.txt -c constraints.txt \
    && site=.venv/lib/python3.11/site-packages \
    && rm -rf "$site"/torch/bin/test_* "$site"/torch/bin/protoc* "$site"/torch/include "$site"/torch/test \
        "$site"/onnx/backend/test "$site"/pyarrow/include \
    && find "$site"/wordfreq/data -name '*_*' ! -name '*_en.*' -delete \
    && find "$site" -type d -name tests -prune -exec rm -rf {} +

# A run that the image can serve at once: tracks, model, index.
FROM packages AS run
ARG PARAMS=params/quick.yaml
# Without the static encoder, which takes 0.1 GB. Only runs that choose it for their requests need it.
ARG SET="static_texts=0"
ENV PYTHONPATH=/app PYTHONUNBUFFERED=1
COPY lib lib
COPY deploy/__init__.py deploy/
COPY deploy/scale/__init__.py deploy/scale/workers.py deploy/scale/
COPY notebooks notebooks
COPY params params
# hadolint ignore=SC2086
RUN .venv/bin/python -c 'from lib.core.base_models import find; import shutil; shutil.copytree(find("all-MiniLM-L6-v2"), "all-MiniLM-L6-v2")' \
    && .venv/bin/python -m lib.workbook run "$PARAMS" run_dir=/app/baked $SET \
    && .venv/bin/python -c 'import pathlib; from lib.playground.base import base_of, untuned; from lib.search.recommender import open_run; \
        baked = pathlib.Path("baked"); untuned(baked / "base", base_of(baked), open_run(baked).tracks)' \
    && chmod -R a+rX all-MiniLM-L6-v2 baked

FROM packages AS service
ARG REVISION=unknown
LABEL org.opencontainers.image.title="music-recommender" \
      org.opencontainers.image.description="Type how you feel, get songs: POST /recommend on port 8080" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.revision="${REVISION}"
ENV PATH=/app/.venv/bin:$PATH PYTHONPATH=/app PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    HOME=/app/outputs IPYTHONDIR=/tmp/ipython JUPYTER_RUNTIME_DIR=/tmp/jupyter MPLCONFIGDIR=/tmp/matplotlib \
    NUMBA_CACHE_DIR=/tmp/numba NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=run /app/all-MiniLM-L6-v2 all-MiniLM-L6-v2
COPY --from=run /app/baked baked
COPY . .
# The build checks the run once, so a start need not. It also compiles the service's modules, because the root of a
# container may be read-only: that saves eight seconds of each start.
RUN env -u PYTHONDONTWRITEBYTECODE python -c "import lib.search.recommender, lib.serve.gateway, lib.workbook.runner" \
    && env -u PYTHONDONTWRITEBYTECODE python -m lib.workbook promote baked \
    && chown -hR 10001:10001 outputs \
    && find . -mindepth 1 -maxdepth 1 ! -name .venv ! -name baked ! -name outputs -exec chmod -R a+rX {} +
USER 10001:10001
VOLUME /app/outputs
EXPOSE 8080 8888
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s \
    CMD ["sh", "-c", "test ! -e /tmp/serving || exec python3 -c \
        'import urllib.request as u; u.urlopen(\"http://127.0.0.1:8080/ready\", timeout=4)'"]
ENTRYPOINT ["tini", "--", "/app/deploy/entrypoint.sh"]
CMD ["serve"]

# The service with the packages of tests, lint and benchmarks. The two stamps tell make that they are installed.
FROM service AS test
USER 0:0
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends make wrk \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* \
    && .venv/bin/pip install --no-cache-dir --no-compile -r requirements-dev.txt -c constraints.txt \
    && touch .venv/.ready .venv/.dev
USER 10001:10001
CMD ["test"]

# The default target.
FROM service
