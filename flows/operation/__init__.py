"""Operations: what is recorded of one while it runs, and the steps that it is made of."""
