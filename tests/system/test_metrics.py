# SPDX-License-Identifier: LGPL-2.1-or-later
"""ovlfinctl metrics of a real daemon: what is counted is what happened."""

import os

import prometheus_client.openmetrics.parser as openmetrics
import pytest

from ovltest.daemon import wait_for
from ovltest.fakedaemon import DONE, Fake, failure
from ovltest.tree import release


def metrics(daemon):
    families = openmetrics.text_string_to_metric_families(daemon.ctl("metrics").ok().out)
    return {(s.name, *(v for k, v in sorted(s.labels.items()) if k != "overlay")): s.value for f in families for s in f.samples}


@pytest.fixture
def source(scene):
    top = scene.source()
    release(os.path.join(top, "prog"))
    return top


def test_a_directory_is_finalized(overlay, daemon):
    daemon.ctl("finalize", "--dry-run", overlay / "prog").ok()
    assert metrics(daemon)["ovlfind_jobs_ended_total", "done"] == 0
    daemon.ctl("finalize", overlay / "prog").ok()
    m = metrics(daemon)
    assert m["ovlfind_jobs_ended_total", "done"] == 1
    assert m["ovlfind_directories", "finalized"] == m["ovlfind_directories_finalized_total",] > 1
    assert m["ovlfind_entries_total",] > 10 and m["ovlfind_job_seconds_total",] > 0
    assert m["ovlfind_overlay_state", "active"] == 1 and m["ovlfind_overlay_state", "refused"] == 0
    upper = os.statvfs(overlay.upper.upper)
    assert 0 < m["ovlfind_upper_free_bytes",] <= m["ovlfind_upper_size_bytes",] == upper.f_blocks * upper.f_frsize


def test_how_fast_the_lower_answers(overlay, lower, daemon):
    def answers(bound):
        return metrics(daemon)["ovlfind_lower_answer_seconds_bucket", bound]

    lower.delay(3000)
    daemon.ctl("finalize", overlay / "prog/lib").ok()
    n = metrics(daemon)["ovlfind_lower_answer_seconds_count",]
    assert n == answers("+Inf") >= 10 and answers("0.001") == 0 and answers("1.0") > 0
    assert metrics(daemon)["ovlfind_lower_answer_seconds_sum",] > n * 0.003


def test_swaps(scene):
    fake = Fake(scene)
    fake.play({"remount": [failure("Precondition", "cannot")]})
    assert fake.daemon.ctl("remount", "soft", "--method=swap").code == 1
    fake.play({"remount": [DONE]})
    fake.daemon.ctl("remount", "soft", "--method=reconfigure").ok()
    fake.daemon.ctl("remount", "soft", "--method=swap").ok()
    m = metrics(fake.daemon)
    assert [m["ovlfind_swaps_total", result] for result in ("done", "failed", "canceled")] == [1, 1, 0]


def test_what_went_wrong(scene):
    fake = Fake(scene)
    fake.play({"finalize": [["die-once", {"file": fake.file("died")}], DONE], "finalize:a/b": [["exit", {"status": 3}]],
               "unfinalize": [["wait-cancel", {}]]})
    assert fake.daemon.wait_job(fake.finalize())["State"] == "done"
    assert fake.daemon.wait_job(fake.finalize("a/b"))["State"] == "failed"
    fake.daemon.ctl("unfinalize", "--no-block", fake.overlay / "a").ok()
    wait_for(lambda: metrics(fake.daemon)["ovlfind_jobs", "running"] == 1, "the job to run")
    fake.daemon.ctl("cancel", 3).ok()
    wait_for(lambda: metrics(fake.daemon)["ovlfind_jobs_ended_total", "canceled"] == 1, "its end")
    m = metrics(fake.daemon)
    assert (m["ovlfind_workers_died_total",], m["ovlfind_jobs_ended_total", "failed"]) == (1, 1)
    assert m["ovlfind_jobs", "running"] == m["ovlfind_jobs", "queued"] == 0
