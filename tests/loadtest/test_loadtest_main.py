"""The command line, end to end on the loopback."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from loopback import Answer, answer

from loadtest import __main__ as loadtest_main
from loadtest import probe, report_json
from loadtest.__main__ import main
from loadtest.client import Target
from loadtest.plan import Plan
from loadtest.run import Outcome, run_plan
from loadtest.slo import Evidence, Judgement, Objective, Verdict

pytestmark = pytest.mark.timeout(60)
GOOD = answer(b'{"items":[],"served_by":"model"}')


def run(target: Target, *flags: str, command: str = "run") -> int:
    base = [
        "--target",
        f"http://127.0.0.1:{target.port}",
        "--synthetic-items",
        "50",
        "--distinct",
        "20",
        "--warmup",
        "0.2",
    ]
    return main([command, *base, "--preopen", "4", *flags])


def test_a_run_leaves_a_report_and_says_pass(
    http_server: Callable[[Answer], Target], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One command gives a verdict, a JSON file and a page that needs no network."""
    target = http_server(lambda request: GOOD)
    data, page = tmp_path / "run.json", tmp_path / "run.html"

    code = run(
        target, "--rate", "600", "--duration", "1", "--slo", "p99=9s@500rps", "--slo", "ok=99%", "--json", str(data),
        "--html", str(page), "--title", "A <b> & c",
    )  # fmt: skip

    assert code == 0
    report = json.loads(data.read_text())
    assert report["schema"] == report_json.SCHEMA
    assert report["verdict"] == "PASS"
    assert report["result"]["status"] == {"200": report["result"]["offered"]}
    assert report["result"]["served_by"]["model"] == report["result"]["offered"]
    assert sum(report["result"]["timeline"]["offered"]) == report["result"]["offered"]
    assert "PASS" in capsys.readouterr().out
    text = page.read_text()
    assert "A &lt;b&gt; &amp; c" in text
    links = set(re.findall(r"https?://[^\s\"'<]+", text.replace(f"http://127.0.0.1:{target.port}", "")))
    assert links <= {"http://www.w3.org/2000/svg"}
    assert "<script" not in text
    assert "<link" not in text
    drawings = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    assert len(drawings) == 4
    for drawing in drawings:
        ElementTree.fromstring(drawing)  # well-formed
        assert "nan" not in drawing


def test_refusals_fail_an_objective(http_server: Callable[[Answer], Target], tmp_path: Path) -> None:
    """A server that says 429 to everyone in a millisecond has no good p99, and the refusals' own times are reported."""
    target, data = http_server(lambda request: answer(b"{}", 429)), tmp_path / "run.json"

    assert (
        run(target, "--rate", "600", "--duration", "1", "--slo", "p99=9s", "--quiet", "--json", str(data))
        == 1
    )

    report = json.loads(data.read_text())
    refused = report["result"]["classes"]["refused"]
    assert refused["count"] == report["result"]["offered"]
    assert refused["took_ms"]["p99"] is not None
    assert report["result"]["latency_ms"]["p50"] is None


