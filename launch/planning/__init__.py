"""``sesame plan``: what a run needs, printed before it is started."""
