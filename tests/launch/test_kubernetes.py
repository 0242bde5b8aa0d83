"""The Kubernetes files: their commands are understood, they fit each other, and the published schemas accept them."""

import importlib
import os
import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from sesame import configs
from sesame.configs.shipped import find
from sesame.configs.stopping import CONTINUE
from sesame.launch.place import machine
from sesame.launch.processes import Machine
from sesame.pretrain.config import RunConfig
from tests.test_document_commands import COMMANDS, check_sesame
from tests.test_packaging import project

REPOSITORY = Path(__file__).resolve().parents[2]
FILES = sorted((REPOSITORY / "launch" / "kubernetes").glob("*.yaml"))
WRITABLE = {"/data/runs", "/tmp", "/dev/shm"}
"""Mounts of a container; everything else is read-only."""
STAGES = {"prepare": "sesame-data", "pretrain": "sesame-train", "evaluate": "sesame-train"}
"""Stage -> its image."""
IMAGES = {**STAGES, "shell": "sesame-data"}
"""Name of a file with pods -> their image."""
API = "kubeflow_trainer_api"
"""The package of development that has the schemas of Kubernetes and JobSet."""


def resource(name: str) -> dict[str, Any]:
    (found,) = yaml.safe_load_all((REPOSITORY / "launch" / "kubernetes" / f"{name}.yaml").read_text(encoding="utf-8"))
    return found


def find_all(value: Any, key: str) -> Iterator[Any]:
    """Yield what stands under ``key``, at any depth."""
    for each, inner in value.items() if isinstance(value, dict) else enumerate(value):
        if each == key:
            yield inner
        if isinstance(inner, dict | list):
            yield from find_all(inner, key)


def pods(name: str) -> list[dict[str, Any]]:
    """The specifications of the pods of a file."""
    if resource(name)["kind"] == "Pod":
        return [resource(name)["spec"]]
    return [template["spec"] for template in (*find_all(resource(name), "template"),
            *find_all(resource(name), "submitterPodTemplate")) if "containers" in template["spec"]]  # fmt: skip


def words(name: str) -> list[str]:
    """The command line of a stage, without ``sesame``."""
    if name == "prepare":
        first, *rest = shlex.split(resource(name)["spec"]["entrypoint"])
        assert first == "sesame"
        return rest
    (pod,) = pods(name)
    return pod["containers"][0]["args"]


def option(name: str, option: str) -> str:
    """The value of an option of a stage."""
    text = " ".join(words(name))
    found = re.search(rf"{option}[ =](\S+)", text)
    assert found, text
    return found[1]


@pytest.mark.parametrize("name", STAGES)
def test_its_command_is_understood(name: str) -> None:
    check_sesame(words(name), COMMANDS[0])


def test_each_stage_reads_what_the_one_before_writes() -> None:
    run = configs.load(find(words("pretrain")[1]), RunConfig)
    assert str(run.data.dataset) == option("prepare", "--output")
    assert option("evaluate", "--checkpoint") == option("pretrain", "--output")


def environment(container: Mapping[str, Any], annotations: Mapping[str, str]) -> dict[str, str]:
    """The environment variables of a container, as the kubelet sets them."""
    values = {}
    for each in container["env"]:
        path = each.get("valueFrom", {}).get("fieldRef", {}).get("fieldPath", "")
        annotation = re.fullmatch(r"metadata\.annotations\['(.+)'\]", path)
        values[each["name"]] = annotations[annotation[1]] if annotation else each["value"]
    return values


def test_every_machine_of_a_training_knows_its_place() -> None:
    job = resource("pretrain")["spec"]["replicatedJobs"][0]["template"]["spec"]
    container = job["template"]["spec"]["containers"][0]
    assert job["parallelism"] == job["completions"]
    gpus = int(container["resources"]["limits"]["nvidia.com/gpu"])
    processes = int(option("pretrain", "--processes"))
    assert processes == gpus
    for index in range(job["completions"]):
        annotations = {
            "batch.kubernetes.io/job-completion-index": str(index),
            "jobset.sigs.k8s.io/coordinator": "sesame-pretrain-trainers-0-0.sesame-pretrain",
        }
        place = machine(processes, environment(container, annotations))
        host = annotations["jobset.sigs.k8s.io/coordinator"]
        assert place == Machine(processes, host, 29500, job["completions"], index)
    data = configs.load(find(words("pretrain")[1]), RunConfig).data
    assert data.global_batch % (data.micro_batch * gpus * job["completions"]) == 0


@pytest.mark.parametrize("name", ["pretrain", "evaluate"])
def test_a_preempted_pod_continues_and_a_wrong_input_fails_at_once(name: str) -> None:
    (rules,) = (policy["rules"] for policy in find_all(resource(name), "podFailurePolicy"))
    exits = [(rule["action"], rule["onExitCodes"]) for rule in rules if "onExitCodes" in rule]
    actions = {code: action for action, codes in exits for code in codes["values"]}
    assert actions == {2: "FailJob", CONTINUE: "Ignore"}
    (pod,) = pods(name)
    assert {codes["containerName"] for _, codes in exits} == {pod["containers"][0]["name"]}
    assert pod["restartPolicy"] == "Never", "a pod failure policy needs it"


