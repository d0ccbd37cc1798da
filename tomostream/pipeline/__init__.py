"""Run a project: execution, dry run, status, journal, report."""
