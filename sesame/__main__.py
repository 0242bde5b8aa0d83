"""``python -m sesame`` is the command ``sesame``."""

from sesame.launch.__main__ import main

if __name__ == "__main__":
    main()
