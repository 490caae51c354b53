"""The report in every form: each is a pure function of the document that verify/report/document.py makes."""

FILES = {"json": "report.json", "markdown": "report.md", "html": "report.html", "junit": "report.xml"}
