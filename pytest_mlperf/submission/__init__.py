"""A session's runs as a submission: written once, at its end, by one process."""
