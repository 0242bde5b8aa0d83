"""Task files -> texts and labels: ``rows`` reads lines, ``tables`` makes examples, ``checks`` compares files."""
