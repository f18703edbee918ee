# vLLM on NVIDIA GPUs, with the plugin.
FROM vllm/vllm-openai:v0.32.0

ARG PIP_EXTRA_INDEX_URL=""
# The image's Python is the system's own; some releases of pip want to be told that this is meant.
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_BREAK_SYSTEM_PACKAGES=1 PYTHONDONTWRITEBYTECODE=1

# vLLM's packages stay as they are: a dependency that does not fit them stops the build.
WORKDIR /opt/relevance
COPY constraints.txt pyproject.toml README.md LICENSE ./
COPY docker/merge_constraints.py docker/
COPY relevance_core relevance_core
RUN python3 docker/merge_constraints.py constraints.txt >/tmp/constraints.txt \
    && python3 -m pip install --constraint /tmp/constraints.txt . \
    && rm -rf relevance_core build ./*.egg-info \
    && python3 -c 'import vllm, relevance_core.cli, relevance_core.serving.guard, relevance_core.serving.plugin'

RUN groupadd --gid 50001 relevance \
    && useradd --uid 50001 --gid 50001 --home-dir /var/lib/relevance --create-home --shell /usr/sbin/nologin relevance
ENV HF_HUB_OFFLINE=1 \
    HOME=/var/lib/relevance \
    RELEVANCE_SCRATCH=/var/lib/relevance
USER 50001:50001
ENTRYPOINT []
CMD ["relevance", "serve", "--host", "0.0.0.0", "--port", "8000"]
