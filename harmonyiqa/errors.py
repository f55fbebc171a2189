"""The one exception that means "the user can mend this"."""


class UserError(ValueError):
    """A wrong input, setting or file. The message shows the bad value, the rule and the way out.

    ``cli.py`` prints it as one line and exits with status 2.
    """
