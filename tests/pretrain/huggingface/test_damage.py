"""Damaged or contradictory model folders: the import is refused with one sentence, and no output remains."""

import json
import os
import resource
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from configs.errors import ConversionError, SesameError
from pretrain.checkpoints import checkpoint
from pretrain.checkpoints import save as saving
from pretrain.huggingface import COUNTERPARTS
from pretrain.huggingface.config_keys import IGNORED_KEYS, REQUIRED_VALUES
from pretrain.huggingface.from_hf import Imported, import_model
from pretrain.huggingface.model_folder import INDEX, WEIGHTS
from pretrain.huggingface.to_hf import export

transformers = pytest.importorskip("transformers", reason="the exchange extra is not installed")
random_models = pytest.importorskip(
    "tests.pretrain.huggingface.random_models", reason="the exchange extra is not installed"
)

SEEDS = {"Bert": 14, "Roberta": 1, "ModernBert": 2, "Albert": 3, "GPT2": 4, "T5": 5, "SwitchTransformers": 6}
QUERY, NORM = "bert.encoder.layer.0.attention.self.query.weight", "bert.embeddings.LayerNorm"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a saved model of a model type, which tests must not change."""
    folders: dict[str, Path] = {}

    def get(kind: str) -> Path:
        if kind not in folders:
            folder = tmp_path_factory.mktemp(kind) / "model"
            case = random_models.drawn(SEEDS[kind], folder)
            assert case.architecture.startswith(kind) and not case.refused
            folders[kind] = folder
        return folders[kind]

    return get


@pytest.fixture
def model(saved: Callable[[str], Path], tmp_path: Path) -> Path:
    """A copy of a BERT, which tests may change."""
    return Path(shutil.copytree(saved("Bert"), tmp_path / "model"))


def refused(model: Path, sentence: str) -> None:
    before = sorted(model.parent.iterdir())
    with pytest.raises(SesameError, match=sentence) as caught:
        import_model(model, model.parent / "made" / "checkpoint")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 700
    assert sorted(model.parent.iterdir()) == before


def accepted(model: Path) -> Imported:
    return import_model(model, model.parent / "checkpoint")


def configured(model: Path, **changes: Any) -> Path:
    file = model / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
    return model


def changed(model: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> Path:
    tensors = load_file(model / WEIGHTS)
    change(tensors)
    save_file(tensors, model / WEIGHTS)
    return model


@pytest.mark.parametrize("kind", SEEDS)
def test_unknown_keys_are_refused(kind: str, saved: Callable[[str], Path], tmp_path: Path) -> None:
    model = Path(shutil.copytree(saved(kind), tmp_path / "model"))
    refused(
        configured(model, attention_sinks=4),
        f"config.json: the key 'attention_sinks' is unknown for {kind[:2].lower()}",
    )


@pytest.mark.parametrize("kind", SEEDS)
def test_all_keys_that_transformers_writes_are_known(kind: str) -> None:
    """A new version of transformers may write more keys; review each of them."""
    config = getattr(random_models.transformers, f"{kind}Config")()
    counterparts = [
        counterpart
        for counterparts in COUNTERPARTS.values()
        for counterpart in counterparts
        if counterpart.model_type == config.model_type
    ]
    for counterpart in counterparts:
        known = {
            *counterpart.mapped_keys,
            *counterpart.fixed_values,
            *counterpart.constant_keys,
            *counterpart.extra_keys,
            *counterpart.ignored_keys,
            *IGNORED_KEYS,
        }
        known |= {*REQUIRED_VALUES, *counterpart.required_values, *counterpart.aliases, "model_type", "vocab_size"}
        assert config.to_dict().keys() - known == set()


def test_ignored_keys_may_have_any_value(model: Path) -> None:
    configured(model, use_cache=False, id2label={"0": "A"}, architectures=["X"], _name_or_path="x", max_length=3)
    assert accepted(model).family == "bert"


@pytest.mark.parametrize(
    ("kind", "changes", "sentence"),
    [
        ("Bert", {"num_hidden_layers": 10**6}, "'num_hidden_layers' is 1000000, but the model has only .* tensors"),
        ("Bert", {"num_hidden_layers": True}, "'num_hidden_layers' is True; input should be a valid integer"),
        ("Bert", {"hidden_size": 10**40}, r"'hidden_size' is 10+\.*, more than"),
        ("Bert", {"layer_norm_eps": "1e-5"}, "'layer_norm_eps' is '1e-5'; input should be a valid number"),
        ("Bert", {"layer_norm_eps": 0}, "'layer_norm_eps' is 0; input should be greater than 0"),
        ("Bert", {"hidden_dropout_prob": 1.5}, "'hidden_dropout_prob' is 1.5"),
        ("Bert", {"hidden_act": ["gelu"]}, r"'hidden_act' is \['gelu'\]; supported: "),
        ("Bert", {"vocab_size": 2.0}, "'vocab_size' is 2.0; it must be an integer"),
        ("Bert", {"model_type": ["bert"]}, r"'model_type' is \['bert'\]"),
        ("Bert", {"pruned_heads": {"0": [1]}}, "'pruned_heads' is"),
        ("Bert", {"is_decoder": 0}, "'is_decoder' is 0; only False"),
        ("Roberta", {"pad_token_id": None}, "'pad_token_id' is None; it must be an integer"),
        ("Roberta", {"pad_token_id": 500}, "'max_position_embeddings' is .* but must be larger than"),
        ("ModernBert", {"local_attention": 1}, "'local_attention' is 1; it must be an integer from 2"),
        ("ModernBert", {"rope_parameters": {"x": {}}}, "'rope_parameters' is .* only the keys"),
        ("ModernBert", {"rope_parameters": [1]}, "'rope_parameters' is .* an object or null"),
        ("GPT2", {"n_inner": 0}, "'n_inner' is 0; it must be an integer from 1"),
        ("GPT2", {"hidden_size": 3}, "'hidden_size' is 3, but 'n_embd', another name of it,"),
        ("T5", {"dense_act_fn": "tanh"}, "'dense_act_fn' is 'tanh', but 'feed_forward_proj'"),
        (
            "T5",
            {"relative_attention_max_distance": 9, "relative_attention_num_buckets": 40},
            "larger than 20, the number",
        ),
        ("T5", {"decoder_start_token_id": 3}, "'decoder_start_token_id' is 3"),
        ("T5", {"is_encoder_decoder": False}, "'is_encoder_decoder' is False"),
        ("SwitchTransformers", {"encoder_sparse_step": 7}, "'encoder_sparse_step' is 7"),
        ("SwitchTransformers", {"expert_capacity": 0}, "'expert_capacity' is 0"),
        ("SwitchTransformers", {"num_experts": 10**6}, "'num_experts' is 1000000, but the model has only"),
    ],
)
def test_invalid_values_are_refused(
    kind: str, changes: dict[str, Any], sentence: str, saved: Callable[[str], Path], tmp_path: Path
) -> None:
    model = Path(shutil.copytree(saved(kind), tmp_path / "model"))
    refused(configured(model, **changes), f"config.json: .*{sentence}")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('{"model_type": "gpt2", "model_type": "bert"}', "duplicate key 'model_type'"),
        ('{"model_type": "bert", "x": ' + "[" * 200_000 + "]" * 200_000 + "}", "nested too deeply"),
        ('{"model_type": "bert", "layer_norm_eps": NaN}', "NaN is not a JSON number"),
        ('{"model_type": "bert", "hidden_size": ' + "9" * 5000 + "}", "is not valid JSON"),
        ('{"model_type": "bert", "layer_norm_eps": 1e999}', "has no 'num_hidden_layers'|infinity|inf"),
        ("[]", "is not a JSON object"),
        ("\ufeff{}", "is not valid JSON"),
        ("{", "is not valid JSON"),
    ],
    ids=["duplicate key", "deep", "nan", "long integer", "infinite", "array", "byte order mark", "truncated"],
)
def test_invalid_json_is_refused(text: str, sentence: str, model: Path) -> None:
    (model / "config.json").write_text(text, encoding="utf-8")
    refused(model, f"config.json: .*({sentence})")


@pytest.mark.parametrize(
    "dtype", [torch.int8, torch.uint8, torch.bool, torch.int64, torch.complex64, torch.float8_e4m3fn], ids=str
)
def test_weights_of_other_dtypes_are_refused(dtype: torch.dtype, model: Path) -> None:
    changed(model, lambda tensors: tensors.update({QUERY: tensors[QUERY].to(dtype)}))
    refused(model, f"tensor {QUERY} has dtype .*; save the model in one of F32, F16, BF16, F64")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_floating_point_weights_are_read_as_fp32(dtype: torch.dtype, model: Path) -> None:
    changed(model, lambda tensors: tensors.update({QUERY: tensors[QUERY].to(dtype)}))
    expected = load_file(model / WEIGHTS)[QUERY].float()
    notes = accepted(model).notes
    assert [f"tensors of dtype F64 rounded to fp32: 1, for example {QUERY}"] == list(notes) or dtype != torch.float64
    stored = load_file(model.parent / "checkpoint" / saving.WEIGHTS)
    assert torch.equal(stored["backbone.blocks.0.attention.query.weight"], expected)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300])
def test_weights_that_are_not_finite_are_refused(value: float, model: Path) -> None:
    def put(tensors: dict[str, torch.Tensor]) -> None:
        tensors[QUERY] = tensors[QUERY].double()
        tensors[QUERY][0, 0] = value

    refused(changed(model, put), f"tensor {QUERY} has infinite or NaN values")


def test_control_characters_of_a_file_are_escaped_in_messages(model: Path) -> None:
    changed(model, lambda tensors: tensors.update({"a\nb": torch.ones(1)}))
    refused(model, r"the tensor name 'a\\nb' contains control characters")
    content = (model / WEIGHTS).read_bytes()
    (model / WEIGHTS).write_bytes(content.replace(b'"F32"', b'"\\nF"', 1))
    refused(model, "is not a valid safetensors file")


def test_two_names_of_one_norm_parameter_are_refused(model: Path) -> None:
    changed(model, lambda tensors: tensors.update({f"{NORM}.gamma": tensors[f"{NORM}.weight"].clone()}))
    refused(model, rf"tensors {NORM}\.\w+ and {NORM}\.\w+: are two names of one tensor")
    changed(model, lambda tensors: tensors.pop(f"{NORM}.weight"))
    assert accepted(model).family == "bert"


def sharded(model: Path, change: Callable[[dict[str, str]], Any] = lambda files: None) -> Path:
    """Split the weights into two files and write an index, which ``change`` damages."""
    tensors = load_file(model / WEIGHTS)
    names = sorted(tensors)
    files = {name: f"part-{number % 2}.safetensors" for number, name in enumerate(names)}
    for file in set(files.values()):
        save_file({name: tensors[name] for name in names if files[name] == file}, model / file)
    (model / WEIGHTS).unlink()
    change(files)
    (model / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": files}))
    return model


def test_shards_are_read(model: Path) -> None:
    assert accepted(sharded(model)).family == "bert"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            lambda files: files.update(dict.fromkeys(files, "part-0.safetensors")),
            "part-0.safetensors: does not contain the tensor",
        ),
        (
            lambda files: files.update({"x": "part-0.safetensors"}),
            "part-0.safetensors: does not contain the tensor x, which",
        ),
        (lambda files: files.pop(QUERY), f"contains the tensor {QUERY}, which .* does not list"),
        (lambda files: files.update({QUERY: "../part-0.safetensors"}), "is not a file name in the same folder"),
        (lambda files: files.update({QUERY: "/dev/zero"}), "is not a file name in the same folder"),
        (lambda files: files.update({QUERY: ".."}), "is not a file name in the same folder"),
        (lambda files: files.update({QUERY: "sub/part-0.safetensors"}), "is not a file name in the same folder"),
        (
            lambda files: files.update({"x": "part-7.safetensors"}),
            "part-7.safetensors: is missing or not a regular file",
        ),
        (lambda files: files.update({QUERY: 3}), "'weight_map' is not an object"),
    ],
    ids=["another", "unknown", "unnamed", "above", "device", "parent", "below", "missing", "number"],
)
def test_a_wrong_index_is_refused(change: Callable[[dict[str, str]], Any], sentence: str, model: Path) -> None:
    refused(sharded(model, change), sentence)


@pytest.mark.parametrize("name", ["config.json", WEIGHTS, "vocab.txt"])
@pytest.mark.parametrize("kind", ["fifo", "folder", "loop", "zero"])
def test_special_files_are_refused(name: str, kind: str, model: Path) -> None:
    (model / name).unlink()
    makers: dict[str, Callable[[Path], Any]] = {
        "fifo": os.mkfifo,
        "folder": Path.mkdir,
        "loop": lambda path: path.symlink_to(path.name),
        "zero": lambda path: path.symlink_to("/dev/zero"),
    }
    makers[kind](model / name)
    refused(model, "regular file|cannot be read|has no|does not exist")


def test_differing_special_ids_are_noted(saved: Callable[[str], Path], tmp_path: Path) -> None:
    model = Path(shutil.copytree(saved("Roberta"), tmp_path / "model"))
    padding = json.loads((model / "config.json").read_text())["pad_token_id"]
    assert padding != 0
    assert (
        f"the tokenizer's pad token 0 is used, not 'pad_token_id' = {padding} of config.json" in accepted(model).notes
    )


def test_differing_dropout_is_noted(saved: Callable[[str], Path], tmp_path: Path) -> None:
    model = configured(Path(shutil.copytree(saved("GPT2"), tmp_path / "model")), embd_pdrop=0.25, resid_pdrop=0.5)
    assert (
        "dropout is 0.5 everywhere when the checkpoint is trained; config.json has 0.25 after the embedding"
        in accepted(model).notes
    )


def test_adapters_are_refused(model: Path) -> None:
    (model / "adapter_config.json").write_text("{}")
    refused(model, "adapter_config.json: the folder contains a PEFT adapter")


@pytest.mark.parametrize("kind", ["Bert", "Roberta"])
def test_a_pooler_beside_a_masked_lm_head(kind: str, saved: Callable[[str], Path], tmp_path: Path) -> None:
    """As in roberta-base: the import keeps it for fine-tuning, the export omits it."""
    model, name = Path(shutil.copytree(saved(kind), tmp_path / "model")), kind.lower()

    def only_masked(tensors: dict[str, torch.Tensor]) -> None:
        width = tensors[f"{name}.embeddings.LayerNorm.weight"].shape[0]
        tensors.pop("cls.seq_relationship.weight", None), tensors.pop("cls.seq_relationship.bias", None)
        tensors |= {
            f"{name}.pooler.dense.weight": torch.ones(width, width),
            f"{name}.pooler.dense.bias": torch.ones(width),
        }

    made = accepted(changed(model, only_masked))
    assert list(made.objectives) == ["masked_lm"] and any("pooler is kept" in note for note in made.notes)
    assert checkpoint.load_backbone(made.folder).backbone.pooler["bias"].eq(1).all()
    written = export(made.folder, tmp_path / "again")
    assert written.architecture == f"{kind}ForMaskedLM"
    assert f"the pooler is not exported: {kind}ForMaskedLM has none" in written.notes


def test_symbolic_links_are_read(model: Path) -> None:
    """As in the Hugging Face cache."""
    (model.parent / "blob").write_bytes((model / WEIGHTS).read_bytes())
    (model / WEIGHTS).unlink()
    (model / WEIGHTS).symlink_to("../blob")
    assert accepted(model).family == "bert"


def token(number: int, content: str, special: bool) -> dict[str, Any]:
    return {"id": number, "content": content, "special": special, **dict.fromkeys(FLAGS, False)}


FLAGS = ("single_word", "lstrip", "rstrip", "normalized")


@pytest.mark.parametrize(
    ("name", "values", "sentence"),
    [
        ("tokenizer.json", {"added_tokens": [token(29, "new", False)]}, "adds 'new' to its vocabulary"),
        ("tokenizer.json", {"added_tokens": [token(99, "new", True)]}, "its ids are not 0 to"),
        ("tokenizer.json", {"added_tokens": [token(5, "b", True)]}, "its ids are not 0 to"),
        ("tokenizer.json", {"vocab": {"[PAD]": 1}}, "the token '.PAD.' the id 1, which contradicts the vocabulary"),
        ("tokenizer.json", {"added_tokens": [token(5, "a", False)]}, "adds 'a' to its vocabulary"),
        ("tokenizer_config.json", {"added_tokens_decoder": {"99": {"content": "new"}}}, "adds 'new' to its vocabulary"),
        ("added_tokens.json", {"new": 99}, "adds 'new' to its vocabulary"),
    ],
    ids=["behind", "far behind", "renamed", "vocabulary", "in words", "settings", "old"],
)
def test_tokens_outside_the_vocabulary_are_refused(
    name: str, values: dict[str, Any], sentence: str, model: Path
) -> None:
    if name == "tokenizer.json":
        whole = json.loads(transformers.BertTokenizerFast(vocab=str(model / "vocab.txt")).backend_tokenizer.to_str())
        whole["added_tokens"] += values.get("added_tokens", [])
        whole["model"]["vocab"] |= values.get("vocab", {})
        values = whole
    (model / name).write_text(json.dumps(values))
    refused(model, sentence)


@pytest.mark.parametrize("token", ["new", {"content": "new"}])
@pytest.mark.parametrize("name", ["tokenizer_config.json", "special_tokens_map.json"])
def test_new_special_tokens_without_an_id_are_refused(name: str, token: Any, model: Path) -> None:
    (model / name).write_text(json.dumps({"additional_special_tokens": ["a", token]}))
    refused(model, f"{name} lists the token 'new', which is not in the vocabulary")
    (model / name).write_text(json.dumps({"additional_special_tokens": ["a"]}))
    assert accepted(model).family == "bert"


def test_files_beside_the_output_are_not_changed(model: Path) -> None:
    for name in ("keep.partial", "model-again.partial"):
        (model.parent / name).mkdir()
        (model.parent / name / "mine").write_text("x")
    import_model(model, model.parent / "keep")
    export(model.parent / "keep", model.parent / "model-again")
    for name in ("keep.partial", "model-again.partial"):
        assert (model.parent / name / "mine").read_text() == "x"
    assert len(list(model.parent.iterdir())) == 5


@pytest.mark.parametrize("command", [import_model, export])
@pytest.mark.parametrize(
    ("output", "sentence"),
    [
        ("file", "exists and is not empty"),
        ("file/below", "cannot be written"),
        ("loop", "exists and is not empty"),
        ("loop/below", "cannot be written|exists and is not empty"),
        ("x" * 300, "cannot be written"),
        ("new/" + "x" * 300, "cannot be written"),
        ("a\0b", "is not a valid path"),
    ],
    ids=["file", "below", "loop", "below a loop", "long", "long below", "null"],
)
def test_invalid_output_paths_are_refused(command: Any, output: str, sentence: str, model: Path) -> None:
    source = accepted(model).folder if command is export else model
    (model.parent / "file").write_text("x")
    (model.parent / "loop").symlink_to("loop")
    before = sorted(model.parent.rglob("*"))
    with pytest.raises(ConversionError, match=sentence):
        command(source, model.parent / output)
    assert sorted(model.parent.rglob("*")) == before


@pytest.mark.parametrize("command", [import_model, export])
@pytest.mark.parametrize("source", ["file", "loop", "x" * 300, "nothing", "a\0b"])
def test_invalid_input_paths_are_refused(command: Any, source: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(SesameError, match=r"is not a folder|cannot be read|is not a valid path|contains no checkpoint"):
        command(tmp_path / source, tmp_path / "made")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "loop"]


@pytest.mark.parametrize("command", [import_model, export])
def test_a_full_disk_leaves_no_output(command: Any, model: Path) -> None:
    source = accepted(model).folder if command is export else model
    before, limits = sorted(model.parent.rglob("*")), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300, limits[1]))
    try:
        with pytest.raises(ConversionError, match="made: cannot be written"):
            command(source, model.parent / "new" / "made")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert sorted(model.parent.rglob("*")) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root has all permissions")
def test_folders_without_permission_are_refused(model: Path) -> None:
    (model.parent / "closed").mkdir(0o500)
    with pytest.raises(ConversionError, match="cannot be written"):
        import_model(model, model.parent / "closed" / "checkpoint")
    (model / "config.json").chmod(0)
    refused(model, r"config\.json: cannot be read")


def test_output_to_a_link_to_an_empty_folder(model: Path) -> None:
    (model.parent / "empty").mkdir()
    (model.parent / "link").symlink_to("empty")
    import_model(model, model.parent / "link")
    assert (model.parent / "empty" / "checkpoint.json").is_file()
