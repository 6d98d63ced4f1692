"""Files and saved parts."""
