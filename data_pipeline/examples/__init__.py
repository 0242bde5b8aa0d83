"""Documents -> examples: sentences, segments, masks and spans."""
