"""One run of the program: options, computation, output files, report."""
