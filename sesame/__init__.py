"""The parent package of Sesame's packages.

Names such as ``configs`` and ``launch`` are common, so they are imported as ``sesame.configs`` and ``sesame.launch``.
Their folders stay in the root of the repository. The symbolic links beside this file give them their import names
without an import hook, so that a checkout, an editable installation, a wheel and type checkers all find them.
"""
