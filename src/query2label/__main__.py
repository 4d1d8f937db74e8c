"""`python -m query2label` is `q2l`."""

from query2label.cli.app import main

if __name__ == "__main__":
    main()
