# SPDX-License-Identifier: BSD-2-Clause
"""The errors a user can cause: one line that names the cause and the cure."""


class LogicPimError(Exception):
    """Base of every error that is the input's fault; the command line prints it as one line."""


class ConfigError(LogicPimError):
    """A configuration that cannot be built, with the rule it breaks."""


class ModelError(LogicPimError):
    """A model folder that cannot be used."""


class CapacityError(LogicPimError):
    """Work that does not fit the memory or the buffers."""


class ToolError(LogicPimError):
    """A tool the work needs is missing or failed."""
