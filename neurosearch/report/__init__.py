"""Reports: tables in the forms that people read, all of one set of numbers."""
