"""What a person looks at: examples, the card, the summary."""
