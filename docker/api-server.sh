#!/usr/bin/env bash
# The simple auth manager opens its file of passwords for writing, which a secret is not.
set -euo pipefail

install -m 600 /run/secrets/airflow_passwords.json "$AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE"
exec airflow api-server --workers 1
