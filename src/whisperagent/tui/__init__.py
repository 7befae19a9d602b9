"""The screens: what happens on this PC, the calls to review, and the review of one call."""