@pytest.mark.parametrize("name", IMAGES)
def test_its_containers_have_no_rights_and_write_only_where_they_may(name: str) -> None:
    version = project()["project"]["version"]
    assert len(pods(name)) == {"prepare": 3}.get(name, 1)
    for pod in pods(name):
        assert pod["securityContext"]["runAsNonRoot"] is True
        volumes = {volume["name"] for volume in pod["volumes"]}
        for container in pod["containers"]:
            assert container["image"] == f"{IMAGES[name]}:{version}"
            rights = container["securityContext"]
            assert rights["readOnlyRootFilesystem"] is True
            assert rights["allowPrivilegeEscalation"] is False
            assert rights["capabilities"] == {"drop": ["ALL"]}
            mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
            assert mounts.keys() <= WRITABLE
            assert mounts.keys() == WRITABLE or container["name"] == "ray-job-submitter"
            assert set(mounts.values()) <= volumes
            assert "memory" in container["resources"]["limits"]


def test_the_shared_volume_is_the_one_that_is_claimed() -> None:
    claim = resource("volume")
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    used = {each["claimName"] for name in IMAGES for each in find_all(resource(name), "persistentVolumeClaim")}
    assert used == {claim["metadata"]["name"]}


def test_the_version_of_ray_is_that_of_the_image() -> None:
    pinned = re.search(r"^ray==(.+)$", (REPOSITORY / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)
    assert pinned
    assert resource("prepare")["spec"]["rayClusterSpec"]["rayVersion"] == pinned[1]


def model(name: str) -> Any:
    """A class of the schemas; skips without the package."""
    pytest.importorskip(API, reason=f"needs {API}, of the extra dev")
    module = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
    return getattr(importlib.import_module(f"{API}.models.{module}"), name)


def unknown_keys(given: Any, kept: Any, path: str = "") -> list[str]:
    """The places that a model has dropped, which a server with strict validation refuses."""
    if isinstance(given, dict):
        return [
            each
            for key, value in given.items()
            for each in (unknown_keys(value, kept[key], f"{path}.{key}") if key in kept else [f"{path}.{key}"])
        ]
    if isinstance(given, list):
        return [each for a, b in zip(given, kept, strict=True) for each in unknown_keys(a, b, f"{path}[]")]
    return []


def check(name: str, value: Any) -> list[str]:
    """Validate ``value`` as a class of the schemas; return its unknown keys."""
    return unknown_keys(value, model(name).from_dict(value).to_dict())


def test_the_schemas_accept_every_file() -> None:
    pod_class = "IoK8sApiCoreV1PodSpec"
    assert check("JobsetV1alpha2JobSet", resource("pretrain")) == []
    assert check("IoK8sApiBatchV1JobSpec", resource("evaluate")["spec"]) == []
    assert check("IoK8sApiCoreV1PersistentVolumeClaimSpec", resource("volume")["spec"]) == []
    assert [each for name in IMAGES for pod in pods(name) for each in check(pod_class, pod)] == []


def test_the_schemas_refuse_what_is_wrong() -> None:
    from pydantic import ValidationError

    pod = pods("evaluate")[0]
    assert check("IoK8sApiCoreV1PodSpec", pod | {"restartpolicy": "Never"}) == [".restartpolicy"]
    with pytest.raises(ValidationError):
        check("IoK8sApiCoreV1PodSpec", pod | {"terminationGracePeriodSeconds": "long"})


def strict(schema: Any) -> Any:
    """The schema of a custom resource as a JSON schema that refuses unknown keys, as a server does."""
    if isinstance(schema, list):
        return [strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    closed = "properties" in schema and schema.get("type") == "object"
    if closed and not schema.get("x-kubernetes-preserve-unknown-fields"):
        schema = {"additionalProperties": False} | schema
    return {key: strict(value) for key, value in schema.items()}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_definitions_of_a_cluster_accept_it(path: Path) -> None:
    folder = os.environ.get("SESAME_CRDS")
    if not folder:
        pytest.skip("SESAME_CRDS names no folder with the CustomResourceDefinitions of KubeRay and JobSet")
    from jsonschema import Draft202012Validator

    given = yaml.safe_load(path.read_text(encoding="utf-8"))
    group, _, version = given["apiVersion"].partition("/")
    for file in Path(folder).glob("*.yaml"):
        definition = yaml.safe_load(file.read_text(encoding="utf-8"))["spec"]
        if (definition["group"], definition["names"]["kind"]) == (group, given["kind"]):
            (schema,) = (each["schema"] for each in definition["versions"] if each["name"] == version)
            whole = strict(schema["openAPIV3Schema"]["properties"]["spec"])
            errors = Draft202012Validator(whole).iter_errors(given["spec"])
            assert [f"{'.'.join(map(str, error.path))}: {error.message}" for error in errors] == []
            return
    assert "." not in group, f"{folder} has no definition of {given['kind']}"
