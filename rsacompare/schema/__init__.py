"""What every array looks like: labels, constructors, results, files."""
