"""What others wrote, in the place of one of ours: for tests, or as a child process of a benchmark."""
