# vLLM's CPU build, with the plugin: for the small embedded base, and for trying. The environment is that of `make install-serving`.
FROM python:3.11.15-slim

# vLLM is built for torch's CPU wheels. Where pip's default index does not have them, name one that does.
ARG PIP_EXTRA_INDEX_URL=""
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONDONTWRITEBYTECODE=1

# vLLM's kernels are linked with libnuma. It would compile others while it runs: not as `relevance serve`
# starts it (TORCHDYNAMO_DISABLE, docs/serving.md).
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libnuma1 \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/relevance
COPY constraints-serving.txt constraints-torch.txt ./
RUN python -m pip install 'pip>=26' \
    && python -m pip install --no-deps --require-hashes --requirement constraints-serving.txt \
    && python -m pip install --requirement constraints-torch.txt
COPY pyproject.toml README.md LICENSE ./
COPY relevance_core relevance_core
RUN python -m pip install --no-deps . \
    && rm -rf relevance_core build ./*.egg-info \
    && python -c 'import vllm, relevance_core.cli, relevance_core.serving.guard, relevance_core.serving.plugin'

RUN groupadd --gid 50001 relevance \
    && useradd --uid 50001 --gid 50001 --home-dir /var/lib/relevance --create-home --shell /usr/sbin/nologin relevance
ENV HF_HUB_OFFLINE=1 \
    HOME=/var/lib/relevance \
    RELEVANCE_SCRATCH=/var/lib/relevance
USER 50001:50001
CMD ["relevance", "serve", "--host", "0.0.0.0", "--port", "8000"]
