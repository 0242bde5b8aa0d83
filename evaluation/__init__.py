"""Evaluation of a checkpoint: fine-tuning on tasks, scores and a report.

Reading order: tasks, config, reading, encoding, heads, finetune, results, evaluate, summary, report.
"""
