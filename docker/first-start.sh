#!/usr/bin/env bash
# Makes the secrets of docker/compose.yaml, each of them random, once: a folder that is there stays as it is.
# Nothing has a default password. The folder is for its owner alone; the files in it may be read by all, because a container sees
# them one by one, as a user of its own.
set -euo pipefail

folder=${1:-"$(cd "$(dirname "$0")" && pwd)/.secrets"}
if [ -e "$folder" ]; then
  echo "$folder is there already; nothing is changed"
  exit 0
fi
command -v openssl >/dev/null || { echo "openssl is needed to make keys, and is not on the PATH" >&2; exit 1; }

umask 077
making=$(mktemp -d "$folder.XXXXXX")
making=$(cd "$making" && pwd)
trap 'rm -rf "$making"' EXIT

random() { openssl rand "$@" | tr -d '\n'; }
keep() { cat >"$making/$1"; }

postgres=$(random -hex 24)
admin=$(random -hex 12)
printf '%s' "$postgres" | keep postgres_password
printf 'postgresql+psycopg2://airflow:%s@postgres/airflow' "$postgres" | keep airflow_database
random -base64 32 | tr '+/' '-_' | keep airflow_fernet_key
random -hex 32 | keep airflow_secret_key
random -hex 32 | keep airflow_jwt_secret
printf '{"admin": "%s"}\n' "$admin" | keep airflow_passwords.json

# The store's accounts. Their access keys are names, so that docker/store-policy.json can say what each may do.
credentials() { printf '[default]\naws_access_key_id = %s\naws_secret_access_key = %s\n' "$1" "$2"; }
root=$(random -hex 24)
printf 'export ROOT_ACCESS_KEY_ID=relevance-root ROOT_SECRET_ACCESS_KEY=%s\n' "$root" | keep store_root.sh
credentials relevance-root "$root" | keep store_root
accounts=""
for name in airflow pages serving client; do
  secret=$(random -hex 24)
  credentials "relevance-$name" "$secret" | keep "store_$name"
  accounts+="${accounts:+, }\"relevance-$name\": {\"access\": \"relevance-$name\", \"secret\": \"$secret\", \"role\": \"user\"}"
done
printf '{"accessAccounts": {%s}}\n' "$accounts" | keep store_users.json

# *publish* signs manifests with the one, servers take none that the other does not verify.
openssl genpkey -algorithm ed25519 -out "$making/sign_key.pem"
openssl pkey -in "$making/sign_key.pem" -pubout -out "$making/verify_key.pem"

chmod 444 "$making"/*
mv "$making" "$folder"
trap - EXIT
echo "made $folder; the login of the UI: user admin, the password in airflow_passwords.json there"
