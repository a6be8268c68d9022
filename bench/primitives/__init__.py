"""What methods are made of. A method file imports these and `fedfore.api`, nothing else of the suite."""
