"""docker/: what can be known of the images and the compose files without a Docker engine."""

from __future__ import annotations

import fnmatch
import http.server
import importlib.util
import json
import os
import re
import shlex
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from relevance_core import config
from relevance_core.cli.main import build_parser
from tests.support.docker_cases import BUCKET, DOCKER, POLICY, credentials, first_start, load
from tests.support.places import PROJECT
from tests.support.registry_cases import moto_server, use_server

COMPOSE = yaml.safe_load((DOCKER / "compose.yaml").read_text())
GPU = yaml.safe_load((DOCKER / "compose.gpu.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
ONCE = {"store-init", "airflow-init"}
DOCKERFILES = sorted(DOCKER.glob("*.Dockerfile"))
PINNED = re.compile(r"[\w./-]+:v?\d+(\.\d+)+[\w.-]*")
VARIABLE = re.compile(r"\$\{(\w+)")


def test_the_compose_files_are_valid() -> None:
    """Both files hold to the Compose specification's schema, and the second one only changes services of the first."""
    schema = json.loads((files("check_jsonschema") / "builtin_schemas/vendor/compose-spec.json").read_text())
    for content in (COMPOSE, GPU):
        jsonschema.validate(content, schema)
    assert set(GPU["services"]) <= set(SERVICES)


def test_every_image_is_pinned() -> None:
    """No image and no base image is `latest`, or without a version."""
    images = [service["image"] for service in [*SERVICES.values(), *GPU["services"].values()] if "image" in service]
    bases = [line.split()[1] for path in DOCKERFILES for line in path.read_text().splitlines() if line.startswith("FROM ")]
    assert len(bases) == len(DOCKERFILES) == 4
    assert [image for image in images + bases if not PINNED.fullmatch(image)] == []


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_hardened(name: str) -> None:
    """Each service is no root, can't gain privileges, has a read-only root, a memory limit, a restart policy and a health check."""
    service = SERVICES[name]
    assert service["user"] not in ("root", "0", "0:0")
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["deploy"]["resources"]["limits"].keys() == {"cpus", "memory"}
    assert service["restart"] == ("on-failure:5" if name in ONCE else "unless-stopped")
    assert service["healthcheck"].get("disable", False) is (name in ONCE)
    assert name in ONCE or service["healthcheck"]["test"][0] == "CMD"


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_an_image_is_no_roots(path: Path) -> None:
    """The last user of each image is a number, which is not root's."""
    users = re.findall(r"^USER (\S+)$", path.read_text(), re.MULTILINE)
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", users[-1])


def test_only_the_ui_is_published() -> None:
    """One port leaves the machine's containers: the UI's, on loopback unless somebody says otherwise."""
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert published == {"airflow-api-server": ["${RELEVANCE_UI_ADDRESS:-127.0.0.1}:${RELEVANCE_UI_PORT:-8080}:8080"]}
    assert not any("ports" in service or service.get("network_mode") for service in GPU["services"].values())


def test_networks_part_what_need_not_meet() -> None:
    """The database is out of the servers' reach, and neither it, the store nor vLLM reaches anything outside."""
    assert {name for name, network in COMPOSE["networks"].items() if not network.get("internal")} == {"outside"}
    networks = {name: set(service["networks"]) for name, service in SERVICES.items()}
    assert networks["postgres"] == {"database"}
    assert networks["store"] == networks["vllm"] == networks["vllm-next"] == {"serving"}
    out = {"airflow-api-server", "airflow-scheduler", "airflow-dag-processor", "airflow-triggerer"}
    assert {name for name, found in networks.items() if "outside" in found} == out


def test_every_reference_is_there() -> None:
    """Files, secrets, configs, volumes, networks and services that are named exist, and nothing is defined in vain."""
    used: dict[str, set[str]] = {"secrets": set(), "configs": set(), "networks": set(), "volumes": set()}
    for service in SERVICES.values():
        for kind in ("secrets", "configs"):
            used[kind] |= {item if isinstance(item, str) else item["source"] for item in service.get(kind, [])}
        used["networks"] |= set(service["networks"])
        used["volumes"] |= {
            found for volume in service.get("volumes", []) if re.fullmatch(r"[\w-]+", found := volume.split(":")[0])
        }
        assert set(service.get("depends_on", {})) <= set(SERVICES)
        build = service.get("build")
        assert not build or (DOCKER / build["context"] / build["dockerfile"]).is_file()
    for kind, names in used.items():
        assert names == set(COMPOSE[kind]), kind
    for settings in COMPOSE["configs"].values():
        assert (DOCKER / settings["file"]).is_file()
    assert (PROJECT / GPU["services"]["vllm"]["build"]["dockerfile"]).is_file()


def test_what_an_image_copies_reaches_the_builder() -> None:
    """Every source of a COPY exists and .dockerignore lets it through; the secrets stay out."""
    lines = [line for line in (PROJECT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    let_in = [line[1:] for line in lines if line.startswith("!")]
    assert lines[0] == "*"
    sources = [
        word
        for path in DOCKERFILES
        for line in path.read_text().splitlines()
        if line.startswith("COPY ")
        for word in line.split()[1:-1]
    ]
    assert len(sources) > 20
    for source in sources:
        assert (PROJECT / source).exists(), source
        assert any(fnmatch.fnmatch(source, pattern) or source.startswith(pattern + "/") for pattern in let_in), source
    assert not any(fnmatch.fnmatch("docker/.secrets/store_root", pattern) for pattern in let_in)
    ignored = subprocess.run(
        ["git", "check-ignore", "docker/.secrets/x", "docker/.secrets.a1B2c3/x"], cwd=PROJECT, check=False, capture_output=True
    )
    assert len(ignored.stdout.splitlines()) == 2


def test_no_secret_stands_in_a_file() -> None:
    """A variable whose name says secret holds the path of one, and no file of docker/ holds a word that looks like one."""
    for name, service in SERVICES.items():
        for variable, value in service.get("environment", {}).items():
            if re.search("PASSWORD|SECRET|FERNET|TOKEN|CONN|CREDENTIALS", variable):
                assert re.fullmatch(r"(cat )?/run/secrets/\w+|/opt/airflow/passwords.json", value), f"{name}: {variable}"
    for path in DOCKER.iterdir():
        if path.is_file():
            assert not re.search(r"[0-9a-f]{24}|AKIA[0-9A-Z]{16}|BEGIN \w* ?PRIVATE", path.read_text()), path.name


def test_the_environment_means_something() -> None:
    """Each variable is Airflow's (one read from a command is a sensitive one), the code's, or one of the image's program."""
    reference = yaml.safe_load((_folder_of("airflow") / "config_templates" / "config.yml").read_text())
    code = "\n".join(
        path.read_text()
        for folder in ("relevance_core", "plugins", "dags", "docker")
        for path in (PROJECT / folder).rglob("*.*")
        if path.suffix in (".py", ".sh")
    )
    libraries = (_folder_of("botocore") / "configprovider.py").read_text() + (_folder_of("botocore") / "credentials.py").read_text()
    others = {"POSTGRES_USER", "POSTGRES_DB", "POSTGRES_PASSWORD_FILE", "HOME", "OMP_NUM_THREADS", "HF_HUB_CACHE"}
    for variable in {name for service in SERVICES.values() for name in service.get("environment", {})} - others:
        if variable.startswith("AIRFLOW__"):
            section, option = re.fullmatch(r"AIRFLOW__(\w+?)__(\w+)", variable).groups()  # type: ignore[union-attr]
            found = reference[section.lower()]["options"][option.lower().removesuffix("_cmd")]
            assert found.get("sensitive", False) or not option.endswith("_CMD"), variable
        elif variable.startswith("AWS_"):
            assert variable in libraries or variable in code, variable
        else:
            assert variable.startswith("RELEVANCE_"), variable
            assert variable in code, variable


def test_what_a_person_may_set_is_documented() -> None:
    """Every variable that the compose files take from the environment stands in the guide, and none else does."""
    text = (DOCKER / "compose.yaml").read_text() + (DOCKER / "compose.gpu.yaml").read_text()
    page = (PROJECT / "docs" / "deploying.md").read_text()
    assert set(VARIABLE.findall(text)) == set(re.findall(r"^\| `([A-Z_]+)` \|", page, re.MULTILINE))


def test_commands_are_commands() -> None:
    """Every `relevance` and `airflow` command line of the files is one that the program takes; every script is there."""
    for words in _commands():
        if words[0] == "relevance":
            build_parser().parse_args(words[1:])
        elif words[0].startswith("docker/"):
            assert os.access(PROJECT / words[0], os.X_OK)
        elif words[0] == "python":
            assert (PROJECT / words[1]).is_file()
        else:
            assert words[0] in ("airflow", "/bin/sh", "pg_isready", "wget", "versitygw"), words
    assert {words[0] for words in _commands()} >= {"relevance", "airflow", "python", "docker/airflow-init.sh"}


@pytest.mark.airflow
def test_airflow_takes_its_commands() -> None:
    """Airflow's own parser takes every `airflow` command line of the files and of the scripts in them."""
    from airflow.cli.cli_parser import get_parser

    lines = [
        shlex.split(line.removeprefix("exec "), comments=True)
        for path in DOCKER.glob("*.sh")
        for line in path.read_text().splitlines()
    ]
    for words in [*_commands(), *lines]:
        if words and words[0] == "airflow" and words[1:] != ["version"]:
            get_parser().parse_args([re.sub(r"\$\{\w+:-(\w+)\}", r"\1", word) for word in words[1:]])


@pytest.mark.parametrize("path", sorted(DOCKER.glob("*.sh")), ids=lambda path: path.name)
def test_scripts_are_shell(path: Path) -> None:
    """bash reads every script, which stops at the first error."""
    subprocess.run(["bash", "-n", path], check=True)
    assert "set -euo pipefail" in path.read_text()


def test_the_settings_are_settings() -> None:
    """The settings file is one, and the keys that it names are secrets of the services that need them."""
    serving = config.load(DOCKER / "settings.toml").serving
    for name, needed in {
        "airflow-api-server": {"airflow_passwords.json", "store_pages"},
        "airflow-scheduler": {"sign_key.pem", "verify_key.pem", "store_airflow"},
        "vllm": {"verify_key.pem", "store_serving"},
    }.items():
        assert needed <= {one if isinstance(one, str) else one["source"] for one in SERVICES[name]["secrets"]}
    assert (serving.sign_key, serving.verify_key) == ("/run/secrets/sign_key.pem", "/run/secrets/verify_key.pem")
    assert "sign_key.pem" not in SERVICES["vllm"]["secrets"]


def test_servers_do_not_share_a_cache() -> None:
    """vllm and vllm-next share a volume, so their ports differ: a server's cache is the folder of its port."""
    ports = {words[words.index("--port") + 1] for name in ("vllm", "vllm-next") if (words := SERVICES[name]["command"])}
    assert len(ports) == 2


# What first-start.sh makes


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return first_start(tmp_path_factory.mktemp("first") / "secrets")


def test_first_start_makes_every_secret(secrets: Path) -> None:
    """What it makes is what the compose file names, none is empty, the folder is its owner's, and no container may write a file."""
    wanted = {Path(secret["file"]).name for secret in COMPOSE["secrets"].values()}
    assert wanted | {"store_client"} == {path.name for path in secrets.iterdir()}
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in secrets.iterdir()} == {0o444}
    assert all(path.stat().st_size for path in secrets.iterdir())


def test_secrets_are_made_once_and_are_random(secrets: Path, tmp_path: Path) -> None:
    """A second start changes nothing; another place has other secrets, every one of them; nothing is left behind."""
    before = {path.name: path.read_bytes() for path in secrets.iterdir()}
    first_start(secrets)
    assert before == {path.name: path.read_bytes() for path in secrets.iterdir()}
    other = first_start(tmp_path / "secrets")
    assert [name for name, content in before.items() if (other / name).read_bytes() == content] == []
    assert list(tmp_path.iterdir()) == [other]


def test_secrets_fit_together(secrets: Path) -> None:
    """The database's address has its password, each account of the store has its credentials, the keys sign and encrypt."""
    from cryptography.fernet import Fernet
    from sqlalchemy import make_url

    from relevance_core.registry.signing import Key

    address = make_url((secrets / "airflow_database").read_text())
    assert (address.host, address.database, address.password) == (
        "postgres",
        "airflow",
        (secrets / "postgres_password").read_text(),
    )
    accounts = json.loads((secrets / "store_users.json").read_text())["accessAccounts"]
    assert {name: account["role"] for name, account in accounts.items()} == dict.fromkeys(
        ("relevance-airflow", "relevance-client", "relevance-pages", "relevance-serving"), "user"
    )
    for name, account in accounts.items():
        assert credentials(secrets / name.replace("relevance-", "store_")) == (name, account["secret"])
    root = (secrets / "store_root.sh").read_text()
    assert root == "export ROOT_ACCESS_KEY_ID={} ROOT_SECRET_ACCESS_KEY={}\n".format(*credentials(secrets / "store_root"))
    Fernet((secrets / "airflow_fernet_key").read_bytes())
    assert list(json.loads((secrets / "airflow_passwords.json").read_text())) == ["admin"]
    signature = Key.load(secrets / "sign_key.pem").sign(b"manifest")
    assert Key.load(secrets / "verify_key.pem").verify(b"manifest", signature)
    assert not Key.load(secrets / "verify_key.pem").verify(b"another", signature)


# The store


def _allowed(who: str, action: str, key: str) -> bool:
    resource = f"arn:aws:s3:::{BUCKET}" + (f"/{key}" if key else "")
    return any(
        f"relevance-{who}" in statement["Principal"]["AWS"]
        and f"s3:{action}" in statement["Action"]
        and any(fnmatch.fnmatchcase(resource, pattern) for pattern in statement["Resource"])
        for statement in POLICY["Statement"]
    )


@pytest.mark.parametrize(
    ("who", "action", "key", "allowed"),
    [
        ("serving", "GetObject", "adapters/qc/0123456789abcdef/adapter_model.safetensors", True),
        ("serving", "GetObject", "aliases/champion/00000001.json", True),
        ("serving", "GetObject", "stages/base/0123/model/model.safetensors", True),
        ("serving", "PutObject", "servers/vllm-8000.json", True),
        ("serving", "DeleteObject", "servers/vllm-8000.json", True),
        ("serving", "ListBucket", "", True),
        ("serving", "PutObject", "adapters/qc/0123456789abcdef/manifest.json", False),
        ("serving", "PutObject", "aliases/champion/00000002.json", False),
        ("serving", "GetObject", "stages/ingest/0123/rows.parquet", False),
        ("airflow", "PutObject", "aliases/champion/00000002.json", True),
        ("airflow", "PutObject", ".probe/if-none-match", True),
        ("airflow", "DeleteObject", "servers/vllm-8000.json", True),
        ("airflow", "DeleteObject", "adapters/qc/0123456789abcdef/manifest.json", False),
        ("airflow", "DeleteObject", "aliases/champion/00000001.json", False),
        ("pages", "GetObject", "runs/2026-10-04-01234567/run.json", True),
        ("pages", "PutObject", "review/decisions/20261004T000000000000Z-0123456789abcdef.jsonl", True),
        ("pages", "PutObject", ".probe/if-none-match", True),
        ("pages", "PutObject", "aliases/champion/00000002.json", False),
        ("pages", "PutObject", "runs/2026-10-04-01234567/approval-qc-0123456789abcdef.json", False),
        ("client", "GetObject", "adapters/qc/0123456789abcdef/manifest.json", True),
        ("client", "GetObject", "translators/seed-x-1/index.json", True),
        ("client", "GetObject", "memory/seed-x-1/es-en/0.parquet", True),
        ("client", "PutObject", "memory/seed-x-1/es-en/0.parquet", False),
        ("client", "PutObject", "aliases/champion/00000002.json", False),
        ("client", "PutObject", "servers/evil.json", False),
    ],
)
def test_keys_may_do_what_they_must(who: str, action: str, key: str, allowed: bool) -> None:
    """Servers read what is published and put themselves on the list; the loop deletes nothing of the registry; the pages write
    decisions and nothing else; clients read.
    """
    assert _allowed(who, action, key) is allowed


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    with moto_server() as endpoint:
        yield endpoint


def test_a_store_that_ignores_the_condition_is_refused(moto: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where If-None-Match is dropped on the way, more than one writer wins, and the start fails."""
    import boto3

    use_server(monkeypatch, moto)
    script = load("store_init")

    def drop(params: Any, **_: Any) -> None:
        del params["headers"]["If-None-Match"]

    def client(*arguments: Any, **options: Any) -> Any:
        made = boto3.session.Session().client(*arguments, **options)
        made.meta.events.register("before-call.s3.PutObject", drop)
        return made

    monkeypatch.setattr(boto3, "client", client)
    assert script.main("another", DOCKER / "store-policy.json") == 1


# Small programs of the images


def test_constraints_keep_what_is_there() -> None:
    """A package of the image keeps its version, however it is spelled; another one comes at the file's, without its hashes."""
    merged = load("merge_constraints").merged
    lines = ["# a comment", "Foo_Bar==1", "zoo==3 \\", "    --hash=sha256:ab", "-e ."]
    assert list(merged([("foo.bar", "2"), ("abc", "1+cu1")], lines)) == ["abc==1+cu1", "foo-bar==2", "zoo==3"]


@pytest.mark.parametrize(("status", "code"), [("healthy", 0), ("unhealthy", 1), (None, 1)])
def test_health_is_what_airflow_says(status: str | None, code: int) -> None:
    """A process is healthy when the API server says so of it."""
    with _answering({"scheduler": {"status": status}, "triggerer": None}) as url:
        for component, expected in (("scheduler", code), ("triggerer", 1)):
            command = [sys.executable, DOCKER / "healthy.py", component, url]
            assert subprocess.run(command, check=False, capture_output=True).returncode == expected


def _commands() -> Iterator[list[str]]:
    """Every command line of the compose file's services and health checks and of the images, with the defaults of variables."""
    for service in SERVICES.values():
        yield from (
            [re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", word) for word in words]
            for words in [service.get("command"), service["healthcheck"].get("test", [])[1:]]
            if words
        )
    for path in DOCKERFILES:
        yield from (json.loads(words) for words in re.findall(r"^(?:CMD|ENTRYPOINT) (\[.+\])$", path.read_text(), re.MULTILINE))


def _folder_of(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


class _answering:  # noqa: N801 - reads as a function
    """A server that answers every GET with one JSON object."""

    def __init__(self, content: Mapping[str, Any]) -> None:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.end_headers()
                self.wfile.write(json.dumps(content).encode())

            def log_message(self, *_: object) -> None:
                """Says nothing."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    def __enter__(self) -> str:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{self._server.server_port}"

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
