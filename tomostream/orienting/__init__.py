"""The engine of `orient`: subtomograms are aligned to their own average, and two halves say whether there is an orientation to find."""
