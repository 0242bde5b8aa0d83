"""The dataset folder: columns, shards, manifest, and where its documents are from."""
