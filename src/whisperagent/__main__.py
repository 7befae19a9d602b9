"""`python -m whisperagent` is `wa`."""

from whisperagent.cli import main

if __name__ == "__main__":
    main()
