"""The strategies: ways to find particles. A folder each, and what they share."""
