"""The layer that composes: one module a stage, each a loop over tomograms that skips what is done and resumes what is not."""
