"""The command `workbook`, also as `python -m lib.workbook`."""


def main() -> int:
    """Run the command line."""
    from lib.workbook import cli  # not at the top: every kernel of a service imports this module again

    return cli.main()


if __name__ == "__main__":
    raise SystemExit(main())
