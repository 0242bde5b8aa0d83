"""A checkpoint -> a score. Read in this order: tasks, reading, encoding, heads, finetune, evaluate, report."""
