"""What an evaluation computed, on disk: results by key, files of predictions, and the check of a submission."""
