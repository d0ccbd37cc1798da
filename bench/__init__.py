"""Benchmarks: one script a question; see README.md."""
