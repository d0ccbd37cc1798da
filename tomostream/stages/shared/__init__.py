"""What several stages share: batches of tomograms, clicks, fingerprints, regions."""
