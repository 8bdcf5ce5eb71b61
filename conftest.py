"""What all tests share: the seed, and the rule for simulators that are not there."""

import os
import random
import shutil

import hypothesis
import pytest

# Shared machines stall: no deadline per example. A failure prints how to run it again.
hypothesis.settings.register_profile("house", deadline=None, print_blob=True)
hypothesis.settings.load_profile("house")


def pytest_addoption(parser):
    parser.addoption(
        "--seed",
        default=os.environ.get("LOGICPIM_SEED", "1"),
        help="seed of all random stimulus: a number, or 'random' (default: LOGICPIM_SEED or 1)",
    )


def pytest_configure(config):
    """Fix the seed once; workers and simulators inherit it through the environment."""
    if not hasattr(config, "workerinput"):
        seed = config.getoption("seed")
        seed = random.SystemRandom().getrandbits(31) if seed == "random" else int(seed)
        os.environ["LOGICPIM_SEED"] = os.environ["COCOTB_RANDOM_SEED"] = str(seed)


def pytest_report_header():
    return f"seed: {os.environ['LOGICPIM_SEED']} (--seed)"


def pytest_runtest_setup(item):
    if item.get_closest_marker("icarus") and not shutil.which("iverilog"):
        missing = "Icarus Verilog is missing: apt-get install iverilog"
        if os.environ.get("CI"):
            pytest.fail(missing, pytrace=False)
        pytest.skip(missing)


@pytest.fixture
def seed(request):
    """A seed of the test's own, the same in every run with the same --seed."""
    base = os.environ["LOGICPIM_SEED"]
    print(f"repeat with: pytest --seed {base} '{request.node.nodeid}'")
    return random.Random(f"{base} {request.node.nodeid}").getrandbits(32)
