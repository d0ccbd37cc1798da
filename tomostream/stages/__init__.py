"""The stages: each is a loop over tomograms that skips finished work and resumes unfinished work."""
