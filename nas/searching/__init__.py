"""The search: stages and settings, the loop that asks and tells, what runs the trials, what is shown."""
