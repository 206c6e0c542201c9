"""One suite of checks that every engine must pass, run by tests and by `task=conform`."""
