"""The report as JUnit XML: a suite per variant, a test case per measure. What was not run or not judged is skipped."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from junitparser import Error, Failure, JUnitXml, Skipped, TestCase, TestSuite

from verify.report.document import bound_text, place, prompted, value_text
from verify.report.sentence import NOT_THERE, sentence


def junit(report: Mapping[str, Any]) -> str:
    """The document, one line; counts of tests, failures and errors are in it. It holds no time."""
    document = JUnitXml(f"{report['name']}: {sentence(report)}")
    for candidate in report["candidates"]:
        suite = TestSuite(candidate["variant"])
        suite.add_property("file", candidate["file"])
        suite.add_property("sha256", candidate["sha256"])
        for result in report["results"]:
            if result["variant"] == candidate["variant"]:
                suite.add_testcases(_cases(result, result["check"]))
        for result in prompted(report):
            if result["variant"] == candidate["variant"]:
                suite.add_testcases(_cases(result, f"{result['check']} on your prompts"))
        document.add_testsuite(suite)
    absent = TestSuite("not judged")
    absent.add_testcases(
        [_skipped("variant", name, NOT_THERE) for name in report["not_judged"]]
        + [_skipped("check", entry["what"], entry["reason"]) for entry in report["not_run"]]
    )
    if report["not_judged"] or report["not_run"]:
        document.add_testsuite(absent)
    text: str = document.tostring().decode("utf-8")
    return text + "\n"


def _cases(result: Mapping[str, Any], check: str) -> list[TestCase]:
    kind = f"{result['variant']}.{check}"
    if result["failure"] is not None:
        return [_failed(f"{check} ({place(result)})", kind, Error(result["failure"], "not measured"))]
    cases = []
    for m in result["measures"]:
        name = f"{m['name']} ({place(result)})"
        if m["passed"]:
            case = TestCase(name, kind)
            case.system_out = f"{value_text(m)}, allowed {bound_text(m)}; {m['detail']}".removesuffix("; ")
        else:
            text = f"{m['name']} is {value_text(m)}, allowed {bound_text(m)}"
            case = _failed(name, kind, Failure(f"{text} ({m['detail']})" if m["detail"] else text, "out of bounds"))
        cases.append(case)
    return cases


def _failed(name: str, kind: str, why: Failure | Error) -> TestCase:
    case = TestCase(name, kind)
    case.result = [why]
    return case


def _skipped(kind: str, name: str, reason: str) -> TestCase:
    case = TestCase(name, kind)
    case.result = [Skipped(reason)]
    return case
