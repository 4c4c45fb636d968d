"""Scanner files, published RDMs and phantoms to responses."""
