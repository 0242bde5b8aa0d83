"""Fine-tuning of one model on one task with one seed: ``encoding``, ``heads`` and ``kinds`` are its parts."""
