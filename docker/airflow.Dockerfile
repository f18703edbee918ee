# Airflow and the loop, in the environment that the tests run in. One image for every Airflow process and for what runs once.
FROM python:3.11.15-slim

# Where pip may look beside its default. torch's default wheel for Linux carries several GB of CUDA: for machines without a GPU,
# name an index that has torch for CPUs alone. Where one installs from is no part of this file.
ARG PIP_EXTRA_INDEX_URL=""
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONDONTWRITEBYTECODE=1

WORKDIR /opt/relevance
# The dependencies first: they change less often than the code, so a rebuild finds them made.
COPY constraints.txt pyproject.toml README.md LICENSE ./
COPY docker/merge_constraints.py docker/
COPY relevance_core/__init__.py relevance_core/__init__.py
RUN python -m pip install 'pip>=26' \
    && python docker/merge_constraints.py constraints.txt >/tmp/constraints.txt \
    && python -m pip install --constraint /tmp/constraints.txt '.[airflow,train]'
COPY relevance_core relevance_core
COPY plugins plugins
# Airflow has the plugin from the installed package, so the image needs no plugins folder.
RUN python -m pip install --no-deps --force-reinstall . \
    && rm -rf relevance_core plugins build ./*.egg-info
COPY dags dags
COPY docker/airflow-init.sh docker/api-server.sh docker/healthy.py docker/store_init.py docker/store-policy.json docker/

# A new volume takes the owner of the folder that it is mounted over: without these, it would be root's.
RUN groupadd --gid 50000 airflow \
    && useradd --uid 50000 --gid 50000 --home-dir /opt/airflow --create-home --shell /usr/sbin/nologin airflow \
    && install --directory --owner airflow --group airflow /var/log/airflow /var/lib/relevance
ENV AIRFLOW_HOME=/opt/airflow \
    AIRFLOW__CORE__DAGS_FOLDER=/opt/relevance/dags \
    AIRFLOW__CORE__LOAD_EXAMPLES=False \
    HF_HUB_OFFLINE=1 \
    RELEVANCE_SCRATCH=/var/lib/relevance
USER 50000:50000
CMD ["airflow", "version"]
