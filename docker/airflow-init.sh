#!/usr/bin/env bash
# Brings the database to this Airflow's schema and makes the pool that the tasks with a model wait for. Runs before every start.
set -euo pipefail

airflow db migrate
airflow pools set relevance_gpu "${RELEVANCE_GPU_SLOTS:-1}" "tasks that want a GPU"
