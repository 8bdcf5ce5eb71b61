# SPDX-License-Identifier: BSD-2-Clause
"""What is generated for the small configuration, once for all tests of a file."""

import pytest

from logicpim.rtl.generate.artefacts import artefacts
from logicpim.spec.presets import PRESETS


@pytest.fixture(scope="session")
def small():
    return artefacts(PRESETS["small"])
