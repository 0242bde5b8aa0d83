"""A speedrun: which recipe gets the best scores from ten million words in so many minutes (README.md has the rules)."""
