"""A model folder that is damaged or means something else than it says is refused in a sentence, and leaves nothing."""

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
from pretrain.checkpoints import save as saving
from pretrain.checkpoints.load import load_backbone
from pretrain.huggingface import COUNTERPARTS
from pretrain.huggingface.config_keys import INERT, UNWRITTEN
from pretrain.huggingface.from_hf import Imported, import_model
from pretrain.huggingface.model_folder import INDEX, WHOLE
from pretrain.huggingface.to_hf import export

transformers = pytest.importorskip("transformers", reason="the exchange extra is not installed")
random_models = pytest.importorskip(
    "tests.pretrain.huggingface.random_models", reason="the exchange extra is not installed"
)

SEEDS = {"Bert": 14, "Roberta": 1, "ModernBert": 2, "Albert": 3, "GPT2": 4, "T5": 5, "SwitchTransformers": 6}
QUERY, NORM = "bert.encoder.layer.0.attention.self.query.weight", "bert.embeddings.LayerNorm"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A saved model of each class, not to be changed."""
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
    """A BERT, to be changed."""
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
    tensors = load_file(model / WHOLE)
    change(tensors)
    save_file(tensors, model / WHOLE)
    return model


@pytest.mark.parametrize("kind", SEEDS)
def test_keys_that_are_in_no_table_are_refused(kind: str, saved: Callable[[str], Path], tmp_path: Path) -> None:
    model = Path(shutil.copytree(saved(kind), tmp_path / "model"))
    refused(
        configured(model, attention_sinks=4),
        f"config.json: the key 'attention_sinks' is not known for {kind[:2].lower()}",
    )


@pytest.mark.parametrize("kind", SEEDS)
def test_keys_that_transformers_writes_are_known(kind: str) -> None:
    """Its next version may write more: then each has to be looked at."""
    config = getattr(random_models.transformers, f"{kind}Config")()
    counterparts = [
        counterpart
        for counterparts in COUNTERPARTS.values()
        for counterpart in counterparts
        if counterpart.model_type == config.model_type
    ]
    for counterpart in counterparts:
        known = {
            *counterpart.settings_keys,
            *counterpart.theirs,
            *counterpart.fixed,
            *counterpart.further,
            *counterpart.inert,
            *INERT,
        }
        known |= {*UNWRITTEN, *counterpart.unwritten, *counterpart.aliases, "model_type", "vocab_size"}
        assert config.to_dict().keys() - known == set()


def test_keys_that_change_nothing_are_not_read(model: Path) -> None:
    configured(model, use_cache=False, id2label={"0": "A"}, architectures=["X"], _name_or_path="x", max_length=3)
    assert accepted(model).family == "bert"


@pytest.mark.parametrize(
    ("kind", "changes", "sentence"),
    [
        ("Bert", {"num_hidden_layers": 10**6}, "'num_hidden_layers' is 1000000, but the model has .* tensors"),
        ("Bert", {"num_hidden_layers": True}, "'num_hidden_layers' is True; input should be a valid integer"),
        ("Bert", {"hidden_size": 10**40}, r"'hidden_size' is 10+\.*, more than"),
        ("Bert", {"layer_norm_eps": "1e-5"}, "'layer_norm_eps' is '1e-5'; input should be a valid number"),
        ("Bert", {"layer_norm_eps": 0}, "'layer_norm_eps' is 0; input should be greater than 0"),
        ("Bert", {"hidden_dropout_prob": 1.5}, "'hidden_dropout_prob' is 1.5"),
        ("Bert", {"hidden_act": ["gelu"]}, r"'hidden_act' is \['gelu'\]; known are"),
        ("Bert", {"vocab_size": 2.0}, "'vocab_size' is 2.0; it has to be a whole number"),
        ("Bert", {"model_type": ["bert"]}, r"'model_type' is \['bert'\]"),
        ("Bert", {"pruned_heads": {"0": [1]}}, "'pruned_heads' is"),
        ("Bert", {"is_decoder": 0}, "'is_decoder' is 0; only False"),
        ("Roberta", {"pad_token_id": None}, "'pad_token_id' is None; it has to be a whole number"),
        ("Roberta", {"pad_token_id": 500}, "'max_position_embeddings' is .* for no token"),
        ("ModernBert", {"local_attention": 1}, "'local_attention' is 1; it has to be a whole number from 2"),
        ("ModernBert", {"rope_parameters": {"x": {}}}, "'rope_parameters' are .* only those of"),
        ("ModernBert", {"rope_parameters": [1]}, "'rope_parameters' is .* a table or null"),
        ("GPT2", {"n_inner": 0}, "'n_inner' is 0; it has to be a whole number from 1"),
        ("GPT2", {"hidden_size": 3}, "'hidden_size' is 3 and 'n_embd', which is the same"),
        ("T5", {"dense_act_fn": "tanh"}, "'dense_act_fn' is 'tanh', but 'feed_forward_proj'"),
        ("T5", {"relative_attention_max_distance": 9, "relative_attention_num_buckets": 40}, "first 20 buckets"),
        ("T5", {"decoder_start_token_id": 3}, "'decoder_start_token_id' is 3"),
        ("T5", {"is_encoder_decoder": False}, "'is_encoder_decoder' is False"),
        ("SwitchTransformers", {"encoder_sparse_step": 7}, "'encoder_sparse_step' is 7"),
        ("SwitchTransformers", {"expert_capacity": 0}, "'expert_capacity' is 0"),
        ("SwitchTransformers", {"num_experts": 10**6}, "'num_experts' is 1000000, but the model has"),
    ],
)
def test_values_that_no_model_has(
    kind: str, changes: dict[str, Any], sentence: str, saved: Callable[[str], Path], tmp_path: Path
) -> None:
    model = Path(shutil.copytree(saved(kind), tmp_path / "model"))
    refused(configured(model, **changes), f"config.json: .*{sentence}")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('{"model_type": "gpt2", "model_type": "bert"}', "the key 'model_type' is there twice"),
        ('{"model_type": "bert", "x": ' + "[" * 200_000 + "]" * 200_000 + "}", "nested too deeply"),
        ('{"model_type": "bert", "layer_norm_eps": NaN}', "NaN is no number"),
        ('{"model_type": "bert", "hidden_size": ' + "9" * 5000 + "}", "cannot be read as JSON"),
        ('{"model_type": "bert", "layer_norm_eps": 1e999}', "has no 'num_hidden_layers'|infinity|inf"),
        ("[]", "is no JSON object"),
        ("\ufeff{}", "cannot be read as JSON"),
        ("{", "cannot be read as JSON"),
    ],
    ids=["twice", "deep", "nan", "long", "infinite", "list", "mark", "cut"],
)
def test_json_that_is_not_as_it_should_be(text: str, sentence: str, model: Path) -> None:
    (model / "config.json").write_text(text, encoding="utf-8")
    refused(model, f"config.json: .*({sentence})")


@pytest.mark.parametrize(
    "format", [torch.int8, torch.uint8, torch.bool, torch.int64, torch.complex64, torch.float8_e4m3fn], ids=str
)
def test_weights_that_are_no_floating_point_numbers(format: torch.dtype, model: Path) -> None:
    changed(model, lambda tensors: tensors.update({QUERY: tensors[QUERY].to(format)}))
    refused(model, f"tensor {QUERY} is .*; weights of F32, F16, BF16, F64 are read")


@pytest.mark.parametrize("format", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_other_floating_point_numbers_become_fp32(format: torch.dtype, model: Path) -> None:
    changed(model, lambda tensors: tensors.update({QUERY: tensors[QUERY].to(format)}))
    expected = load_file(model / WHOLE)[QUERY].float()
    notes = accepted(model).notes
    assert [f"1 tensors of F64 are rounded to fp32, {QUERY} among them"] == list(notes) or format != torch.float64
    stored = load_file(model.parent / "checkpoint" / saving.WEIGHTS)
    assert torch.equal(stored["backbone.blocks.0.attention.query.weight"], expected)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300])
def test_weights_that_are_not_finite(value: float, model: Path) -> None:
    def put(tensors: dict[str, torch.Tensor]) -> None:
        tensors[QUERY] = tensors[QUERY].double()
        tensors[QUERY][0, 0] = value

    refused(changed(model, put), f"tensor {QUERY} has values that are infinite or no numbers")


def test_words_of_a_file_do_not_break_the_sentence(model: Path) -> None:
    changed(model, lambda tensors: tensors.update({"a\nb": torch.ones(1)}))
    refused(model, r"has a tensor with the name 'a\\nb'")
    content = (model / WHOLE).read_bytes()
    (model / WHOLE).write_bytes(content.replace(b'"F32"', b'"\\nF"', 1))
    refused(model, "cannot be read as safetensors")


def test_two_names_of_one_norm(model: Path) -> None:
    changed(model, lambda tensors: tensors.update({f"{NORM}.gamma": tensors[f"{NORM}.weight"].clone()}))
    refused(model, rf"tensors {NORM}\.\w+ and {NORM}\.\w+: are two names of one tensor")
    changed(model, lambda tensors: tensors.pop(f"{NORM}.weight"))
    assert accepted(model).family == "bert"


def sharded(model: Path, index: Callable[[dict[str, str]], Any] = lambda files: None) -> Path:
    """The model in two files, with an index that is then changed."""
    tensors = load_file(model / WHOLE)
    names = sorted(tensors)
    files = {name: f"part-{number % 2}.safetensors" for number, name in enumerate(names)}
    for file in set(files.values()):
        save_file({name: tensors[name] for name in names if files[name] == file}, model / file)
    (model / WHOLE).unlink()
    index(files)
    (model / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": files}))
    return model


def test_shards_are_read(model: Path) -> None:
    assert accepted(sharded(model)).family == "bert"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            lambda files: files.update(dict.fromkeys(files, "part-0.safetensors")),
            "part-0.safetensors: lacks the tensor",
        ),
        (lambda files: files.update({"x": "part-0.safetensors"}), "part-0.safetensors: lacks the tensor x, which"),
        (lambda files: files.pop(QUERY), f"has the tensor {QUERY}, which .* does not name"),
        (lambda files: files.update({QUERY: "../part-0.safetensors"}), "which is not one beside it"),
        (lambda files: files.update({QUERY: "/dev/zero"}), "which is not one beside it"),
        (lambda files: files.update({QUERY: ".."}), "which is not one beside it"),
        (lambda files: files.update({QUERY: "sub/part-0.safetensors"}), "which is not one beside it"),
        (
            lambda files: files.update({"x": "part-7.safetensors"}),
            "part-7.safetensors: is missing or no regular file",
        ),
        (lambda files: files.update({QUERY: 3}), "'weight_map' is no table"),
    ],
    ids=["another", "unknown", "unnamed", "above", "device", "parent", "below", "missing", "number"],
)
def test_an_index_that_does_not_fit(change: Callable[[dict[str, str]], Any], sentence: str, model: Path) -> None:
    refused(sharded(model, change), sentence)


@pytest.mark.parametrize("name", ["config.json", WHOLE, "vocab.txt"])
@pytest.mark.parametrize("kind", ["fifo", "folder", "loop", "zero"])
def test_files_that_are_none(name: str, kind: str, model: Path) -> None:
    (model / name).unlink()
    makers: dict[str, Callable[[Path], Any]] = {
        "fifo": os.mkfifo,
        "folder": Path.mkdir,
        "loop": lambda path: path.symlink_to(path.name),
        "zero": lambda path: path.symlink_to("/dev/zero"),
    }
    makers[kind](model / name)
    refused(model, "regular file|cannot be read|has no|is missing")


def test_special_tokens_that_the_tokenizer_numbers_otherwise_are_said(
    saved: Callable[[str], Path], tmp_path: Path
) -> None:
    model = Path(shutil.copytree(saved("Roberta"), tmp_path / "model"))
    padding = json.loads((model / "config.json").read_text())["pad_token_id"]
    assert padding != 0
    assert (
        f"the tokenizer's pad token 0 is used, not 'pad_token_id' = {padding} of config.json" in accepted(model).notes
    )


def test_dropout_that_differs_is_said(saved: Callable[[str], Path], tmp_path: Path) -> None:
    model = configured(Path(shutil.copytree(saved("GPT2"), tmp_path / "model")), embd_pdrop=0.25, resid_pdrop=0.5)
    assert (
        "dropout is 0.5 everywhere in further training; there it is 0.25 behind the embedding" in accepted(model).notes
    )


def test_adapters_are_not_left_out(model: Path) -> None:
    (model / "adapter_config.json").write_text("{}")
    refused(model, "adapter_config.json: the folder has an adapter")


@pytest.mark.parametrize("kind", ["Bert", "Roberta"])
def test_a_pooler_that_no_class_has_beside_its_heads(kind: str, saved: Callable[[str], Path], tmp_path: Path) -> None:
    """roberta-base is published so: it is kept here, for fine-tuning, and left out again when it is exported."""
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
    assert load_backbone(made.folder).backbone.pooler["bias"].eq(1).all()
    written = export(made.folder, tmp_path / "again")
    assert written.architecture == f"{kind}ForMaskedLM"
    assert f"the pooler is left out: {kind}ForMaskedLM has none" in written.notes


def test_links_to_files_are_read(model: Path) -> None:
    """The Hugging Face cache is made of them."""
    (model.parent / "blob").write_bytes((model / WHOLE).read_bytes())
    (model / WHOLE).unlink()
    (model / WHOLE).symlink_to("../blob")
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
        ("tokenizer.json", {"vocab": {"[PAD]": 1}}, "the token '.PAD.' with the id 1, which the vocabulary"),
        ("tokenizer.json", {"added_tokens": [token(5, "a", False)]}, "adds 'a' to its vocabulary"),
        ("tokenizer_config.json", {"added_tokens_decoder": {"99": {"content": "new"}}}, "adds 'new' to its vocabulary"),
        ("added_tokens.json", {"new": 99}, "adds 'new' to its vocabulary"),
    ],
    ids=["behind", "far behind", "renamed", "vocabulary", "in words", "settings", "old"],
)
def test_tokens_that_the_vocabulary_does_not_have(
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
def test_special_tokens_without_an_id(name: str, token: Any, model: Path) -> None:
    (model / name).write_text(json.dumps({"additional_special_tokens": ["a", token]}))
    refused(model, f"{name} adds the token 'new', which the vocabulary does not have")
    (model / name).write_text(json.dumps({"additional_special_tokens": ["a"]}))
    assert accepted(model).family == "bert"


def test_what_lies_beside_the_output_is_left_alone(model: Path) -> None:
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
        ("a\0b", "is no path"),
    ],
    ids=["file", "below", "loop", "below a loop", "long", "long below", "null"],
)
def test_outputs_that_cannot_be_written(command: Any, output: str, sentence: str, model: Path) -> None:
    source = accepted(model).folder if command is export else model
    (model.parent / "file").write_text("x")
    (model.parent / "loop").symlink_to("loop")
    before = sorted(model.parent.rglob("*"))
    with pytest.raises(ConversionError, match=sentence):
        command(source, model.parent / output)
    assert sorted(model.parent.rglob("*")) == before


@pytest.mark.parametrize("command", [import_model, export])
@pytest.mark.parametrize("source", ["file", "loop", "x" * 300, "nothing", "a\0b"])
def test_models_that_cannot_be_read(command: Any, source: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(SesameError, match=r"is no folder|cannot be read|is no path|holds no checkpoint"):
        command(tmp_path / source, tmp_path / "made")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "loop"]


@pytest.mark.parametrize("command", [import_model, export])
def test_a_disk_that_is_full(command: Any, model: Path) -> None:
    source = accepted(model).folder if command is export else model
    before, limits = sorted(model.parent.rglob("*")), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300, limits[1]))
    try:
        with pytest.raises(ConversionError, match="made: cannot be written"):
            command(source, model.parent / "new" / "made")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert sorted(model.parent.rglob("*")) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_folders_without_permission(model: Path) -> None:
    (model.parent / "closed").mkdir(0o500)
    with pytest.raises(ConversionError, match="cannot be written"):
        import_model(model, model.parent / "closed" / "checkpoint")
    (model / "config.json").chmod(0)
    refused(model, r"config\.json: cannot be read")


def test_an_empty_folder_and_a_link_to_one_are_filled(model: Path) -> None:
    (model.parent / "empty").mkdir()
    (model.parent / "link").symlink_to("empty")
    import_model(model, model.parent / "link")
    assert (model.parent / "empty" / "checkpoint.json").is_file()
