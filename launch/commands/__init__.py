"""The subcommands of ``sesame``: their options, and the function that each one calls."""
