"""The parts of a call of a picker, from plain keywords."""

from tomostream.picking.how_many import how_many
from tomostream.picking.protocol import Execution, PickRequest, Source

_EXECUTION = ("memory", "libraries", "block", "halo", "workers", "map_blocks")


def asked(*, count=None, threshold=None, expected=None, **settings):
    """The request and the execution."""
    execution = Execution(**{key: settings.pop(key) for key in _EXECUTION if key in settings})
    return PickRequest(how_many=how_many(count=count, threshold=threshold, expected=expected, are_options=False), **settings), execution


def volume(scores):
    """An array as a source that is read by its boxes."""
    return Source(lambda box: scores[box.slices], scores.shape)
