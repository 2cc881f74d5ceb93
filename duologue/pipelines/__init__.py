"""The runs that make artefacts at any size, on Beam: partitions, commits, resume, rejects."""
