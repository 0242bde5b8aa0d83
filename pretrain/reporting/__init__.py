"""What a run writes about itself beside its losses: time and memory, its record, experiment trackers, a trace."""
