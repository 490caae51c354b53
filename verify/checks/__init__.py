"""One file per check; the file name is the check's name in recipes and reports. See verify/check.py for the form."""
