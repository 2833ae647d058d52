"""`python -m massmap_jax` is the program `massmap-jax`, for environments whose programs are not on the path."""

from massmap_jax.cli import main

if __name__ == "__main__":
    main()
