"""What is shown of a run from the files in its folder: a page for a browser and a live view for a terminal.

Nothing here imports torch, and nothing writes into the folder of a run that is read, except the page.
"""
