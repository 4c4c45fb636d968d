"""(activation, response) to evidence."""
