"""Mathematics for one process; placement is decided in ``pretrain.parallel`` and never seen here."""