def test_a_late_p99_is_shown_as_refused_everywhere(
    http_server: Callable[[Answer], Target],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without any objective too: on the terminal, on the page and in the data, with how late it was."""
    target, data, page = http_server(lambda request: GOOD), tmp_path / "run.json", tmp_path / "run.html"

    def late(plan: Plan, **more: Any) -> Outcome:
        outcome = run_plan(plan, **more)
        samples = outcome.samples
        ended_s = samples.due_s + 0.015
        return replace(outcome, samples=replace(samples, sent_s=samples.due_s + 0.01, ended_s=ended_s))

    monkeypatch.setattr(loadtest_main, "run_plan", late)
    run(target, "--rate", "100", "--duration", "0.5", "--json", str(data), "--html", str(page))

    said, result = capsys.readouterr().out, json.loads(data.read_text())["result"]
    assert result["latency_ms"]["p99"] is None
    assert result["latency_ms"]["p50"] == 15.0
    assert "10.00 ms late at p99" in result["p99_refused"]
    assert "p99 refused  p99.9" in said
    assert result["p99_refused"] in said
    text = page.read_text()
    assert "<b>refused</b><span>p99</span>" in text
    assert result["p99_refused"] in text
    assert main(["compare", str(data), str(data)]) == 0
    assert "10.00 ms late at p99" in capsys.readouterr().out


def test_too_few_requests_are_undecidable(http_server: Callable[[Answer], Target]) -> None:
    """A second at 50/s is no evidence about a p99."""
    target = http_server(lambda request: GOOD)

    assert (
        run(target, "--rate", "50", "--duration", "1", "--slo", "p99=9s", "--quiet")
        == report_json.EXIT_UNDECIDABLE
    )


def test_nobody_there_has_its_own_code(capsys: pytest.CaptureFixture[str]) -> None:
    """A script can tell a dead server from a slow one."""
    assert run(Target("http", "127.0.0.1", 1, "/"), "--quiet") == report_json.EXIT_UNREACHABLE
    assert "is the server running" in capsys.readouterr().err


def test_a_wrong_file_is_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No stack trace for a path that is not there."""
    assert main(["run", "--bodies", str(tmp_path / "none.jsonl")]) == report_json.EXIT_USAGE
    assert "none.jsonl" in capsys.readouterr().err


@pytest.mark.parametrize("shape", ["constant", "ramp", "burst", "steps", "closed", "replay"])
def test_every_shape_runs(http_server: Callable[[Answer], Target], tmp_path: Path, shape: str) -> None:
    """Each kind of load ends with all of its requests answered."""
    trace, data = tmp_path / "trace.txt", tmp_path / "run.json"
    trace.write_text("\n".join(str(number / 100) for number in range(30)))
    more = {
        "constant": ["--rate", "100"],
        "ramp": ["--rate", "10", "--to-rate", "200"],
        "burst": ["--rate", "20", "--to-rate", "200", "--burst-every", "0.3", "--burst-length", "0.1"],
        "steps": ["--steps", "0.3s@50,0.3s@100"],
        "closed": ["--concurrency", "4"],
        "replay": ["--trace", str(trace)],
    }[shape]
    target = http_server(lambda request: GOOD)

    code = run(target, "--arrivals", shape, "--duration", "0.6", "--quiet", "--json", str(data), *more)

    result = json.loads(data.read_text())["result"]
    assert code == 0
    assert result["offered"] > 10
    assert result["status"] == {"200": result["offered"]}


def test_several_generators_send_the_one_schedule(
    http_server: Callable[[Answer], Target], tmp_path: Path
) -> None:
    """Two processes together offer exactly what one would have."""
    target, one, two = http_server(lambda request: GOOD), tmp_path / "one.json", tmp_path / "two.json"
    flags = ("--rate", "200", "--duration", "1", "--seed", "5", "--quiet")

    assert run(target, *flags, "--json", str(one)) == 0
    assert run(target, *flags, "--processes", "2", "--json", str(two)) == 0

    first, second = (json.loads(path.read_text())["result"] for path in (one, two))
    assert first["offered"] == second["offered"]
    assert second["status"] == {"200": second["offered"]}
    assert first["timeline"]["offered"] == second["timeline"]["offered"]


def test_find_reports_a_rate_that_passed(
    http_server: Callable[[Answer], Target], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The search's answer passed its objective, and its probes are in the report."""
    target, data, page = http_server(lambda request: GOOD), tmp_path / "find.json", tmp_path / "find.html"

    code = run(
        target, "--slo", "ok=90%@7rps", "--start", "150", "--most", "300", "--duration", "0.5", "--settle", "0",
        "--json", str(data), "--html", str(page), command="find",
    )  # fmt: skip

    report = json.loads(data.read_text())
    assert code == 0
    assert report["highest_passed_rps"] == 300
    assert [one["rate_rps"] for one in report["probes"]] == [150, 300]
    assert "highest rate that passed: 300" in capsys.readouterr().out
    assert "Latency at each rate tried" in page.read_text()


def test_find_makes_a_probe_longer_that_decides_nothing(
    http_server: Callable[[Answer], Target], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Probes without a verdict send the search to probes twice as long at the same rate, not to lower rates."""
    target, data = http_server(lambda request: GOOD), tmp_path / "find.json"
    verdicts = iter((Verdict.UNDECIDABLE, Verdict.UNDECIDABLE, Verdict.PASS))
    planned: list[tuple[float, float]] = []

    def judged(objectives: tuple[Objective, ...], evidence: Evidence) -> tuple[Judgement, ...]:
        return tuple(Judgement(objective, next(verdicts), "as told", 0.0) for objective in objectives)

    def run_and_note(plan: Plan, **more: Any) -> Outcome:
        planned.append((plan.offered_rps, plan.duration_s))
        return run_plan(plan, **more)

    monkeypatch.setattr(probe, "judge_all", judged)
    monkeypatch.setattr(probe, "run_plan", run_and_note)

    code = run(
        target, "--slo", "p99=900ms", "--start", "100", "--most", "100", "--duration", "0.2", "--settle", "0",
        "--json", str(data), command="find",
    )  # fmt: skip

    report = json.loads(data.read_text())
    assert (code, report["highest_passed_rps"]) == (0, 100)
    assert planned == [(100, 0.2), (100, 0.4), (100, 0.8)]


def test_two_reports_are_compared(
    http_server: Callable[[Answer], Target], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The table holds both figures and their ratio, and warns when the loads were not the same."""
    target, first, second = http_server(lambda request: GOOD), tmp_path / "a.json", tmp_path / "b.json"
    run(target, "--rate", "100", "--duration", "0.5", "--quiet", "--json", str(first))
    run(target, "--rate", "200", "--duration", "0.5", "--quiet", "--json", str(second))

    assert main(["compare", str(first), str(second)]) == 0

    said = capsys.readouterr().out
    assert "p99, ms" in said
    assert "Not the same load: offered_rps differ" in said


def test_help_tells_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    """``--help`` is enough for a stranger."""
    with pytest.raises(SystemExit) as ended:
        main(["run", "--help"])

    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert "--slo" in said
    assert "exit codes" in said
