"""Layers for one process; ``sesame.pretrain.parallel`` replaces those that are split over processes."""
