"""The files for clouds: Ray's own check accepts the cluster, and a machine of SkyPilot knows its place."""

import json
import os
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from sesame.launch.place import machine
from sesame.launch.processes import Machine
from tests.test_document_commands import COMMANDS, check_sesame

REPOSITORY = Path(__file__).resolve().parents[2]
VARIABLES = {
    "SKYPILOT_NUM_NODES": "2",
    "SKYPILOT_NODE_RANK": "1",
    "SKYPILOT_NODE_IPS": "10.0.0.1\n10.0.0.2",
    "SKYPILOT_NUM_GPUS_PER_NODE": "8",
}


def cloud(name: str) -> dict[str, Any]:
    return yaml.safe_load((REPOSITORY / "launch" / "cloud" / f"{name}.yaml").read_text(encoding="utf-8"))


def test_ray_accepts_its_cluster() -> None:
    import jsonschema
    import ray.autoscaler as autoscaler
    from ray.autoscaler._private.util import prepare_config

    schema = json.loads((Path(autoscaler.__file__).parent / "ray-schema.json").read_text(encoding="utf-8"))
    config = cloud("ray")
    jsonschema.validate(config, schema)
    with pytest.raises(jsonschema.ValidationError, match="worker_count"):
        jsonschema.validate(config | {"worker_count": 2}, schema)
    # What it fills in is chosen by the provider and the types of machines.
    assert prepare_config(config)["available_node_types"].keys() == {"head", "worker"}


def test_the_cluster_installs_what_the_data_image_does() -> None:
    (install,) = (each for each in cloud("ray")["setup_commands"] if "pip install" in each)
    requirements = re.search(r"docker/requirements.py data ([a-z0-9 ]+)", install)
    assert requirements
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert set(requirements[1].split()) <= set(project["optional-dependencies"])
    started = [each for each in map(str, cloud("ray").values()) if "ray start" in each]
    assert len(started) == 2
    assert all("RAY_AUTH_MODE=token" in each for each in started), "a cluster without a token is open to its network"


def test_a_machine_of_skypilot_knows_its_place(tmp_path: Path) -> None:
    task = cloud("skypilot")
    program = tmp_path / ".venv" / "bin" / "sesame"
    program.parent.mkdir(parents=True)
    program.write_text(
        "#!/usr/bin/env python3\nimport json, os, sys\nprint(json.dumps([sys.argv[1:], dict(os.environ)]))\n"
    )
    program.chmod(0o755)
    environment = {"PATH": os.environ["PATH"]} | VARIABLES | task["envs"]
    script = ["bash", "-euc", task["run"]]
    done = subprocess.run(script, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    words, variables = json.loads(done.stdout)
    check_sesame(words, COMMANDS[0])
    assert machine(8, variables) == Machine(8, "10.0.0.1", 29500, 2, 1)
    assert words[words.index("--processes") + 1] == "8"
    assert task["num_nodes"] == 2
