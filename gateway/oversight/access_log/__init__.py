"""The access log: what keys are used for, as events of the log itself."""
