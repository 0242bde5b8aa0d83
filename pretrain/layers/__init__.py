"""Layers for one process; ``pretrain.parallel`` replaces those that are split over processes."""
