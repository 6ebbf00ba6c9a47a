"""`python -m vidground`: the program, also where its script is not on the path."""

from importlib import import_module

if __name__ == "__main__":
    import_module("vidground.cli.main").main()
