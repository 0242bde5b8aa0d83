"""What a record says about data, packages and code."""

import json
import subprocess
from pathlib import Path

from sesame.configs.storage import digest_of

PACKAGES = ("sesame", "torch", "transformers", "numpy")
"""Those that compute in the trainers of all recipes."""
FOLDER = Path(__file__).parent
RESULTS = tuple(f":(exclude){name}" for name in ("records.jsonl", "trials.jsonl", "README.md", "speedrun.png"))
"""Files of this folder that runs write, and that no run depends on."""


def dataset_digest(folder: Path) -> str:
    """Return one digest of a dataset's rows and tokenizer, wherever it is."""
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    shards = {name: [shard["sha256"] for shard in split["shards"]] for name, split in manifest["splits"].items()}
    return digest_of(json.dumps([shards, manifest["tokenizer"]["sha256"]], sort_keys=True).encode())


def words_per_token(folder: Path, words: int) -> float:
    """Return how many words of a text with ``words`` stand for a token of its dataset."""
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    copies = manifest["recipe"]["segment"]["dupe_factor"]
    tokens = sum(split["tokens"] for split in manifest["splits"].values())
    return copies * words / tokens


def code_version() -> str:
    """Return the commit of this repository; "unknown" outside of git."""
    try:
        commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=FOLDER, capture_output=True, text=True, check=True)
        changed = subprocess.run(
            ["git", "status", "--porcelain", "--", ":/", *RESULTS],
            cwd=FOLDER,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return commit.stdout.strip()[:12] + ("+changes" if changed.stdout.strip() else "")
