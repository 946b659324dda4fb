"""The proof of overload.py on the real model, with ORTHRUS_FULL=1."""

import json
import os

import overload
import pytest
from go_tool import Missing, go_tool

MODEL = os.environ.get("ORTHRUS_TEST_MODEL")
QUEUE_S = 5  # what the automatic bound of the queue promises


@pytest.mark.skipif(os.environ.get("ORTHRUS_FULL") != "1", reason="ORTHRUS_FULL is not set")
@pytest.mark.skipif("san" in os.environ.get("ORTHRUS_BIN", ""), reason="measures a release build")
@pytest.mark.skipif(not MODEL, reason="ORTHRUS_TEST_MODEL is not set")
def test_ten_times_the_load(tmp_path):
    try:
        go_tool(overload.VEGETA)
    except Missing as reason:
        pytest.skip(str(reason))
    result = overload.rounded(overload.measure(tmp_path, MODEL))
    print(json.dumps(result))
    assert result["exit_status"] == 0 and result["failed"] == 0, result
    assert result["offered_rps"] > 0.9 * result["wanted_rps"], "the generator was too slow"
    assert result["accepted_p99_s"] < QUEUE_S, result
    assert result["recovery_s"] is not None and result["recovery_s"] < 2, result
    if not result["shared"]:
        assert result["goodput_of_peak"] >= 0.95, result
