"""Documents made from the program's help: the manual page (``scripts/man``) and the reference (``scripts/reference``)."""
