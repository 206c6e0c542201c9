"""When a trial may stop: rules that may look at the data more than once."""
