"""A method, a data set and a model for FedFore."""
