"""What methods are made of. A method file imports these and `bench.api`, nothing else of the suite."""
