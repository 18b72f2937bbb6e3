"""What the tests prove: the lines and branches that they execute, and the mutants of the code that they kill."""
