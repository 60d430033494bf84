"""Measuring what the models draw, by judges that nobody of this project trained."""
