"""The command line: what a person types. Each command calls the pipeline's own stages and tasks, and holds no formula."""
